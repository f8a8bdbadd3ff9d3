"""How far the jobs of a project are: one small request a look, however many jobs there are.

with connect(server) as session:
counts = watch(session, project_id, lambda counts: print(counts.finished, "of", counts.total))
failures = find_failures(session, project_id)
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.console import tail_of
from runner.transfer import fetch, find_files
from wheelhouse.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.server import Session

UNDER_WAY = ("pending", "prolog", "running")
FAILED = ("failed", "timeout", "aborted")
STATES = (*UNDER_WAY, "evaluated", *FAILED, "inactive")
"""The states of a job, in HPS's own words; `evaluated` is success."""

SHOWN_FAILURES = 10
TAIL_LINES = 20
"""So much of a failed job's console is shown."""
_SHORTEST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0
_STANDSTILL_SECONDS = 60.0


@dataclass(frozen=True)
class Counts:
    """How many jobs are in each state."""

    by_state: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_statistics(cls, statistics: object) -> Counts:
        """Read a project's statistics; a state that is not known here is kept."""
        found = statistics.get("eval_status") if isinstance(statistics, Mapping) else None
        states = {str(state): int(number) for state, number in (found or {}).items() if number}
        order = {state: place for place, state in enumerate(STATES)}
        return cls(dict(sorted(states.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))))

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(self.by_state.values())

    @property
    def under_way(self) -> int:
        """Jobs that wait or run."""
        return self.count(*UNDER_WAY)

    @property
    def finished(self) -> int:
        """Jobs that have ended, or that nobody has set going."""
        return self.total - self.under_way

    @property
    def failed(self) -> int:
        """Jobs that have ended without success."""
        return self.count(*FAILED)

    def count(self, *states: str) -> int:
        """Jobs in any of these states."""
        return sum(self.by_state.get(state, 0) for state in states)

    def describe(self) -> str:
        """Say it in a line: `3 running, 7 evaluated`."""
        return ", ".join(f"{number:,} {state}" for state, number in self.by_state.items()) or "no jobs"


@dataclass(frozen=True)
class ProjectState:
    """A project as it stands."""

    project_id: str
    name: str
    is_active: bool
    counts: Counts


@dataclass(frozen=True)
class Failure:
    """A job that failed, and what it said last."""

    job: str
    state: str
    tail: str
    """The end of its console output; empty where there is none."""


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
    answer = session.ride_out(lambda: session.jms.get_projects(as_objects=False, statistics=True, **filters))
    return [
        ProjectState(
            project_id=str(project["id"]),
            name=str(project.get("name") or ""),
            is_active=bool(project.get("active")),
            counts=Counts.of_statistics(project.get("statistics")),
        )
        for project in answer
    ]


def watch(
    session: Session,
    project_id: str,
    show: Callable[[Counts], None] = lambda _: None,
    *,
    notice: Callable[[str], None] = lambda _: None,
) -> Counts:
    """Wait until no job is under way; *show* gets every look, *notice* a standstill, once.

    Looks are half a second apart at first and five at most. Raises `BundleError` where the server stays away or the
    project goes.
    """
    begin = time.monotonic()
    pause = _SHORTEST_PAUSE_SECONDS
    is_noticed = False
    while True:
        projects = list_projects(session, id=project_id)
        if not projects:
            raise BundleError(f"the project {project_id} is gone: somebody deleted or replaced it")
        counts = projects[0].counts
        show(counts)
        if counts.under_way == 0:
            return counts
        is_waiting = counts.by_state.get("pending") == counts.total
        if is_waiting and not is_noticed and time.monotonic() - begin > _STANDSTILL_SECONDS:
            notice("no job has been started yet: evaluators may be busy, starting, or lack the software or resources")
            is_noticed = True
        time.sleep(pause)
        pause = min(pause * 1.2, _LONGEST_PAUSE_SECONDS)


def find_failures(session: Session, project_id: str, limit: int = SHOWN_FAILURES) -> list[Failure]:
    """Tell of the first *limit* failed jobs, with the ends of their console output."""
    api = session.project  # asked anew for every request: the session may have been renewed
    jobs: list[dict[str, Any]] = session.ride_out(
        lambda: api(project_id).get_jobs(
            as_objects=False, eval_status=list(FAILED), fields=["id", "name", "eval_status"], limit=limit, sort="name"
        )
    )
    if not jobs:
        return []
    files = find_files(session, project_id, [str(job["id"]) for job in jobs])
    with tempfile.TemporaryDirectory(prefix="hps-consoles-") as folder:
        consoles = {
            job: (file, Path(folder) / job) for job, listed in files.items() for file in listed if file.is_console
        }
        fetch(session, project_id, list(consoles.values()))
        return [
            Failure(
                job=str(job["name"] or job["id"]),
                state=str(job["eval_status"]),
                tail=tail_of(consoles[str(job["id"])][1], TAIL_LINES) if str(job["id"]) in consoles else "",
            )
            for job in jobs
        ]
