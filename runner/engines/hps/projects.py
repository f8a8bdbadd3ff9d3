"""HPS projects: how far their jobs are, and which failed. One small request a look, however many jobs there are."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.console import console_tail
from offline_bundle.runner.engines.hps.downloads import fetch, find_files
from offline_bundle.runner.model import TAIL_LINES, Counts, Failure, ProjectState
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from offline_bundle.runner.engines.hps.session import Session

_FAILED = ["failed", "timeout", "aborted"]
"""The states of HPS in which a job has ended without success."""


def find_project(session: Session, name_or_id: str) -> ProjectState:
    """Find a project by its identifier, or the newest by its name. Raises `InputError` where there is none."""
    for filters in ({"id": name_or_id}, {"name": name_or_id, "sort": "-creation_time", "limit": 1}):
        found = list_projects(session, **filters)
        if found:
            return found[0]
    raise InputError(
        f"{session.server.url} has no project {name_or_id} that {session.server.username} may see",
        hint="`offline-bundle jobs` without a project lists those there are",
    )


def list_projects(session: Session, **filters: Any) -> list[ProjectState]:  # noqa: ANN401 - as the client has it
    """List projects with their counts; *filters* are those of the HPS interface."""
    answer = session.retry_until_available(
        lambda: session.jms.get_projects(as_objects=False, statistics=True, **filters)
    )
    return [
        ProjectState(
            project_id=str(project["id"]),
            name=str(project.get("name") or ""),
            is_active=bool(project.get("active")),
            counts=Counts.of_statistics(project.get("statistics")),
        )
        for project in answer
    ]


def find_failures(session: Session, project_id: str, limit: int) -> list[Failure]:
    """Tell of the first *limit* failed jobs, with the ends of their console output."""
    api = session.project  # asked anew for every request: the session may have been renewed
    jobs: list[dict[str, Any]] = session.retry_until_available(
        lambda: api(project_id).get_jobs(
            as_objects=False,
            eval_status=_FAILED,
            fields=["id", "name", "eval_status"],
            limit=limit,
            sort="name",
        )
    )
    if not jobs:
        return []
    files = find_files(session, project_id, [str(job["id"]) for job in jobs])
    with tempfile.TemporaryDirectory(prefix="hps-consoles-") as folder:
        consoles = {
            job: (file, Path(folder) / job)
            for job, listed in files.items()
            for file in listed
            if file.is_console
        }
        fetch(session, project_id, list(consoles.values()))
        return [
            Failure(
                job=str(job["name"] or job["id"]),
                state=str(job["eval_status"]),
                tail=console_tail(consoles[str(job["id"])][1], TAIL_LINES)
                if str(job["id"]) in consoles
                else "",
            )
            for job in jobs
        ]
