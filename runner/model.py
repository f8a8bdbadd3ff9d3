"""Plain data that every engine takes and returns: job states, counts, failures and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from offline_bundle.runner.values import Value
from offline_bundle.wheelhouse.runtime.text import printable

UNDER_WAY = ("pending", "running")
SUCCEEDED = "done"
FAILED = ("failed", "timeout", "out of memory", "node failed", "cancelled", "lost")
STATES = (*UNDER_WAY, SUCCEEDED, *FAILED, "inactive")
"""The states of a job, in every engine."""

TAIL_LINES = 20
"""Lines of a failed job's console that messages and pages show."""

_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".avif"}


@dataclass(frozen=True)
class Counts:
    """Number of jobs in each state."""

    by_state: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, states: Mapping[str, int]) -> Counts:
        """Order the states as in `STATES`; unknown states come last."""
        order = {state: position for position, state in enumerate(STATES)}
        ordered = sorted(states.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
        return cls({state: number for state, number in ordered if number})

    @property
    def total(self) -> int:
        """Number of all jobs."""
        return sum(self.by_state.values())

    @property
    def under_way(self) -> int:
        """Number of jobs that wait or run."""
        return self.count(*UNDER_WAY)

    @property
    def finished(self) -> int:
        """Number of jobs that neither wait nor run."""
        return self.total - self.under_way

    @property
    def failed(self) -> int:
        """Number of jobs that ended without success."""
        return self.count(*FAILED)

    def count(self, *states: str) -> int:
        """Return the number of jobs in any of these states."""
        return sum(self.by_state.get(state, 0) for state in states)

    def describe(self) -> str:
        """Return one line: `3 running, 7 done`."""
        parts = [f"{number:,} {state}" for state, number in self.by_state.items()]
        return printable(", ".join(parts)) or "no jobs"


@dataclass(frozen=True)
class ProjectState:
    """The jobs of one submission, as of the last poll."""

    project_id: str
    """Identifier by which the engine finds the project."""
    name: str
    counts: Counts
    scheduler_jobs: tuple[str, ...] = ()
    """Identifiers in the scheduler, for dependencies of other jobs; empty without one."""

    def document(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return {
            "id": self.project_id,
            "name": self.name,
            "scheduler_jobs": list(self.scheduler_jobs),
        }


@dataclass(frozen=True)
class Failure:
    """A failed job and the end of its console."""

    job: str
    """Its name."""
    state: str
    """One of `STATES`, or a state of a newer server."""
    tail: str = ""
    """Last lines of the console of a failed job; empty if there are none."""
    node: str = ""
    """The node that ran the job; empty if unknown."""
    job_id: str = ""
    """The identifier of the job in the scheduler; empty without one."""
    seconds: float | None = None
    """Run time."""
    started: datetime | None = None

    @property
    def place(self) -> str:
        """The node, the scheduler's job and the time, in words: ` on n7 (job 12_3) after 3.2 s`."""
        node = f" on {self.node}" if self.node else ""
        job = f" (job {self.job_id})" if self.job_id else ""
        return node + job + ("" if self.seconds is None else f" after {self.seconds:.1f} s")


@dataclass(frozen=True)
class FileEntry:
    """A result file of a job."""

    path: str
    """Relative to the results folder, with `/`."""
    size: int
    """In bytes."""
    is_console: bool = False

    @property
    def is_picture(self) -> bool:
        """True if a browser can show the file in an `img`."""
        return PurePosixPath(self.path).suffix.lower() in _PICTURES


@dataclass(frozen=True)
class JobEntry(Failure):
    """A job as the results page shows it, failed or not."""

    values: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()

    @property
    def name(self) -> str:
        """The name of the job."""
        return self.job


@dataclass(frozen=True)
class ResultsOrigin:
    """Where results come from; what is unknown is empty."""

    submitted: datetime | None = None
    bundle: str = ""
    command: str = ""
    """The command line, without secrets."""


@dataclass(frozen=True)
class Results:
    """The results folder of a project on this disk."""

    directory: Path
    page: Path
    jobs: tuple[JobEntry, ...]
    files: int
    size: int
    """In bytes."""


@dataclass(frozen=True)
class JobSpec:
    """One job to start on this machine: a command in a directory of its own."""

    number: int
    """From 1."""
    directory: Path
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables, besides those of the script's environment."""
    inputs: tuple[Path, ...] = ()
    """Files and folders that are linked into the directory."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Values that are written to `input_parameters.json`."""


def job_name(number: int, jobs: int) -> str:
    """Return the name of job *number*, from 1, of *jobs*: `job-0001`."""
    return f"job-{number:0{max(4, len(str(jobs)))}}"
