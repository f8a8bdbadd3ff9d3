"""A script as jobs of an HPS project: one function per step, plain data in, and `submit` that takes all the steps.

    submission = Submission(script=Path("eval.py"), bundle="/shared/uvcache", values=plan_values([], None, jobs=10))
    with connect(server) as session:
        submitted = submit(session, submission)

The project is made inactive and set going when it is complete: no job starts of a submission that was cut short.
"""

from __future__ import annotations

import contextlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from ansys.hps.client.rms import RmsApi  # type: ignore[import-untyped]

from offline_bundle.runner.engines.hps.bundle_upload import (
    ARCHIVE_NAME,
    UNPACKER_NAME,
)
from offline_bundle.runner.engines.hps.session import explain
from offline_bundle.runner.model import job_name
from offline_bundle.runner.request import Request, check_request
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from offline_bundle.runner.engines.hps.session import Session

EXEC_SCRIPT = Path(__file__).parents[2] / "standalone" / "hps_exec_script.py"
"""What HPS runs on the node: it starts the bundle's launcher."""

BUNDLE_VARIABLE = "OFFLINE_BUNDLE"
"""Tells the execution script where the bundle is, as the nodes see it."""

JOBS_PER_REQUEST = 1000
_EVALUATORS_ASKED = 20
"""Each is a request; a site with more of them is believed to offer what is asked for."""

_Offer = set[tuple[str, str | None]]
"""Names and versions of software."""

_PARAMETER_KINDS: dict[str, Callable[..., Any]] = {
    "int": IntParameterDefinition,
    "float": FloatParameterDefinition,
    "bool": BoolParameterDefinition,
    "string": StringParameterDefinition,
}


@dataclass(frozen=True, kw_only=True)
class Submission(Request):
    """A request with what HPS can be told besides. The defaults are those of the public `python_uv` example."""

    archive: Path | None = None
    """The bundle as one file, uploaded with the project and unpacked once on each node: then `bundle` is None.

    Where both are None, the nodes' registration of uv says where the bundle is.
    """
    exec_script: Path = EXEC_SCRIPT
    priority: int = 1
    """Lower goes first."""
    replaces: bool = False
    """Whether projects of the same name are removed, with their files."""
    software: str = "uv"
    software_version: str | None = None
    cores: float = 0.5
    memory: int = 100 * 1024 * 1024
    disk: int = 10 * 1024 * 1024
    """In bytes."""
    max_execution_time: float = 500.0
    trials: int = 1
    """How often a failing job is tried."""


@dataclass(frozen=True)
class Submitted:
    """A project that is under way."""

    project_id: str
    name: str
    jobs: int


@dataclass(frozen=True)
class ProjectFiles:
    """Identifiers of the files of a project."""

    exec_script: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def submit(
    session: Session,
    submission: Submission,
    *,
    checks_software: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Submitted:
    """Make the project with all its jobs and set it going; on any fault remove what there is of it, and raise.

    *progress* is told what is being done. Raises `BundleError`.
    """
    check_request(submission)
    if checks_software:
        check_software(session, submission.software, submission.software_version)
    with _explained(session):
        progress("creating the project")
        project = create_project(session, submission)
        api = session.project(project.id)
        try:
            progress("uploading the files")
            files = upload_files(api, submission)
            task_definition = define_task(api, submission, files)
            job_definition = define_job(api, submission, task_definition)
            for done in create_jobs(api, submission, job_definition):
                progress(f"creating the jobs: {done} of {len(submission.values.rows)}")
            activate(session, project)
        except BaseException:
            with contextlib.suppress(requests.RequestException):
                session.jms.delete_project(project)
            raise
    return Submitted(project.id, project.name, len(submission.values.rows))


def check_software(session: Session, name: str, version: str | None) -> None:
    """Refuse a software that no evaluator offers: its jobs would wait for ever.

    A server that does not say what its evaluators offer is believed to have it.
    """
    offered = session.retry_until_available(lambda: _offered_software(session, name, version))
    if offered and not _fits(offered, name, version):
        asked = f"{name} {version}" if version else name
        there = ", ".join(
            sorted({f"{found} {release or ''}".strip() for found, release in offered})
        )
        raise InputError(
            f"no evaluator of {session.server.url} offers the software {asked}; there is {there}",
            hint="name one with --software and --software-version, or have it registered; "
            "--skip-software-check submits all the same",
        )


def create_project(session: Session, submission: Submission) -> Any:  # noqa: ANN401 - the client is not typed
    """Make the project, inactive, in place of those of the same name if that was asked for."""
    project = Project(name=submission.project_name, priority=submission.priority, active=False)
    return session.jms.create_project(project, replace=submission.replaces)


def upload_files(api: Any, submission: Submission) -> ProjectFiles:  # noqa: ANN401
    """Upload script, execution script and further inputs, and name the outputs to collect."""
    inputs = [_input_file("script", submission.script, "text/x-python")]
    inputs += [_input_file(path.name, path) for path in submission.inputs]
    if submission.archive:
        inputs.append(
            _input_file("offline-bundle", submission.archive, "application/x-tar", ARCHIVE_NAME)
        )
        inputs.append(
            _input_file(
                "offline-bundle-unpack",
                submission.archive.with_name(f"{submission.archive.name}.unpack.py"),
                "text/x-python",
                UNPACKER_NAME,
            )
        )
    outputs = [
        File(name=name, evaluation_path=name, type=_media_type(name), collect=True, monitor=False)
        for name in submission.outputs
    ]
    files = api.create_files(
        [_input_file("exec_script", submission.exec_script, "text/x-python"), *inputs, *outputs]
    )
    identifiers = [file.id for file in files]
    return ProjectFiles(
        exec_script=identifiers[0],
        inputs=tuple(identifiers[1 : 1 + len(inputs)]),
        outputs=tuple(identifiers[1 + len(inputs) :]),
    )


def define_task(api: Any, submission: Submission, files: ProjectFiles) -> str:  # noqa: ANN401
    """Define what a job does; return the definition's identifier."""
    environment = dict(submission.environment)
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
            return_code=0, require_all_output_files=bool(files.outputs)
        ),
    )
    return str(api.create_task_definitions([definition])[0].id)


