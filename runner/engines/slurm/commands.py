"""Slurm's own commands: one function each, plain data out. Accounting (slurmdbd) is optional.

Output is requested in the formats that all versions have (`--parsable`, `--format`), not in JSON,
whose fields change between releases.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.processes import find_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SECONDS = 120
"""Time limit of a command; Slurm itself gives up sooner."""

_TRANSIENT = re.compile(
    r"(?i)unable to contact|timed out|zero bytes|connection refused|temporarily|no route"
    r"|unreachable|system call|reset by peer|broken pipe"
)
"""Messages of a controller that is busy, starting, or unreachable."""

_LIMIT = re.compile(
    r"(?i)submit ?limit|job limit|MaxSubmit|QOSMax|AssocMax|too many|limit on number|MaxJobCount"
)
"""Messages of sbatch if the user has as many jobs in the queue as allowed."""

_UNCONFIGURED = re.compile(r"(?i)configuration source|DNS SRV lookup|slurm\.conf")
"""Messages of commands without a configuration."""

_UNKNOWN_JOB = "Invalid job id"
_PREFIX = re.compile(r"^\w+: (?:error|fatal): ")


class SlurmError(BundleError):
    """A command of Slurm failed, exit code 1."""


class UnreachableError(SlurmError):
    """Slurm's controller does not answer. Jobs continue without it."""


class SubmitLimitError(SlurmError):
    """The limit of jobs in the queue is reached."""


@dataclass(frozen=True)
class Tasks:
    """A line of the queue: tasks of an array in the same state."""

    indices: frozenset[int]
    state: str
    """In Slurm's words: `PENDING`, `RUNNING`, `NODE_FAIL`, …"""
    reason: str
    """Why they wait or ended; `None`, as text, if there is no reason."""
    node: str = ""
    """The node that ran them, or runs them."""


@dataclass(frozen=True)
class Queued:
    """A job of this user in the queue."""

    job_id: str
    name: str
    directory: Path


def array_limit() -> int:
    """Return the number of tasks that an array may have, numbered from 1."""
    output = _run(["scontrol", "show", "config"])
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.MULTILINE)
    if not match or int(match[1]) < 2:
        raise SlurmError(
            "this Slurm allows no job arrays: MaxArraySize is 0",
            hint="ask the administrator to enable them",
        )
    return int(match[1]) - 1


def submit(script: Path, options: Sequence[str], arguments: Sequence[str]) -> str:
    """Submit a batch script; return the job's identifier."""
    output = _run(["sbatch", "--parsable", *options, str(script), *arguments]).strip()
    job_id = output.partition(";")[0]  # ;CLUSTER if there are several
    if not job_id.isdecimal():
        raise SlurmError(f"sbatch printed {output!r} instead of a job identifier")
    return job_id


def queue(job_id: str, *, with_ended: bool = False) -> list[Tasks]:
    """Return the tasks of an array that wait or run, or all that Slurm remembers."""
    states = ["--states=all"] if with_ended else []
    command = ["squeue", "--noheader", f"--jobs={job_id}", *states, "--format=%K|%T|%r|%N"]
    try:
        lines = _run(command).splitlines()
    except SlurmError as error:
        if _UNKNOWN_JOB in error.message:  # all have ended, and Slurm has forgotten them
            return []
        raise
    fields = [line.strip().split("|", 3) for line in lines if line.count("|") >= 2]
    return [Tasks(frozenset(parse_indices(indices)), *others) for indices, *others in fields]


def accounted(job_id: str) -> dict[int, str]:
    """Return index → state of an array's tasks from the accounting; empty without accounting.

    Tasks that never started are on one line: `12_[4-6]|CANCELLED by 0`.
    """
    options = ["--allocations", "--noheader", "--parsable2", "--format=JobID,State"]
    try:
        output = _run(["sacct", *options, f"--jobs={job_id}"])
    except BundleError:
        return {}
    rows = re.findall(rf"^{job_id}_([^|]+)\|(\w+)", output, re.MULTILINE)
    return {index: state for indices, state in rows for index in parse_indices(indices)}


def exclude(options: Sequence[str], nodes: Sequence[str]) -> list[str]:
    """Return options of sbatch that keep jobs off *nodes*, besides those that they exclude."""
    prefix = "--exclude="
    given = [word.removeprefix(prefix) for word in options if word.startswith(prefix)]
    others = [word for word in options if not word.startswith(prefix)]
    excluded = [*given, *nodes]
    return [*others, prefix + ",".join(excluded)] if excluded else others


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel all tasks of these arrays that have not ended."""
    if job_ids:
        _run(["scancel", "--quiet", *job_ids])


def list_own() -> list[Queued]:
    """List the user's jobs in the queue."""
    lines = _run(["squeue", "--noheader", "--me", "--format=%F|%Z|%j"]).splitlines()
    fields = [line.strip().split("|", 2) for line in lines if line.count("|") >= 2]
    return [
        Queued(job_id, name, Path(directory))
        for job_id, directory, name in dict.fromkeys(map(tuple, fields))
    ]


def work_directory(job_id: str) -> Path | None:
    """Return the working directory of a job; None if Slurm does not know it (any more)."""
    try:
        output = _run(["scontrol", "show", "job", job_id])
    except SlurmError as error:
        if _UNKNOWN_JOB in error.message:
            return None
        raise
    match = re.search(r"^\s*WorkDir=(.+)$", output, re.MULTILINE)
    return Path(match[1]) if match else None


def parse_indices(text: str) -> Iterable[int]:
    """Yield the indices that Slurm writes as `1-3,7,10-20:5%4`: 1, 2, 3, 7, 10, 15 and 20."""
    for part in text.partition("%")[0].strip("[]").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match:
            yield from range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1))


def format_indices(indices: Sequence[int]) -> str:
    """Write ascending indices as Slurm does: `1-3,7`."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)


def _run(command: Sequence[str]) -> str:
    program = find_program(command[0])
    if program is None:
        raise InputError(
            f"this machine has no Slurm: there is no {command[0]} on PATH",
            hint="submit from a login node of the cluster, or load the module with Slurm's "
            "commands",
        )
    variables = {"LC_ALL": "C", "SLURM_BITSTR_LEN": "0"}  # 0: lists of indices are complete
    try:
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{command[0]} did not answer for {_SECONDS} s") from error
    if done.returncode:
        raise _failure(command[0], done)
    return done.stdout


def _failure(program: str, done: subprocess.CompletedProcess[str]) -> BundleError:
    lines = [_PREFIX.sub("", line).strip() for line in done.stderr.splitlines()]
    message = "; ".join(filter(None, lines)) or f"exit code {done.returncode}"
    if _UNCONFIGURED.search(message) and not _TRANSIENT.search(message):
        return InputError(
            f"{program} has no cluster configuration: {message}",
            hint="submit from a login node of the cluster, or set SLURM_CONF to its slurm.conf",
        )
    kind = SlurmError
    if _TRANSIENT.search(message):
        kind = UnreachableError
    elif _LIMIT.search(message):
        kind = SubmitLimitError
    return kind(f"{program}: {message}", hint="this is Slurm's own message")
