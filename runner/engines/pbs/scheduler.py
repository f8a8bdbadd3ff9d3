"""Commands of PBS Professional and OpenPBS, version 18 or newer (`qstat -F json`).

Written by their documentation, and tested with simulated commands only: not yet on a server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from offline_bundle.runner.batch.scheduler import (
    Commands,
    End,
    JobArray,
    Queue,
    Queued,
    Scheduler,
    SchedulerError,
)
from offline_bundle.runner.engines.pbs.options import FOLDER_VARIABLE, qsub_options
from offline_bundle.runner.request import Request
from offline_bundle.runner.results.job_sets import job_set

_commands = Commands(
    title="PBS",
    transient=re.compile(r"(?i)cannot connect|timed? ?out|server.*(?:busy|shut)"),
    limit=re.compile(r"(?i)would exceed|max_queued|maximum number of jobs"),
    unconfigured=re.compile(r"(?i)pbs\.conf|PBS_SERVER|no default server"),
    configuration="set PBS_CONF_FILE",
)
_UNKNOWN_JOB = re.compile(r"(?i)unknown job id|job has finished")
_MOST_SUBJOBS = 10000
"""Of an array, where the server names no limit: PBS's own default."""

_SUBJOB = re.compile(r"^\d+(?:\[(\d+)\]|(?![\d\[]))\S*\s.*\s([A-Z])\s+\S+$", re.MULTILINE)
"""A line of qstat: the index of a subjob, or nothing for a single job, and the state."""

_PENDING = "QHWT"
_RUNNING = "RESUB"
_WALLTIME, _VMEM, _MEM = -29, -26, -27
_TERMINATED = 256 + 15
"""Exit status of a job that qdel ended."""

_VARIABLES = """\
offset=${OFFLINE_BUNDLE_OFFSET:-0} index=${PBS_ARRAY_INDEX:-1} array=${PBS_ARRAY_ID:-$PBS_JOBID}
job=${PBS_JOBID%%[!0-9]*} node=$(hostname) scratch="""


class Pbs(Scheduler):
    """PBS, for `BatchEngine`."""

    engine = "pbs"
    title = "PBS"
    variables = _VARIABLES
    submit_options = staticmethod(qsub_options)

    def array_limit(self) -> int:
        """Return the number of subjobs that an array may have."""
        servers = json.loads(_commands.run(["qstat", "-B", "-f", "-F", "json"])).get("Server", {})
        limits = [server.get("max_array_size") for server in servers.values()]
        return int(limits[0]) if limits and limits[0] else _MOST_SUBJOBS

    def run_with(self, request: Request) -> tuple[str, ...]:
        """Return `mpirun` for jobs of several processes: MPI libraries know the nodes by PBS."""
        return ("mpirun", "-n", str(request.tasks)) if (request.tasks or 1) > 1 else ()

    def submit_command(
        self,
        script: Path,
        options: Sequence[str],
        array: JobArray,
        *,
        parallel: int | None = None,
        after: Sequence[str] = (),
    ) -> list[str]:
        """Return the command that submits an array; PBS has none of a single subjob."""
        throttle = f"%{parallel}" if parallel else ""
        variables = f"{options[-1]},OFFLINE_BUNDLE_OFFSET={array.first - 1}"
        words = [*options[:-1], variables]
        words += ["-J", f"{array.indices}{throttle}"] if array.jobs.bit_count() > 1 else []
        words += ["-W", f"depend=afterany:{':'.join(after)}"] if after else []
        return ["qsub", *words, str(script)]

    def submit(self, command: Sequence[str]) -> str:
        """Submit an array; return its identifier, such as `1234[].server`."""
        output = _commands.run(command).strip()
        if not re.fullmatch(r"\d+(\[\])?(\.\S+)?", output):
            raise SchedulerError(f"qsub printed {output!r} instead of a job identifier")
        return output

    def queue(self, job_ids: Sequence[str]) -> dict[str, Queue]:
        """Return the subjobs of these arrays that wait or run.

        PBS has no short form of an array's subjobs: it prints a line for each, of which the last
        two columns are state and queue. As JSON they have twenty times as many bytes.
        """
        queues = {}
        for job_id in job_ids:  # each by itself: qstat fails if one of several has ended
            rows = _SUBJOB.findall(_qstat_output("-t", job_id))
            in_state = {
                states: job_set([int(index or 1) for index, state in rows if state in states])
                for states in (_PENDING, _RUNNING)
            }
            queues[job_id] = Queue(in_state[_PENDING], in_state[_RUNNING])
        return queues

    def ended(self, job_id: str) -> dict[int, End]:
        """Return how subjobs ended, as long as the server keeps their history."""
        return {
            index: End(_state(job.get("Exit_status")), job.get("exec_host", "").partition("/")[0])
            for index, job in _subjobs(job_id, "-x")
            if job["job_state"] not in _PENDING + _RUNNING
        }

    def exclude(self, options: Sequence[str], nodes: Sequence[str]) -> list[str]:
        """Raise for any node: PBS has no option for it."""
        if nodes:
            raise SchedulerError(f"PBS cannot keep jobs off {', '.join(nodes)}")
        return list(options)

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel all subjobs of these arrays that have not ended."""
        for job_id in job_ids:
            try:
                _commands.run(["qdel", job_id])
            except SchedulerError as error:
                if not _UNKNOWN_JOB.search(error.message):
                    raise

    def list_own(self) -> list[Queued]:
        """List the user's jobs in the queue."""
        folders = {job_id: _folder(job) for job_id, job in _qstat().items()}
        return [Queued(job_id, folder) for job_id, folder in folders.items() if folder]

    def work_directory(self, job_id: str) -> Path | None:
        """Return the folder of a job; None if PBS does not know it (any more)."""
        return next(filter(None, map(_folder, _qstat("-x", job_id).values())), None)


def _qstat(*arguments: str) -> dict[str, Any]:
    """Return jobs as PBS describes them; none for a job that it does not know."""
    output = _qstat_output("-f", "-F", "json", *arguments)
    jobs: dict[str, Any] = json.loads(output).get("Jobs", {}) if output else {}
    return jobs


def _qstat_output(*arguments: str) -> str:
    """Return what qstat prints; nothing for a job that PBS does not know."""
    try:
        return _commands.run(["qstat", *arguments])
    except SchedulerError as error:
        if _UNKNOWN_JOB.search(error.message):
            return ""
        raise


def _subjobs(job_id: str, *options: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the index of each subjob, and its description; 1 for a single job."""
    for name, job in _qstat(*options, "-t", job_id).items():
        match = re.match(r"\d+(?:\[(\d*)\])?", name)
        if match and match[1] != "":  # empty: the array itself
            yield int(match[1] or 1), job


def _folder(job: Mapping[str, Any]) -> Path | None:
    folder = (job.get("Variable_List") or {}).get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


def _state(status: int | None) -> str | None:
    """Return the state for an exit status; negative ones are PBS's own."""
    if status is None:
        return None
    states = {_WALLTIME: "timeout", _VMEM: "out of memory", _MEM: "out of memory"}
    return states.get(status, "cancelled" if status == _TERMINATED else "failed")
