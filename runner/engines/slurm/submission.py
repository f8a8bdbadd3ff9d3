"""A results folder whose jobs Slurm runs: submit its arrays, poll them, record their ends."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import time
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.engines.slurm import commands
from offline_bundle.runner.engines.slurm.batch_script import (
    ATTEMPTS,
    INPUTS,
    LOGS,
    SCRIPT_NAME,
    SITE_LAUNCHER_NAME,
    VALUES_NAME,
    render_script,
    render_values,
)
from offline_bundle.runner.engines.slurm.job_ends import JobEnds
from offline_bundle.runner.engines.slurm.options import sbatch_options
from offline_bundle.runner.results.folder import (
    PRIVATE_NAME,
    JobOutcome,
    JobRecords,
    ResultsOwner,
    SubmissionRecord,
    lock_to_project,
    read_submission,
    write,
    write_submission,
)
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.store import shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from offline_bundle.runner.engines.slurm.commands import Tasks
    from offline_bundle.runner.model import ProjectState
    from offline_bundle.runner.request import Request

_RETRY_TIMEOUT_SECONDS = 1800.0
"""Time that a controller may not answer: jobs continue without it."""

_LOCK_NAME = "lock"
_USUAL_REASONS = {"Dependency", "JobArrayTaskLimit", "None", "Priority", "Resources"}


class SlurmSubmission:
    """A submission in *records.directory*."""

    def __init__(self, records: JobRecords, notice: Callable[[str], None]) -> None:
        self.directory = records.directory
        self.records = records
        self.reasons: set[str] = set()
        self._ends = JobEnds(records)
        self._notice = notice
        self._limit = int(records.plan.details["limit"])
        self._limit_noticed = False
        self._running = 0
        self._unreachable_since: float | None = None

    @classmethod
    def create(
        cls,
        directory: Path,
        request: Request,
        options: Mapping[str, Any],
        notice: Callable[[str], None],
    ) -> SlurmSubmission:
        """Write all that the jobs read; leave no folder if that fails."""
        limit = commands.array_limit()
        lock_to_project(directory, ResultsOwner(str(directory), request.project_name, "slurm"))
        try:
            plan = _write_folder(directory, request, options, limit)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)  # it has only what was written above
            raise BundleError(
                f"cannot write {directory}: {error.strerror}",
                hint="name a folder with free space that the nodes see, too: --download DIR",
            ) from error
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return cls(JobRecords(directory, plan), notice)

    @classmethod
    def read(cls, directory: Path, notice: Callable[[str], None]) -> SlurmSubmission:
        """Read the submission in a folder."""
        submission = cls(JobRecords(directory, read_submission(directory, "slurm")), notice)
        submission.records.look(submission.records.numbers)
        return submission

    def state(self) -> ProjectState:
        """Return the state as of the last poll."""
        return self.records.state(str(self.directory), self._running)

    def submit_all(self) -> None:
        """Submit for the first time; undo all of it if that fails."""
        try:
            self._submit_remaining()
        except BaseException:
            with contextlib.suppress(BundleError):
                self.cancel()
            if not self._arrays:  # no job was started, so the folder has only what `create` wrote
                shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def poll(self) -> None:
        """Update the counts; without an answer of Slurm they stay as they are, for a while."""
        try:
            self._read_queue()
            self._submit_remaining()
        except commands.UnreachableError as error:
            self._wait_for_slurm(error)
        else:
            if self._unreachable_since is not None:
                self._unreachable_since = None
                self._notice("Slurm answers again")

    def cancel(self) -> None:
        """Cancel the jobs that have not ended, and submit no others."""
        self._update(is_cancelled=True)
        commands.cancel([job_id for job_id, _, _ in self._arrays])

    @property
    def _arrays(self) -> list[tuple[str, int, int]]:
        """Job identifier, number of the job with index 1, number of jobs."""
        arrays: list[tuple[str, int, int]] = self.records.plan.details["arrays"]
        return arrays

    def _update(self, **details: object) -> None:
        plan = self.records.plan
        self.records.plan = dataclasses.replace(plan, details={**plan.details, **details})
        write_submission(self.directory, self.records.plan)

    def _remaining(self) -> range:
        """Return the numbers of the jobs that are not submitted yet."""
        submitted = sum(size for _, _, size in self._arrays)
        return range(1 + submitted, len(self.records.plan.rows) + 1)

    def _submit_remaining(self) -> None:
        """Submit arrays until all jobs are in the queue, or until Slurm's limit is reached.

        Of several commands that wait for these jobs only one does so at a time.
        """
        if not self._remaining():
            return
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a file system without locks
                lock = FileLock(self.directory / PRIVATE_NAME / _LOCK_NAME)
                if not lock.acquire(block=False):
                    return
                stack.callback(lock.release)
            # another command may have submitted some
            self.records.plan = read_submission(self.directory, "slurm")
            if self.records.plan.details["is_cancelled"]:
                self.records.ended |= dict.fromkeys(self._remaining(), JobOutcome("cancelled"))
                return
            while remaining := self._remaining():
                if not self._submit_array(remaining):
                    return

    def _submit_array(self, remaining: range) -> bool:
        """Submit one array; return False if the queue has no room for it now."""
        size = min(self._limit, len(remaining))
        script = self.directory / PRIVATE_NAME / SCRIPT_NAME
        try:
            job_id = commands.submit(script, self._array_options(size), [str(remaining[0] - 1)])
        except commands.SubmitLimitError as error:
            if len(self.records.ended) < remaining[0] - 1:
                self._notice_limit(error)
                return False
            if size == 1:
                raise
            self._limit = math.ceil(size / 2)
            return True
        self._update(arrays=[*self._arrays, (job_id, remaining[0], size)])
        return True

    def _array_options(self, size: int) -> list[str]:
        details = self.records.plan.details
        options = [*details["options"], f"--array=1-{size}{details['throttle']}"]
        if details["throttle"] and self._arrays:
            # Slurm limits each array by itself: only one of them runs at a time
            options.append(f"--dependency=afterany:{self._arrays[-1][0]}")
        return options

    def _notice_limit(self, error: BundleError) -> None:
        if not self._limit_noticed:
            self._notice(
                f"not all jobs may be in the queue at once ({error.message}); the others follow"
            )
            self._limit_noticed = True

    def _wait_for_slurm(self, error: BundleError) -> None:
        """Notify the user once; raise after the timeout."""
        now = time.monotonic()
        if self._unreachable_since is None:
            self._unreachable_since = now
            self._notice(f"Slurm does not answer ({error.message}); trying again")
        if now - self._unreachable_since > _RETRY_TIMEOUT_SECONDS:
            raise error

    def _read_queue(self) -> None:
        """Find out which jobs wait and run, and how the others ended."""
        running = 0
        for job_id, first, size in self._arrays:
            numbers = range(first, first + size)
            if all(number in self.records.ended for number in numbers):
                continue
            lines = commands.queue(job_id)
            self.reasons = {line.reason for line in lines if line.state == "PENDING"}
            queued = {first - 1 + index: line.state for line in lines for index in line.indices}
            gone = self.records.look(number for number in numbers if number not in queued)
            # Slurm may requeue a job after its end, and hold it
            self.records.look(first - 1 + index for index in _held(lines))
            running += sum(
                state != "PENDING"
                for number, state in queued.items()
                if number not in self.records.ended
            )
            running += self._ends.record(job_id, first, gone) if gone else 0
        self._running = running


def _held(lines: list[Tasks]) -> Iterator[int]:
    """Yield the indices of tasks that wait for another reason than their turn."""
    for tasks in lines:
        if tasks.state == "PENDING" and tasks.reason not in _USUAL_REASONS:
            yield from tasks.indices


def _write_folder(
    directory: Path, request: Request, options: Mapping[str, Any], limit: int
) -> SubmissionRecord:
    private = directory / PRIVATE_NAME
    private.mkdir(mode=0o700)
    for name in (ATTEMPTS, INPUTS, LOGS):
        (private / name).mkdir()
    for path in (request.script, *request.inputs):
        shutil.copy(path, private / INPUTS / path.name)
    values, size = render_values(request.values.rows)
    (private / VALUES_NAME).write_bytes(values)
    names = tuple(path.name for path in request.inputs)
    script = render_script(
        folder=directory,
        bundle=str(request.bundle),
        script=request.script.name,
        jobs=len(request.values.rows),
        inputs=names,
        outputs=request.outputs,
        environment=request.environment,
        node_cache=options.get("node_cache"),
        record_size=size,
    )
    write(private / SCRIPT_NAME, script)
    (private / SITE_LAUNCHER_NAME).write_bytes(shipped.site_launcher())
    details = {
        "arrays": [],
        "is_cancelled": False,
        "limit": limit,
        "options": sbatch_options(request, options, directory),
        "throttle": f"%{options['parallel']}" if options.get("parallel") else "",
    }
    plan = SubmissionRecord(request.project_name, "slurm", request.values.rows, names, details)
    write_submission(directory, plan)
    return plan
