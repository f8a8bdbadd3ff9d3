"""The parameters of a job: written into input files and read from output files by mappings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from offline_bundle.runner.hps_server.evaluation.mappings import MappingError, fill, read
from offline_bundle.runner.hps_server.store.database import Body, Store


class JobParameters:
    """The parameter definitions and mappings of a job's definition."""

    def __init__(self, store: Store, job: Body) -> None:
        self._store = store
        self._values: dict[str, Any] = job["values"] or {}
        definitions = store.get("job_definitions", [job["job_definition_id"] or ""])
        definition = definitions[0] if definitions else {}
        wanted = definition.get("parameter_definition_ids") or []
        self._parameters = {body["id"]: body for body in store.get("parameter_definitions", wanted)}
        self._mappings = store.get(
            "parameter_mappings", definition.get("parameter_mapping_ids") or []
        )

    @property
    def outputs(self) -> list[Body]:
        """The definitions of parameters that tasks provide."""
        return [body for body in self._parameters.values() if body["mode"] == "output"]

    def fill_inputs(self, files: Mapping[str, Path]) -> None:
        """Write the job's values into input files, given by their ids. Raises OSError."""
        for mapping, parameter, path in self._mapped(files):
            value = self._values.get(parameter["name"], parameter["default"])
            if value is not None:
                try:
                    text = fill(path.read_text(encoding="utf-8"), mapping, value)
                except (MappingError, UnicodeDecodeError) as error:
                    raise OSError(f"{path.name}: parameter {parameter['name']}: {error}") from None
                path.write_text(text, encoding="utf-8")

    def read_outputs(self, files: Mapping[str, Path]) -> tuple[dict[str, Any], list[str]]:
        """Return the values in output files, given by their ids, and what could not be read."""
        values: dict[str, Any] = {}
        problems = []
        for mapping, parameter, path in self._mapped(files):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
                values[parameter["name"]] = read(text, mapping, parameter["type"])
            except MappingError as error:
                problems.append(f"{path.name}: parameter {parameter['name']}: {error}")
        return values, problems

    def mark_outputs(self, names: Iterable[str]) -> None:
        """Make these parameters outputs: clients before 0.11 cannot set the mode."""
        added = set(names) - self._values.keys()
        self._store.save(
            body | {"mode": "output"}
            for body in self._parameters.values()
            if body["name"] in added and body["mode"] != "output"
        )

    def _mapped(self, files: Mapping[str, Path]) -> Iterator[tuple[Body, Body, Path]]:
        """Yield mapping, parameter and file of each mapping to any of *files*."""
        for mapping in self._mappings:
            parameter = self._parameters.get(mapping["parameter_definition_id"])
            path = files.get(mapping["file_id"])
            if parameter and path:
                yield mapping, parameter, path
