"""The types of objects: collection name, class name upstream, fields with defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STATES = ("inactive", "pending", "prolog", "running", "evaluated", "failed", "aborted", "timeout")
"""Every evaluation status that the client can parse."""

_MODIFICATION = "id name creation_time modification_time created_by modified_by"


@dataclass(frozen=True)
class Kind:
    """One type of object."""

    class_name: str
    """Class name in the error messages of a real server."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Default values of a new object."""
    others: str = ""
    """Fields without a default, separated by blanks."""
    left_out: frozenset[str] = frozenset()
    """Fields that responses omit unless requested."""

    def has(self, name: str) -> bool:
        """Return whether objects of this type have the field *name*."""
        return name in self.defaults or name in self.others.split() or name in _MODIFICATION.split()


def _nothing(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split())


_LIMITS = (
    "type display_text mode units quantity_name default lower_limit"
    " upper_limit step cyclic value_list"
)
_MAPPING = (
    "line column key_string float_field width precision decimal_symbol"
    " digit_grouping_symbol string_quote true_string"
    " false_string parameter_definition_id task_definition_property file_id"
)

OBJECT_TYPES: dict[str, Kind] = {
    "projects": Kind("Project", {"name": None, "active": False, "priority": 1}, "statistics"),
    "files": Kind(
        "File",
        _nothing(
            "type storage_id size hash expiry_time format evaluation_path"
            " collect_interval reference_id"
        )
        | {"monitor": False, "collect": False, "access_mode": "transfer"},
    ),
    "parameter_definitions": Kind(
        "ParameterDefinition", {"mode": "input", "type": None, "default": None}, _LIMITS
    ),
    "parameter_mappings": Kind("ParameterMapping", _nothing(_MAPPING), "tokenizer"),
    "task_definitions": Kind(
        "TaskDefinition",
        _nothing(
            "execution_command execution_script_id worker_context resource_requirements"
            " success_criteria licensing"
            " working_directory"
        )
        | {"num_trials": 1, "store_output": True, "use_execution_script": False, "debug": False}
        | {"environment": {}}
        | {"execution_context": {}, "execution_level": 0, "software_requirements": []}
        | {"input_file_ids": [], "output_file_ids": []},
        "max_execution_time",
    ),
    "job_definitions": Kind(
        "JobDefinition",
        {"active": False, "client_hash": None, "fitness_definition": None}
        | {"parameter_definition_ids": [], "parameter_mapping_ids": [], "task_definition_ids": []},
    ),
    "jobs": Kind(
        "Job",
        _nothing("fitness creator note job_definition_id")
        | {"eval_status": "inactive", "priority": 0, "values": {}, "fitness_term_values": {}}
        | {"executed_level": -1, "elapsed_time": 0.0, "host_ids": [], "file_ids": []},
        left_out=frozenset({"values", "fitness_term_values", "host_ids", "file_ids"}),
    ),
    "tasks": Kind(
        "Task",
        _nothing(
            "job_id task_definition_id task_definition_snapshot pending_time"
            " prolog_time running_time finished_time"
            " elapsed_time executed_command host_id license_context_id custom_data"
            " working_directory"
        )
        | {
            "eval_status": "inactive",
            "trial_number": 0,
            "input_file_ids": [],
            "output_file_ids": [],
        }
        | {"monitored_file_ids": [], "inherited_file_ids": [], "owned_file_ids": []},
    ),
    "algorithms": Kind("Algorithm", {"description": None, "data": None, "job_ids": []}),
    "job_selections": Kind("JobSelection", {"algorithm_id": None, "object_ids": []}),
    "permissions": Kind("Permission", _nothing("permission_type value_id value_name role")),
    "license_contexts": Kind("LicenseContext", {"context_id": None, "environment": {}}),
    "task_command_definitions": Kind(
        "TaskCommandDefinition", _nothing("task_definition_id") | {"parameters": {}}
    ),
    "task_commands": Kind(
        "TaskCommand",
        _nothing("task_id command_definition_id running_time finished_time")
        | {"arguments": {}, "status": "queued"},
    ),
    "task_definition_templates": Kind(
        "TaskDefinitionTemplate",
        _nothing(
            "version description software_requirements resource_requirements"
            " worker_context execution_context"
            " environment execution_command use_execution_script execution_script_storage_id"
            " execution_script_storage_bucket input_files output_files"
        ),
    ),
    "operations": Kind(
        "Operation",
        {"finished": True, "succeeded": True, "progress": 1.0, "status": "done"}
        | {"messages": [], "target": []},
        "result start_time end_time",
    ),
}
