"""HPS projects: job counts and failed jobs. A poll is one small request for any number of jobs."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansys.hps.client.jms import Project  # type: ignore[import-untyped]

from offline_bundle.runner.engines.hps.connection.session import Session
from offline_bundle.runner.engines.hps.downloads import download_files
from offline_bundle.runner.engines.hps.stored_files import (
    JOBS_PER_REQUEST,
    JobRun,
    batches,
    find_files,
    find_runs,
    find_tasks,
)
from offline_bundle.runner.model import TAIL_LINES, Counts, Failure, ProjectState
from offline_bundle.runner.results.console import console_tail
from offline_bundle.wheelhouse.runtime.errors import InputError

_UNDER_WAY = ["pending", "prolog", "running"]
_FAILED = ["failed", "timeout", "aborted"]
"""The states of HPS in which a job ended without success."""

_COMMON_STATES = {"prolog": "running", "evaluated": "done", "aborted": "cancelled"}
"""State of HPS → that of all engines; the other states have the same names."""


def find_project(session: Session, name_or_id: str) -> ProjectState:
    """Find a project by its identifier, or the newest by its name. Raises `InputError`."""
    for filters in ({"id": name_or_id}, {"name": name_or_id, "sort": "-creation_time", "limit": 1}):
        projects = list_projects(session, **filters)
        if projects:
            return projects[0]
    raise InputError(
        f"{session.server.url} has no project {name_or_id} that {session.server.username} may see",
        hint="list the projects with `offline-bundle jobs`",
    )


def list_projects(session: Session, **filters: Any) -> list[ProjectState]:  # noqa: ANN401 - as the client has it
    """List projects with their counts; *filters* are those of the HPS interface."""
    entries = session.retry_until_available(
        lambda: session.jms.get_projects(as_objects=False, statistics=True, **filters)
    )
    return [
        ProjectState(
            project_id=str(entry["id"]),
            name=str(entry.get("name") or ""),
            counts=count_states(entry.get("statistics")),
        )
        for entry in entries
    ]


def common_state(state: object) -> str:
    """Return the state of all engines for one of HPS; states of newer servers stay."""
    return _COMMON_STATES.get(str(state), str(state))


def count_states(statistics: object) -> Counts:
    """Read the statistics of a project."""
    states = statistics.get("eval_status") if isinstance(statistics, Mapping) else None
    counts: Counter[str] = Counter()
    for state, number in (states or {}).items():
        counts[common_state(state)] += int(number)
    return Counts.of(counts)


def cancel_jobs(session: Session, project_id: str) -> None:
    """Abort the jobs that have not ended."""
    _set_states(session, project_id, _UNDER_WAY, "aborted", lambda _name, _state: True)


def retry_jobs(session: Session, project_id: str, is_chosen: Callable[[str, str], bool]) -> int:
    """Make failed jobs pending again; return their number."""
    return _set_states(session, project_id, _FAILED, "pending", is_chosen)


def delete_project(session: Session, project_id: str) -> None:
    """Remove a project with its files."""
    session.retry_until_available(lambda: session.jms.delete_project(Project(id=project_id)))


def _set_states(
    session: Session,
    project_id: str,
    states: Sequence[str],
    new: str,
    is_chosen: Callable[[str, str], bool],
) -> int:
    """Set the state of the chosen jobs that are in any of *states*; return their number."""
    fields = ["id", "name", "eval_status"]
    jobs: list[Any] = session.retry_until_available(
        lambda: session.project(project_id).get_jobs(eval_status=list(states), fields=fields)
    )
    chosen = [
        job for job in jobs if is_chosen(str(job.name or job.id), common_state(job.eval_status))
    ]
    for batch in batches(chosen, JOBS_PER_REQUEST):
        for job in batch:
            job.eval_status = new
        session.retry_until_available(
            lambda batch=batch: session.project(project_id).update_jobs(batch, as_objects=False)  # type: ignore[misc]
        )
    return len(chosen)


def find_failures(session: Session, project_id: str, limit: int) -> list[Failure]:
    """Return the first *limit* failed jobs with the end of their consoles."""
    jobs: list[dict[str, Any]] = session.retry_until_available(
        lambda: session.project(project_id).get_jobs(
            as_objects=False,
            eval_status=_FAILED,
            fields=["id", "name", "eval_status", "elapsed_time"],
            limit=limit,
            sort="name",
        )
    )
    if not jobs:
        return []
    ids = [str(job["id"]) for job in jobs]
    tasks = find_tasks(session, project_id, ids)
    tails = _console_tails(session, project_id, ids, tasks)
    runs = find_runs(session, tasks)
    return [
        Failure(
            job=str(job["name"] or job_id),
            state=common_state(job["eval_status"]),
            tail=tails.get(job_id, ""),
            seconds=job.get("elapsed_time"),
            **runs.get(job_id, JobRun())._asdict(),
        )
        for job_id, job in zip(ids, jobs, strict=True)
    ]


def _console_tails(
    session: Session, project_id: str, job_ids: list[str], tasks: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Return the end of each job's console by the job's identifier."""
    files = find_files(session, project_id, job_ids, tasks)
    with tempfile.TemporaryDirectory(prefix="hps-consoles-") as folder:
        consoles = {
            job_id: (file, Path(folder) / str(number))  # identifiers are the server's: not a path
            for number, job_id in enumerate(job_ids)
            for file in files[job_id]
            if file.is_console
        }
        download_files(session, project_id, list(consoles.values()))
        return {job: console_tail(path, TAIL_LINES) for job, (_, path) in consoles.items()}
