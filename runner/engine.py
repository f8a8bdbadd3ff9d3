"""What jobs can be run by, an *engine*, and the plain data that goes in and comes out of every one of them.

    with open_engine("slurm", options, notice) as engine:
        project = engine.submit(request)                                    # runner/request.py
        outcome = follow(engine, project, directory=Path("results"))        # runner/follow.py

An engine is one module in `runner/engines/`, and a line in `ENGINES` makes it known. The module has

    OPTIONS, JOBS_OPTIONS               its own options of `submit`, and of `jobs`, as click decorators
    check_usage(options, …)             refuses those that do not go together
    needs_directory(options)            whether results have no other place than a folder here: then its path is the
                                        project's identifier, unless it is for this command alone
    open_engine(options, notice)        a context manager that gives an `Engine`

What all engines have in common is elsewhere and there once: values (`runner/values.py`), waiting and failures
(`runner/follow.py`), what is shown (`runner/display.py`), results and their page (`runner/folder.py`,
`runner/results_page.py`), and the commands (`runner/submit_cli.py`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import ModuleType

    from offline_bundle.runner.request import Request
    from offline_bundle.runner.results.page.page import JobEntry

ENGINES: Mapping[str, str] = {
    "hps": "offline_bundle.runner.engines.hps.engine",
    "slurm": "offline_bundle.runner.engines.slurm.engine",
    "local": "offline_bundle.runner.engines.local.engine",
}
"""Name → module; the first is the default. A further engine is one more file, and one more line here."""

UNDER_WAY = ("pending", "prolog", "running")
SUCCEEDED = ("evaluated", "done")
FAILED = ("failed", "timeout", "out of memory", "node failed", "cancelled", "aborted", "lost")
STATES = (*UNDER_WAY, *SUCCEEDED, *FAILED, "inactive")
"""The states of a job. HPS's are in its own words, `evaluated` for success; the others say `done`."""

TAIL_LINES = 20
"""So much of a failed job's console is shown."""


@dataclass(frozen=True)
class Counts:
    """How many jobs are in each state."""

    by_state: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, states: Mapping[str, int]) -> Counts:
        """Put the states in their order; a state that is not known here is kept."""
        order = {state: place for place, state in enumerate(STATES)}
        known = sorted(states.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
        return cls({state: number for state, number in known if number})

    @classmethod
    def of_statistics(cls, statistics: object) -> Counts:
        """Read the statistics of an HPS project."""
        found = statistics.get("eval_status") if isinstance(statistics, Mapping) else None
        return cls.of({str(state): int(number) for state, number in (found or {}).items()})

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
        return (
            ", ".join(f"{number:,} {state}" for state, number in self.by_state.items()) or "no jobs"
        )


@dataclass(frozen=True)
class ProjectState:
    """The jobs of one submission, as they stand."""

    project_id: str
    """By which the engine finds them again."""
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


@dataclass(frozen=True)
class Results:
    """What the jobs left, on this disk."""

    directory: Path
    page: Path
    jobs: tuple[JobEntry, ...]
    files: int
    size: int
    """In bytes."""


class Engine(Protocol):
    """Runs jobs. Every method raises `BundleError` where it cannot do what it says."""

    def submit(
        self, request: Request, directory: Path | None = ..., progress: Callable[[str], None] = ...
    ) -> ProjectState:
        """Set the jobs going, all or none of them; *progress* is told what is being done.

        *directory* is where the results shall be, for engines whose jobs work there (`needs_directory`).
        """

    def find(self, name_or_id: str) -> ProjectState:
        """Find what was submitted before. Raises `InputError` where there is none."""

    def recent(self) -> list[ProjectState]:
        """List what was submitted before, the newest first."""

    def look(self, project: ProjectState) -> Counts:
        """Count the jobs by state, at a cost that does not grow with their number."""

    def standstill(self, project: ProjectState) -> str:
        """Say why no job may have started yet."""

    def results(
        self, project: ProjectState, directory: Path, progress: Callable[[int, int], None] = ...
    ) -> Results:
        """Have what the jobs left in *directory*, with the page; *progress* is told the bytes there, and all."""

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Tell of the first *limit* jobs that failed."""

    def way_back(self, project: ProjectState, directory: Path | None) -> list[str]:
        """Return the words of the command that takes the project up again; none of them secret."""

    def interrupted(self, project: ProjectState) -> str | None:
        """Do at Ctrl-C what was asked for; say what became of the jobs, None where they go on."""


def engine_module(name: str) -> ModuleType:
    """Load an engine's module by its name in `ENGINES`: until then nothing of it is imported."""
    return importlib.import_module(ENGINES[name])


def open_engine(
    name: str, options: Mapping[str, Any], notice: Callable[[str], None] = lambda _: None
) -> AbstractContextManager[Engine]:
    """Open the engine of this name; *options* are its own, *notice* is told what deserves a line meanwhile."""
    opened: AbstractContextManager[Engine] = engine_module(name).open_engine(options, notice)
    return opened


def job_name(number: int, jobs: int) -> str:
    """Name the job with this number, from 1, of so many: `job-0001`."""
    return f"job-{number:0{max(4, len(str(jobs)))}}"
