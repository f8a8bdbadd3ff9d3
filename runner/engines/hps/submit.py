"""Submit a script as jobs of an HPS project: one function per step, and `submit` for all steps.

    submission = Submission(script=Path("eval.py"), bundle="/shared/bundle",
                            values=plan_values([], None, jobs=10))
    with connect(server) as session:
        submitted = submit(session, submission)

The project is created inactive and activated when complete: no job of an interrupted submission
starts.
"""

from __future__ import annotations

import contextlib
import json
import mimetypes
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from ansys.hps.client.jms import (  # type: ignore[import-untyped]
    BoolParameterDefinition,
    File,
    FloatParameterDefinition,
    IntParameterDefinition,
    Job,
    JobDefinition,
    Project,
    ResourceRequirements,
    Software,
    StringParameterDefinition,
    SuccessCriteria,
    TaskDefinition,
)

from offline_bundle.runner.engines.hps.bundle_upload import ARCHIVE_NAME, UNPACKER_NAME
from offline_bundle.runner.engines.hps.connection.client_errors import (
    CLIENT_ERRORS,
    translate_error,
)
from offline_bundle.runner.engines.hps.connection.session import Session
from offline_bundle.runner.engines.hps.projects import find_project
from offline_bundle.runner.engines.hps.software import check_software
from offline_bundle.runner.engines.hps.stored_files import JOBS_PER_REQUEST
from offline_bundle.runner.job_files.inputs import InputFile
from offline_bundle.runner.job_files.names import JOB_RULES, NUMBER_PARAMETER
from offline_bundle.runner.model import ProjectState, job_name
from offline_bundle.runner.request import Request, check_request, check_resources

EXEC_SCRIPT = Path(__file__).parents[2] / "standalone" / "hps_exec_script.py"
"""The program that HPS runs on the node; it starts the bundle's launcher."""

RULES_PROGRAM = EXEC_SCRIPT.with_name("job_rules.py")
"""The program that applies the rules of all engines on the node."""

BUNDLE_VARIABLE = "OFFLINE_BUNDLE"
"""The variable that gives the execution script the bundle's path on the nodes."""

JOBS_VARIABLE = "OFFLINE_BUNDLE_JOBS"
RULES_VARIABLE = "OFFLINE_BUNDLE_RULES"

_PARAMETER_KINDS: dict[str, Callable[..., Any]] = {
    "int": IntParameterDefinition,
    "float": FloatParameterDefinition,
    "bool": BoolParameterDefinition,
    "string": StringParameterDefinition,
}


@dataclass(frozen=True, kw_only=True)
class Submission(Request):
    """A request with the options of HPS. Defaults are those of the public `python_uv` example."""

    archive: Path | None = None
    """The bundle as one file, uploaded with the project and unpacked once on each node.

    Then `bundle` is None. If both are None, the registration of uv on the nodes names the bundle.
    """
    exec_script: Path = EXEC_SCRIPT
    priority: int = 1
    """Lower goes first."""
    replace: bool = False
    """True to remove projects of the same name, with their files."""
    software: str = "uv"
    software_version: str | None = None
    cores: float = 0.5
    memory: int = 100 * 1024 * 1024
    disk: int = 10 * 1024 * 1024
    """In bytes."""
    max_execution_time: float = 500.0
    trials: int = 1
    """Number of attempts for a failing job."""


@dataclass(frozen=True)
class ProjectFiles:
    """Identifiers of the files of a project."""

    exec_script: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    planned: tuple[InputFile, ...]
    """The files that the request names."""