def define_job(api: Any, submission: Submission, task_definition: str) -> str:  # noqa: ANN401
    """Define what jobs differ in; return the definition's identifier."""
    parameters = [
        _PARAMETER_KINDS[kind](name=name, mode="input")
        for name, kind in submission.values.types.items()
    ]
    parameters += [
        FloatParameterDefinition(name=name, mode="output") for name in submission.output_values
    ]
    definitions = api.create_parameter_definitions(parameters) if parameters else []
    definition = JobDefinition(
        name=submission.script.stem,
        active=True,
        task_definition_ids=[task_definition],
        parameter_definition_ids=[parameter.id for parameter in definitions],
    )
    return str(api.create_job_definitions([definition])[0].id)


def create_jobs(api: Any, submission: Submission, job_definition: str) -> Iterator[int]:  # noqa: ANN401
    """Create the jobs in batches; yield after each batch how many there are."""
    rows = submission.values.rows
    for start in range(0, len(rows), JOBS_PER_REQUEST):
        batch = rows[start : start + JOBS_PER_REQUEST]
        jobs = [
            Job(
                name=job_name(number, len(rows)),
                eval_status="pending",
                job_definition_id=job_definition,
                **({"values": dict(values)} if values else {}),
            )
            for number, values in enumerate(batch, start + 1)
        ]
        api.create_jobs(jobs, as_objects=False)
        yield start + len(batch)


def activate(session: Session, project: Any) -> None:  # noqa: ANN401
    """Set the project going."""
    project.active = True
    session.retry_until_available(lambda: session.jms.update_project(project))


@contextlib.contextmanager
def _explained(session: Session) -> Iterator[None]:
    """Put the client's errors in our words."""
    try:
        yield
    except requests.RequestException as error:
        fault = explain(error, session.server)
        hint = f"{fault.hint}; nothing was left running" if fault.hint else None
        raise type(fault)(fault.message, hint=hint) from error


def _input_file(
    name: str, path: Path, media_type: str | None = None, evaluation_path: str | None = None
) -> Any:  # noqa: ANN401
    return File(
        name=name,
        evaluation_path=evaluation_path or path.name,
        type=media_type or _media_type(path.name),
        src=str(path.absolute()),
    )


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _offered_software(session: Session, name: str, version: str | None) -> _Offer:
    """Ask what is offered, until the software is found; empty where the server does not say, or not all of it."""
    api = RmsApi(session.client)
    try:
        offered = _applications(
            api.get_compute_resource_sets(as_objects=False, limit=100), "available_applications"
        )
        evaluators = api.get_evaluators(
            as_objects=False, limit=_EVALUATORS_ASKED + 1, fields=["id"]
        )
        for evaluator in evaluators[:_EVALUATORS_ASKED]:
            if _fits(offered, name, version):
                return offered
            offered |= _applications(
                [api.get_evaluator_configuration(evaluator["id"], as_object=False)], "applications"
            )
    except requests.RequestException as error:
        if getattr(error, "response", None) is not None:  # not for this user to see, or not there
            return set()
        raise
    return offered if len(evaluators) <= _EVALUATORS_ASKED else set()


def _applications(resources: Sequence[Any], key: str) -> _Offer:
    listed = [entry for resource in resources for entry in (resource or {}).get(key) or ()]
    return {(str(entry.get("name")), entry.get("version")) for entry in listed}


def _fits(offered: _Offer, name: str, version: str | None) -> bool:
    return any(found == name and version in {None, release} for found, release in offered)
