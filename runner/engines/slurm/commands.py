"""Slurm's own commands: one function each, plain data out; no accounting (slurmdbd) needed.

What they print is asked for in the forms that all versions have (`--parsable`, `--format`), not in JSON, whose fields
change from release to release.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SECONDS = 120
"""How long a command may take; Slurm itself gives up sooner."""

_PASSING = re.compile(
    r"(?i)unable to contact|timed out|zero bytes|connection refused|temporarily|no route|unreachable|system call"
)
"""What a controller says that is busy, starting, or gone for a while."""

_LIMIT = re.compile(
    r"(?i)submit ?limit|job limit|MaxSubmit|QOSMax|AssocMax|too many|limit on number|MaxJobCount"
)
"""What sbatch says of a user who has as many jobs in the queue as is allowed."""

_UNCONFIGURED = re.compile(r"(?i)configuration source|DNS SRV lookup|slurm\.conf")
"""What the commands say where there is no configuration for them."""

_PREFIX = re.compile(r"^\w+: (?:error|fatal): ")


class SlurmError(BundleError):
    """A command of Slurm failed: exit 1."""


class UnreachableError(SlurmError):
    """Slurm's controller does not answer; jobs go on without it."""


class SubmitLimitError(SlurmError):
    """So many jobs at a time are not allowed."""


@dataclass(frozen=True)
class Tasks:
    """A line of the queue: tasks of an array in the same state."""

    indices: frozenset[int]
    state: str
    """In Slurm's words: `PENDING`, `RUNNING`, `NODE_FAIL`, …"""
    reason: str
    """Why they wait or have ended; `None` in Slurm's words where there is none."""


@dataclass(frozen=True)
class Queued:
    """A submission of the user's that the queue knows of."""

    job_id: str
    name: str
    directory: Path


def array_limit() -> int:
    """Ask how many tasks an array may have, numbered from 1."""
    match = re.search(
        r"^MaxArraySize\s*=\s*(\d+)", _run(["scontrol", "show", "config"]), re.MULTILINE
    )
    if not match or int(match[1]) < 2:
        raise SlurmError(
            "this Slurm allows no job arrays: MaxArraySize is 0",
            hint="ask its administrator for them",
        )
    return int(match[1]) - 1


def submit(script: Path, options: Sequence[str], arguments: Sequence[str]) -> str:
    """Submit a batch script; return the job's identifier."""
    said = _run(["sbatch", "--parsable", *options, str(script), *arguments])
    job_id = said.strip().partition(";")[0]  # ;CLUSTER where there are several
    if not job_id.isdecimal():
        raise SlurmError(f"sbatch says {said.strip()!r}, which is no job's identifier")
    return job_id


def queue(job_id: str, *, with_ended: bool = False) -> list[Tasks]:
    """Ask for the tasks of an array that wait or run, or for all that Slurm remembers; none where it knows no such."""
    states = ["--states=all"] if with_ended else []
    command = ["squeue", "--noheader", f"--jobs={job_id}", *states, "--format=%K|%T|%r"]
    try:
        lines = _run(command).splitlines()
    except SlurmError as error:
        if "Invalid job id" in error.message:  # they have all ended, and it has forgotten them
            return []
        raise
    fields = [line.strip().split("|", 2) for line in lines if line.count("|") >= 2]
    return [
        Tasks(frozenset(parse_indices(indices)), state, reason) for indices, state, reason in fields
    ]


def accounted(job_id: str) -> dict[int, str]:
    """Ask the accounting, where there is one, how the tasks of an array ended: index → state.

    Tasks that never started stand in a line together: `12_[4-6]|CANCELLED by 0`.
    """
    try:
        said = _run(
            [
                "sacct",
                "--allocations",
                "--noheader",
                "--parsable2",
                f"--jobs={job_id}",
                "--format=JobID,State",
            ]
        )
    except BundleError:
        return {}
    found = re.findall(rf"^{job_id}_([^|]+)\|(\w+)", said, re.MULTILINE)
    return {index: state for indices, state in found for index in parse_indices(indices)}


def cancel(job_ids: Sequence[str]) -> None:
    """End all tasks of these arrays that have not ended."""
    if job_ids:
        _run(["scancel", "--quiet", *job_ids])


def mine() -> list[Queued]:
    """List the user's jobs in the queue."""
    lines = _run(["squeue", "--noheader", "--me", "--format=%F|%Z|%j"]).splitlines()
    fields = [line.strip().split("|", 2) for line in lines if line.count("|") >= 2]
    return [
        Queued(job_id, name, Path(directory))
        for job_id, directory, name in dict.fromkeys(map(tuple, fields))
    ]


def work_directory(job_id: str) -> Path | None:
    """Ask for the working directory of a job; None where Slurm does not know it (any more)."""
    try:
        said = _run(["scontrol", "show", "job", job_id])
    except SlurmError as error:
        if "Invalid job id" in error.message:
            return None
        raise
    match = re.search(r"^\s*WorkDir=(.+)$", said, re.MULTILINE)
    return Path(match[1]) if match else None


def parse_indices(text: str) -> Iterable[int]:
    """Read indices as Slurm writes them: `1-3,7,10-20:5%4` are 1, 2, 3, 7, 10, 15 and 20, four at a time."""
    for part in text.partition("%")[0].strip("[]").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match:
            yield from range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1))


def _run(command: Sequence[str]) -> str:
    program = shutil.which(command[0])
    if program is None:
        raise InputError(
            f"this machine has no Slurm: there is no {command[0]} on PATH",
            hint="submit from a login node of the cluster, or load the module that brings Slurm's commands",
        )
    variables = {
        **os.environ,
        "LC_ALL": "C",
        "SLURM_BITSTR_LEN": "0",
    }  # lists of indices are not cut short
    try:
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            env=variables,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{command[0]} has not answered for {_SECONDS} seconds") from error
    if done.returncode == 0:
        return done.stdout
    lines = [_PREFIX.sub("", line).strip() for line in done.stderr.splitlines()]
    said = "; ".join(filter(None, lines)) or f"it left with exit code {done.returncode}"
    if _UNCONFIGURED.search(said) and not _PASSING.search(said):
        hint = "submit from a login node of the cluster, or have SLURM_CONF name its slurm.conf"
        raise InputError(f"{command[0]} is here, and knows of no cluster: {said}", hint=hint)
    kind = (
        UnreachableError
        if _PASSING.search(said)
        else SubmitLimitError
        if _LIMIT.search(said)
        else SlurmError
    )
    raise kind(f"{command[0]}: {said}", hint="this is Slurm's own message")
