"""Grid Engine's own commands (Son of Grid Engine, Univa, Altair: what all of them have)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from offline_bundle.runner.batch.scheduler import (
    Commands,
    End,
    JobArray,
    Queue,
    Queued,
    Scheduler,
    SchedulerError,
)
from offline_bundle.runner.engines.sge.options import qsub_options
from offline_bundle.runner.request import Request, check_resources
from offline_bundle.runner.results.job_sets import members, parse_indices
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

_commands = Commands(
    title="Grid Engine",
    transient=re.compile(r"(?i)can't connect|unable to (?:contact|send)|timeout|got no response"),
    limit=re.compile(r"(?i)job rejected: only \d+ jobs are allowed|max_u_jobs|max_jobs"),
    unconfigured=re.compile(r"(?i)SGE_ROOT|act_qmaster|cell directory|SGE_CELL"),
    configuration="source its settings.sh",
)
_UNKNOWN_JOB = "do not exist"

_MOST_TASKS = 75000
"""Of an array, where the configuration names no limit: Grid Engine's own default."""

_VARIABLES = """\
index=$SGE_TASK_ID array=$JOB_ID job=$JOB_ID
node=${HOSTNAME:-$(hostname)} scratch="""


class GridEngine(Scheduler):
    """Grid Engine, for `BatchEngine`."""

    engine = "sge"
    title = "Grid Engine"
    variables = _VARIABLES
    submit_options = staticmethod(qsub_options)

    def array_limit(self) -> int:
        """Return the number of tasks that an array may have."""
        match = re.search(
            r"^max_aj_tasks\s+(\d+)", _commands.run(["qconf", "-sconf"]), re.MULTILINE
        )
        return int(match[1]) if match and int(match[1]) else _MOST_TASKS

    def run_with(self, request: Request) -> tuple[str, ...]:
        """Return nothing: how MPI is started depends on the site's parallel environment."""
        check_resources(request, "sge", "gpus", "nodes")
        if (request.tasks or 1) > 1 and not request.run_with:
            raise InputError(
                "--tasks requires --run-with with --engine sge",
                hint="add the command of your MPI, such as --run-with 'mpirun -n 4'",
            )
        return ()

    def submit_command(
        self,
        script: Path,
        options: Sequence[str],
        array: JobArray,
        *,
        parallel: int | None = None,
        after: Sequence[str] = (),
    ) -> list[str]:
        """Return the command that submits an array job."""
        words = [*options, "-terse", "-t", array.indices]
        words += ["-tc", str(parallel)] if parallel else []
        words += ["-hold_jid", ",".join(after)] if after else []
        return ["qsub", *words, str(script), str(array.first - 1)]

    def submit(self, command: Sequence[str]) -> str:
        """Submit an array job; return its identifier."""
        output = _commands.run(command).strip()
        match = re.search(r"^(\d+)(?:\.|$)", output, re.MULTILINE)
        if not match:
            raise SchedulerError(f"qsub printed {output!r} instead of a job identifier")
        return match[1]

    def queue(self, job_ids: Sequence[str]) -> dict[str, Queue]:
        """Return the tasks of these arrays that wait or run."""
        queues = dict.fromkeys(job_ids, Queue())
        for row in _qstat():
            job_id, indices = row.findtext("JB_job_number") or "", _indices(row)
            if job_id in queues and not _is_broken(row):
                is_pending = row.get("state") == "pending"
                queues[job_id] |= Queue(pending=indices) if is_pending else Queue(running=indices)
        return queues

    def ended(self, job_id: str) -> dict[int, End]:
        """Return how tasks ended, from the accounting file: it has them after some seconds.

        Tasks in the error state could not start; they stay in the queue.
        """
        ends = {
            index: End("failed")
            for row in _qstat(job_id)
            if _is_broken(row)
            for index in members(_indices(row))
        }
        try:
            output = _commands.run(["qacct", "-j", job_id])
        except BundleError:  # no task has ended yet, or the accounting cannot be read here
            return ends
        for block in re.split(r"^=+$", output, flags=re.MULTILINE)[1:]:
            fields = dict(re.findall(r"^(\S+) +(.*?) *$", block, re.MULTILINE))
            if fields.get("taskid", "").isdecimal():
                node = fields.get("hostname", "")
                ends[int(fields["taskid"])] = End(_state(fields), node)
        return ends

    def exclude(self, options: Sequence[str], nodes: Sequence[str]) -> list[str]:
        """Return options that also keep jobs off *nodes*; qsub refuses them if no other is left."""
        excluded = ["-l", f"h=!({'|'.join(nodes)})", "-w", "e"]
        return [*options, *excluded] if nodes else list(options)

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel all tasks of these arrays that have not ended."""
        if job_ids:
            try:
                _commands.run(["qdel", *job_ids])
            except SchedulerError as error:
                if not re.search(r"does not exist|denied: job", error.message):
                    raise

    def list_own(self) -> list[Queued]:
        """List the user's jobs in the queue."""
        numbers = dict.fromkeys(row.findtext("JB_job_number") or "" for row in _qstat())
        folders = {number: self.work_directory(number) for number in numbers}
        return [Queued(number, folder) for number, folder in folders.items() if folder]

    def work_directory(self, job_id: str) -> Path | None:
        """Return the working directory of a job; None if Grid Engine does not know it any more."""
        try:
            output = _commands.run(["qstat", "-j", job_id])
        except SchedulerError as error:
            if _UNKNOWN_JOB in error.message:
                return None
            raise
        match = re.search(r"^cwd: +(.+)$", output, re.MULTILINE)
        return Path(match[1]) if match else None


def _qstat(job_id: str | None = None) -> list[ET.Element]:
    """Return the rows of the user's jobs: one per task that runs, and one for those that wait."""
    document = ET.fromstring(_commands.run(["qstat", "-xml"]))  # noqa: S314 - of the site's scheduler
    rows = document.iter("job_list")
    return [row for row in rows if job_id in {None, row.findtext("JB_job_number")}]


def _indices(row: ET.Element) -> int:
    return parse_indices(row.findtext("tasks") or "1")


def _is_broken(row: ET.Element) -> bool:
    """Return True for the states `Eqw` and `Ehqw`: the task could not start."""
    return "E" in (row.findtext("state") or "")


def _state(fields: Mapping[str, str]) -> str:
    """Return the state of a job from its accounting.

    `failed` is 37 for a job that exceeded its time, 100 for one that a signal ended: qdel, a limit
    of memory, or anything else. Some versions have `deleted_by`.
    """
    if fields.get("deleted_by", "NONE") not in {"NONE", ""}:
        return "cancelled"
    return "timeout" if fields.get("failed", "").startswith("37") else "failed"
