"""The interface of a batch scheduler: what `BatchEngine` needs of Slurm, Grid Engine or PBS.

A scheduler runs its own commands and returns plain data. Accounting is optional: a job writes its
outcome itself.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from offline_bundle.runner.request import Request
from offline_bundle.runner.results.job_sets import (
    format_indices,
    jobs_between,
    parse_indices,
    ranges,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.processes import find_program, run_captured

_PREFIX = re.compile(r"^\w+: (?:error|fatal): ")
_NETWORK_ERRORS = tuple(
    os.strerror(number).lower()
    for number in (
        errno.EAGAIN,
        errno.EINTR,
        errno.EPIPE,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
    )
)
"""What commands print if the connection to their server fails."""
_SECONDS = 120
"""Time limit of a command; schedulers themselves give up sooner."""


class SchedulerError(BundleError):
    """A command of the scheduler failed, exit code 1."""


class UnreachableError(SchedulerError):
    """The scheduler does not answer. Jobs continue without it."""


class SubmitLimitError(SchedulerError):
    """The limit of jobs in the queue is reached."""


@dataclass(frozen=True)
class Queue:
    """The tasks of an array that wait or run, as sets of their indices (`job_sets`)."""

    pending: int = 0
    running: int = 0
    held: int = 0
    """Those that wait for a user: their records are read at each poll, as they may have ended."""
    reasons: frozenset[str] = frozenset()
    """Why tasks wait, as far as the scheduler reports it."""

    def __or__(self, other: Queue) -> Queue:
        """Return the tasks of both."""
        return Queue(
            self.pending | other.pending,
            self.running | other.running,
            self.held | other.held,
            self.reasons | other.reasons,
        )


class End(NamedTuple):
    """How a task left the queue."""

    state: str | None
    """A state of `runner.model`; None if the scheduler does not know it."""
    node: str = ""


class JobArray(NamedTuple):
    """A job array that was submitted, or is about to be."""

    job_id: str
    first: int
    """The number of the job with index 1."""
    indices: str
    """As schedulers write them: `1-3,7`."""

    @property
    def jobs(self) -> int:
        """The set of its jobs."""
        return parse_indices(self.indices) << self.first - 1


@dataclass(frozen=True)
class Queued:
    """A job of this user in the queue."""

    job_id: str
    directory: Path
    """Its working directory."""


class Scheduler(Protocol):
    """The commands of a batch scheduler. Every method raises `BundleError`."""

    engine: str
    """Name of the engine: `slurm`."""
    title: str
    """Name in messages: `Slurm`."""
    variables: str
    """Lines of sh for the job script: they set index, array, job, node and scratch."""
    has_index_lists: bool = False
    """True if an array may have gaps: `1-3,7`."""
    log_states: Mapping[str, str] = {}
    """Text that the scheduler writes to a job's log → state of the job."""

    def array_limit(self) -> int:
        """Return the number of tasks that an array may have."""

    def submit_options(
        self, request: Request, options: Mapping[str, Any], directory: Path
    ) -> list[str]:
        """Return the options of the submit command for all arrays of a submission."""

    def run_with(self, request: Request) -> tuple[str, ...]:
        """Return the command that starts all processes of a job: `srun`; empty for one process.

        Raises `InputError` for resources that the scheduler does not support.
        """

    def submit_command(
        self,
        script: Path,
        options: Sequence[str],
        array: JobArray,
        *,
        parallel: int | None = None,
        after: Sequence[str] = (),
    ) -> list[str]:
        """Return the command that submits an array.

        *parallel* tasks run at a time. It waits until the jobs *after* have ended.
        """

    def submit(self, command: Sequence[str]) -> str:
        """Run `submit_command`; return the identifier of the array."""

    def queue(self, job_ids: Sequence[str]) -> Mapping[str, Queue]:
        """Return the tasks of these arrays that wait or run, by one command for all of them."""

    def ended(self, job_id: str) -> dict[int, End]:
        """Return how tasks ended, as far as the scheduler remembers it: index → end."""

    def accounted(self, job_id: str) -> dict[int, End]:
        """Return the same from the accounting; empty without one besides `ended`."""
        del job_id
        return {}

    def exclude(self, options: Sequence[str], nodes: Sequence[str]) -> list[str]:
        """Return options that also keep jobs off *nodes*."""

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel all tasks of these arrays that have not ended."""

    def list_own(self) -> list[Queued]:
        """List the user's jobs in the queue."""

    def work_directory(self, job_id: str) -> Path | None:
        """Return the working directory of a job; None if the scheduler does not know it."""


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Runs the commands of a scheduler, and raises by what their messages mean."""

    title: str
    transient: re.Pattern[str]
    """The scheduler's own messages if it is busy, starting, or unreachable."""
    limit: re.Pattern[str]
    """Messages if the user has as many jobs in the queue as allowed."""
    unconfigured: re.Pattern[str]
    """Messages of commands without a configuration."""
    configuration: str
    """What a user can do about that, besides using a login node."""

    def run(self, command: Sequence[str]) -> str:
        """Return what a command prints. Raises `SchedulerError`, or `InputError`."""
        done = run_command(self.title, command)
        if done.returncode == 0:
            return done.stdout
        lines = (done.stderr or done.stdout).splitlines()
        lines = [_PREFIX.sub("", line).strip() for line in lines]
        message = "; ".join(filter(None, lines)) or f"exit code {done.returncode}"
        is_transient = self._is_transient(message)
        if self.unconfigured.search(message) and not is_transient:
            raise InputError(
                f"{command[0]} has no cluster configuration: {message}",
                hint=f"submit from a login node of the cluster, or {self.configuration}",
            )
        kind = SchedulerError
        if is_transient:
            kind = UnreachableError
        elif self.limit.search(message):
            kind = SubmitLimitError
        raise kind(f"{command[0]}: {message}", hint=f"this is {self.title}'s own message")

    def _is_transient(self, message: str) -> bool:
        is_network_error = any(text in message.lower() for text in _NETWORK_ERRORS)
        return is_network_error or self.transient.search(message) is not None


def run_command(title: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the scheduler *title*. Raises InputError if it is not on PATH."""
    program = find_program(command[0])
    if program is None:
        raise InputError(
            f"this machine has no {title}: there is no {command[0]} on PATH",
            hint=f"submit from a login node of the cluster, or load the module with {title}'s "
            "commands",
        )
    variables = {"LC_ALL": "C", "SLURM_BITSTR_LEN": "0"}  # 0: lists of indices are complete
    try:
        words = [program, *command[1:]]
        return run_captured(words, variables={**os.environ, **variables}, seconds=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{command[0]} did not answer for {_SECONDS} s") from error


def scheduler_arrays(scheduler: Scheduler, jobs: int, limit: int) -> Iterator[JobArray]:
    """Yield arrays for a set of jobs: with gaps if the scheduler can, else without."""
    if scheduler.has_index_lists:
        for offset in range(0, jobs.bit_length(), limit):
            if indices := jobs >> offset & jobs_between(1, limit):
                yield JobArray("", offset + 1, format_indices(indices))
    else:
        for first, last in ranges(jobs):
            for start in range(first, last + 1, limit):
                yield JobArray("", start, f"1-{min(limit, last + 1 - start)}")
