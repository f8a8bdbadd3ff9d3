"""HPS projects: job counts and failed jobs. A poll is one small request for any number of jobs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.console import console_tail
from offline_bundle.runner.engines.hps.downloads import download_files
from offline_bundle.runner.engines.hps.stored_files import find_files
from offline_bundle.runner.model import TAIL_LINES, Counts, Failure, ProjectState
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from offline_bundle.runner.engines.hps.connection.session import Session

_FAILED = ["failed", "timeout", "aborted"]
"""The states of HPS in which a job ended without success."""


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
            is_active=bool(entry.get("active")),
            counts=Counts.of_statistics(entry.get("statistics")),
        )
        for entry in entries
    ]


def find_failures(session: Session, project_id: str, limit: int) -> list[Failure]:
    """Return the first *limit* failed jobs with the end of their consoles."""
    jobs: list[dict[str, Any]] = session.retry_until_available(
        lambda: session.project(project_id).get_jobs(
            as_objects=False,
            eval_status=_FAILED,
            fields=["id", "name", "eval_status"],
            limit=limit,
            sort="name",
        )
    )
    tails = _console_tails(session, project_id, [str(job["id"]) for job in jobs]) if jobs else {}
    return [
        Failure(
            job=str(job["name"] or job["id"]),
            state=str(job["eval_status"]),
            tail=tails.get(str(job["id"]), ""),
        )
        for job in jobs
    ]


def _console_tails(session: Session, project_id: str, job_ids: list[str]) -> dict[str, str]:
    """Return the end of each job's console by the job's identifier."""
    files = find_files(session, project_id, job_ids)
    with tempfile.TemporaryDirectory(prefix="hps-consoles-") as folder:
        consoles = {
            job_id: (file, Path(folder) / str(number))  # identifiers are the server's: not a path
            for number, job_id in enumerate(job_ids)
            for file in files[job_id]
            if file.is_console
        }
        download_files(session, project_id, list(consoles.values()))
        return {job: console_tail(path, TAIL_LINES) for job, (_, path) in consoles.items()}
