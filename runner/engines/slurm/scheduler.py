"""Slurm's own commands. Accounting (slurmdbd) is optional.

Output is requested in the formats that all versions have (`--parsable`, `--format`), not in JSON,
whose fields change between releases.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from offline_bundle.runner.batch.scheduler import (
    Commands,
    End,
    JobArray,
    Queue,
    Queued,
    Scheduler,
    SchedulerError,
)
from offline_bundle.runner.engines.slurm.options import sbatch_options
from offline_bundle.runner.request import Request
from offline_bundle.runner.results.job_sets import members, parse_indices
from offline_bundle.wheelhouse.runtime.errors import BundleError

_commands = Commands(
    title="Slurm",
    transient=re.compile(
        r"(?i)unable to contact|timed out|zero bytes|standby mode|temporarily unable"
        r"|communication (?:connection|shutdown) failure|message (?:send|receive) failure"
        r"|header lengths"
    ),
    limit=re.compile(
        r"(?i)submit ?limit|job limit|MaxSubmit|QOSMax|AssocMax|too many|limit on number"
        r"|MaxJobCount"
    ),
    unconfigured=re.compile(r"(?i)configuration source|DNS SRV lookup|slurm\.conf"),
    configuration="set SLURM_CONF to its slurm.conf",
)
_UNKNOWN_JOB = "Invalid job id"
_HELD = re.compile(r"(?i)held|hold")
"""Reasons of held jobs: `JobHeldUser`, `JobHoldMaxRequeue`, `job requeued in held state`."""
_NOT_LAUNCHED = "launch failed requeued held"
"""The reason of jobs that a node could not launch: Slurm holds them until they are released."""


_STATES = {
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "out of memory",
    "NODE_FAIL": "node failed",
    "BOOT_FAIL": "node failed",
    "CANCELLED": "cancelled",
    "PREEMPTED": "cancelled",
    "REVOKED": "cancelled",
    "FAILED": "failed",
    "COMPLETED": "failed",  # Slurm reports success, but the job left no outcome
}

_VARIABLES = """\
index=$SLURM_ARRAY_TASK_ID array=$SLURM_ARRAY_JOB_ID job=$SLURM_JOB_ID
node=${SLURMD_NODENAME:-} scratch=${SLURM_TMPDIR:-}"""


class Slurm(Scheduler):
    """Slurm, for `BatchEngine`."""

    engine = "slurm"
    title = "Slurm"
    variables = _VARIABLES
    submit_options = staticmethod(sbatch_options)
    has_index_lists = True
    log_states: Mapping[str, str] = {
        "oom_kill": "out of memory",
        "oom-kill": "out of memory",
        "xceeded job memory limit": "out of memory",
        "xceeded memory limit": "out of memory",
        "DUE TO TIME LIMIT": "timeout",
        "DUE TO NODE FAILURE": "node failed",
        "DUE TO PREEMPTION": "cancelled",
        "CANCELLED AT": "cancelled",  # the start of the three above, too
    }
    """The state of the job in the queue may be `FAILED` only."""

    def array_limit(self) -> int:
        """Return the number of tasks that an array may have, numbered from 1."""
        output = _commands.run(["scontrol", "show", "config"])
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.MULTILINE)
        if not match or int(match[1]) < 2:
            raise SchedulerError(
                "this Slurm allows no job arrays: MaxArraySize is 0",
                hint="ask the administrator to enable them",
            )
        return int(match[1]) - 1

    def run_with(self, request: Request) -> tuple[str, ...]:
        """Return `srun` for jobs of several processes or nodes."""
        return ("srun",) if (request.tasks or 1) > 1 or (request.nodes or 1) > 1 else ()

    def submit_command(
        self,
        script: Path,
        options: Sequence[str],
        array: JobArray,
        *,
        parallel: int | None = None,
        after: Sequence[str] = (),
    ) -> list[str]:
        """Return the command that submits an array."""
        throttle = f"%{parallel}" if parallel else ""
        words = [*options, f"--array={array.indices}{throttle}"]
        if after:
            words.append(f"--dependency=afterany:{':'.join(after)}")
        return ["sbatch", "--parsable", *words, str(script), str(array.first - 1)]

    def submit(self, command: Sequence[str]) -> str:
        """Submit an array; return the job's identifier."""
        output = _commands.run(command).strip()
        job_id = output.partition(";")[0]  # ;CLUSTER if there are several
        if not job_id.isdecimal():
            raise SchedulerError(f"sbatch printed {output!r} instead of a job identifier")
        return job_id

    def queue(self, job_ids: Sequence[str]) -> dict[str, Queue]:
        """Return the tasks of these arrays that wait or run.

        Those that a node could not launch are released, to start on another one. Slurm limits how
        often it requeues a job, and then gives another reason.
        """
        queues: dict[str, Queue] = {}
        for job_id, indices, state, reason, _ in _squeue(job_ids):
            if reason == _NOT_LAUNCHED:
                _release(job_id, indices)
            if state == "PENDING":
                held = indices if _HELD.search(reason) else 0
                reasons = frozenset({reason} - {"None"})
                tasks = Queue(pending=indices, held=held, reasons=reasons)
            else:
                tasks = Queue(running=indices)
            queues[job_id] = queues.get(job_id, Queue()) | tasks
        return queues

    def ended(self, job_id: str) -> dict[int, End]:
        """Return how tasks ended, for some minutes."""
        return {
            index: End(_STATES.get(state), "" if "None" in node else node)
            for _, indices, state, _, node in _squeue([job_id], "--states=all")
            for index in members(indices)
        }

    def accounted(self, job_id: str) -> dict[int, End]:
        """Return how tasks ended from the accounting; empty without accounting.

        Tasks that never started are on one line: `12_[4-6]|CANCELLED by 0`.
        """
        options = ["--allocations", "--noheader", "--parsable2", "--format=JobID,State"]
        try:
            output = _commands.run(["sacct", *options, f"--jobs={job_id}"])
        except BundleError:
            return {}
        rows = re.findall(rf"^{job_id}_([^|]+)\|(\w+)", output, re.MULTILINE)
        return {
            index: End(_STATES.get(state))
            for indices, state in rows
            for index in members(parse_indices(indices))
        }

    def exclude(self, options: Sequence[str], nodes: Sequence[str]) -> list[str]:
        """Return options that keep jobs off *nodes*, besides those that they exclude."""
        prefix = "--exclude="
        given = [word.removeprefix(prefix) for word in options if word.startswith(prefix)]
        others = [word for word in options if not word.startswith(prefix)]
        excluded = [*given, *nodes]
        return [*others, prefix + ",".join(excluded)] if excluded else others

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel all tasks of these arrays that have not ended."""
        if job_ids:
            _commands.run(["scancel", "--quiet", *job_ids])

    def list_own(self) -> list[Queued]:
        """List the user's jobs in the queue."""
        lines = _commands.run(["squeue", "--noheader", "--me", "--format=%F|%Z"]).splitlines()
        fields = [line.strip().partition("|") for line in lines if "|" in line]
        return [Queued(job_id, Path(directory)) for job_id, _, directory in dict.fromkeys(fields)]

    def work_directory(self, job_id: str) -> Path | None:
        """Return the working directory of a job; None if Slurm does not know it (any more)."""
        try:
            output = _commands.run(["scontrol", "show", "job", job_id])
        except SchedulerError as error:
            if _UNKNOWN_JOB in error.message:
                return None
            raise
        match = re.search(r"^\s*WorkDir=(.+)$", output, re.MULTILINE)
        return Path(match[1]) if match else None


def _release(job_id: str, indices: int) -> None:
    tasks = ",".join(f"{job_id}_{index}" for index in members(indices))
    with suppress(BundleError):  # jobs of another user: they stay, with their reason
        _commands.run(["scontrol", "release", tasks])


def _squeue(job_ids: Sequence[str], *options: str) -> Iterator[tuple[str, int, str, str, str]]:
    """Yield array, set of indices, state, reason and node of tasks."""
    command = ["squeue", "--noheader", f"--jobs={','.join(job_ids)}", *options]
    if len(job_ids) > 1 and os.getuid():
        command.append("--me")  # of several arrays, squeue otherwise loads all jobs of all users
    try:
        lines = _commands.run([*command, "--format=%F|%K|%T|%r|%N"]).splitlines()
    except SchedulerError as error:
        if _UNKNOWN_JOB in error.message:  # all have ended, and Slurm has forgotten them
            return
        raise
    for line in lines:
        fields = line.strip().split("|", 4)
        if len(fields) == 5:
            yield fields[0], parse_indices(fields[1]), *fields[2:]  # type: ignore[misc]