def submit(
    session: Session,
    submission: Submission,
    *,
    require_software: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> ProjectState:
    """Create the project with all its jobs and activate it; on any error remove it, and raise.

    *progress* gets the name of each step. Raises `BundleError`.
    """
    check_resources(submission, "hps", "gpus", "nodes", "tasks")
    inputs = check_request(submission)
    if require_software:
        check_software(session, submission.software, submission.software_version)
    with _translate_errors(session):
        progress("creating the project")
        project = create_project(session, submission)
        api = session.project(project.id)
        try:
            progress("uploading the files")
            files = upload_files(api, submission, inputs)
            definitions: dict[int, str] = {}
            for part, numbers in submission.by_resources():
                task_definition = define_task(api, part, files)
                job_definition = define_job(api, part, task_definition)
                definitions |= dict.fromkeys(numbers, job_definition)
            for done in create_jobs(api, submission, definitions):
                progress(f"creating the jobs: {done} of {len(submission.values.rows)}")
            activate(session, project)
        except BaseException:
            with contextlib.suppress(requests.RequestException):
                session.jms.delete_project(project)
            raise
    return find_project(session, project.id)


def create_project(session: Session, submission: Submission) -> Any:  # noqa: ANN401 - the client is not typed
    """Create the project, inactive; remove those of the same name if `replace`."""
    project = Project(name=submission.project_name, priority=submission.priority, active=False)
    return session.jms.create_project(project, replace=submission.replace)


def upload_files(
    api: Any,  # noqa: ANN401
    submission: Submission,
    files: tuple[InputFile, ...],
) -> ProjectFiles:
    """Upload the execution script and the *files* of jobs; name the outputs to collect."""
    exec_script = _input_file("exec_script", submission.exec_script, "text/x-python")
    script, *others = files
    inputs = [_input_file("script", script.source, "text/x-python")]
    inputs += [_input_file(file.path, file.source, path=file.path) for file in others]
    inputs.append(_input_file(JOB_RULES, RULES_PROGRAM, "text/x-python", JOB_RULES))
    if submission.archive:
        inputs += _archive_files(submission.archive)
    outputs = [
        File(name=name, evaluation_path=name, type=_media_type(name), collect=True, monitor=False)
        for name in _globs(submission)
    ]
    identifiers = [file.id for file in api.create_files([exec_script, *inputs, *outputs])]
    return ProjectFiles(
        exec_script=identifiers[0],
        inputs=tuple(identifiers[1 : 1 + len(inputs)]),
        outputs=tuple(identifiers[1 + len(inputs) :]),
        planned=files,
    )


def define_task(api: Any, submission: Submission, files: ProjectFiles) -> str:  # noqa: ANN401
    """Define what a job does; return the identifier of the definition."""
    environment = {
        **submission.variables,
        JOBS_VARIABLE: str(len(submission.values.rows)),
        RULES_VARIABLE: json.dumps(
            {
                "outputs": submission.wanted._asdict(),
                "inputs": [file.path for file in files.planned],
                "arguments": submission.arguments,
                "run_with": submission.run_with,
            }
        ),
    }
    if submission.bundle:
        environment[BUNDLE_VARIABLE] = submission.bundle
    software = {"name": submission.software}
    if submission.software_version:
        software["version"] = submission.software_version
    definition = TaskDefinition(
        name=submission.script.stem,
        software_requirements=[Software(**software)],
        resource_requirements=ResourceRequirements(
            num_cores=submission.cores, memory=submission.memory, disk_space=submission.disk
        ),
        execution_level=0,
        max_execution_time=submission.max_execution_time,
        num_trials=submission.trials,
        store_output=True,
        use_execution_script=True,
        execution_script_id=files.exec_script,
        execution_command="%executable% run --offline %file:script%",
        environment=environment,
        input_file_ids=list(files.inputs),
        output_file_ids=list(files.outputs),
        success_criteria=SuccessCriteria(
            return_code=0, require_all_output_files=submission.wanted.required
        ),
    )
    return str(api.create_task_definitions([definition])[0].id)


def define_job(api: Any, submission: Submission, task_definition: str) -> str:  # noqa: ANN401
    """Define the parameters of jobs; return the identifier of the definition."""
    parameters = [
        _PARAMETER_KINDS[kind](name=name, mode="input")
        for name, kind in submission.values.types.items()
    ]
    parameters += [
        FloatParameterDefinition(name=name, mode="output") for name in submission.output_values
    ]
    parameters.append(IntParameterDefinition(name=NUMBER_PARAMETER, mode="input"))
    definitions = api.create_parameter_definitions(parameters)
    definition = JobDefinition(
        name=submission.script.stem,
        active=True,
        task_definition_ids=[task_definition],
        parameter_definition_ids=[parameter.id for parameter in definitions],
    )
    return str(api.create_job_definitions([definition])[0].id)


def create_jobs(
    api: Any,  # noqa: ANN401
    submission: Submission,
    definitions: Mapping[int, str],
) -> Iterator[int]:
    """Create the jobs in batches; yield the number of created jobs after each batch.

    *definitions* has the identifier of the definition of each job, by its number.
    """
    rows = submission.values.rows
    for start in range(0, len(rows), JOBS_PER_REQUEST):
        batch = rows[start : start + JOBS_PER_REQUEST]
        jobs = [
            Job(
                name=job_name(number, len(rows)),
                eval_status="pending",
                job_definition_id=definitions[number],
                values={**values, NUMBER_PARAMETER: number},
            )
            for number, values in enumerate(batch, start + 1)
        ]
        api.create_jobs(jobs, as_objects=False)
        yield start + len(batch)


def activate(session: Session, project: Any) -> None:  # noqa: ANN401
    """Activate the project: its jobs may start."""
    project.active = True
    session.retry_until_available(lambda: session.jms.update_project(project))


@contextlib.contextmanager
def _translate_errors(session: Session) -> Iterator[None]:
    try:
        yield
    except CLIENT_ERRORS as error:
        fault = translate_error(error, session.server)
        hint = f"{fault.hint}; no jobs were started" if fault.hint else None
        raise type(fault)(fault.message, hint=hint) from error


def _archive_files(archive: Path) -> list[Any]:
    unpacker = archive.with_name(f"{archive.name}.unpack.py")
    return [
        _input_file("offline-bundle", archive, "application/x-tar", ARCHIVE_NAME),
        _input_file("offline-bundle-unpack", unpacker, "text/x-python", UNPACKER_NAME),
    ]


def _input_file(
    name: str, source: Path, media_type: str | None = None, path: str | None = None
) -> Any:  # noqa: ANN401
    """Return a file to upload; *path* is its path in the task's directory."""
    return File(
        name=name,
        evaluation_path=path or source.name,
        type=media_type or _media_type(source.name),
        src=str(source.absolute()),
    )


def _globs(submission: Submission) -> list[str]:
    """Return the patterns as HPS understands them: `plots/` is `plots/**/*`."""
    patterns = submission.wanted.patterns
    return [f"{name}**/*" if name.endswith("/") else name for name in patterns]


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
