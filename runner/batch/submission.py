"""A results folder whose jobs a scheduler runs: submit arrays, poll them, record their ends."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import operator
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from offline_bundle.runner.batch.folder import write_folder
from offline_bundle.runner.batch.job_ends import JobEnds
from offline_bundle.runner.batch.job_script import SCRIPT_NAME
from offline_bundle.runner.batch.scheduler import (
    JobArray,
    Queue,
    Scheduler,
    SchedulerError,
    SubmitLimitError,
    UnreachableError,
    scheduler_arrays,
)
from offline_bundle.runner.follow import JobsGoOnError
from offline_bundle.runner.model import ProjectState
from offline_bundle.runner.request import Request, check_request
from offline_bundle.runner.results.changes import find_failed, set_aside
from offline_bundle.runner.results.folder import (
    PRIVATE_NAME,
    JobOutcome,
    JobRecords,
    plan_path,
    read_submission,
    write_submission,
)
from offline_bundle.runner.results.job_sets import job_set, members, parse_indices
from offline_bundle.runner.results.owner import ResultsOwner, lock_to_project
from offline_bundle.wheelhouse.runtime.disk.file_identity import file_identity
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.sizes import count
from offline_bundle.wheelhouse.runtime.text import printable

_RETRY_TIMEOUT_SECONDS = 1800.0
"""Time that a controller may not answer: jobs continue without it."""

_LOCK_NAME = "lock"
_MOST_STARTS = 3
"""Of a job that fails because of its node: each start is on another node."""


class BatchSubmission:
    """A submission in *records.directory*."""

    def __init__(
        self, records: JobRecords, scheduler: Scheduler, notice: Callable[[str], None]
    ) -> None:
        self.scheduler = scheduler
        self.directory = records.directory
        self.records = records
        self.reasons: set[str] = set()
        self._ends = JobEnds(records, scheduler)
        self._notice = notice
        self._limit = int(records.plan.details["limit"])
        self._limit_noticed = False
        self._given_up = 0
        """The set of jobs that a node failed, and that are not started again."""
        self._noticed_faults = {""}
        self._running = 0
        self._unreachable_since: float | None = None
        self._plan_identity = ""
        """Of the file of the plan, when it was read."""

    @classmethod
    def create(
        cls,
        directory: Path,
        request: Request,
        options: Mapping[str, Any],
        scheduler: Scheduler,
        notice: Callable[[str], None],
    ) -> BatchSubmission:
        """Check the request, and write all that the jobs read; leave no folder if that fails."""
        files = check_request(request)
        owner = ResultsOwner(str(directory), request.project_name, scheduler.engine)
        lock_to_project(directory, owner)
        try:
            plan = write_folder(directory, request, files, scheduler, options)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)  # it has only what was written above
            raise BundleError(
                f"cannot write {directory}: {error.strerror}",
                hint="name a folder with free space that the nodes see, too: --download DIR",
            ) from error
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return cls(JobRecords(directory, plan), scheduler, notice)

    @classmethod
    def read(
        cls, directory: Path, scheduler: Scheduler, notice: Callable[[str], None]
    ) -> BatchSubmission:
        """Read the submission in a folder."""
        records = JobRecords(directory, read_submission(directory, scheduler.engine))
        submission = cls(records, scheduler, notice)
        submission.records.look(submission.records.jobs)
        return submission

    def state(self) -> ProjectState:
        """Return the state as of the last poll."""
        return self.records.state(str(self.directory), self._running, self.job_ids)

    def submit_all(self) -> None:
        """Submit for the first time; undo all of it if that fails."""
        try:
            self._submit_remaining()
        except BaseException as error:
            with contextlib.suppress(BundleError):
                self.cancel()
            if not self._arrays:  # no job was started, so the folder has only what `create` wrote
                shutil.rmtree(self.directory, ignore_errors=True)
            elif isinstance(error, KeyboardInterrupt):
                message = f"interrupted: the jobs of {self.records.plan.name} are cancelled"
                raise JobsGoOnError(message, hint="to submit them again: --overwrite") from None
            raise

    def poll(self) -> None:
        """Update the counts; without an answer of the scheduler they stay, for a while."""
        try:
            self._read_changes()
            self._read_queue()
            self._requeue()
            self._submit_remaining()
        except UnreachableError as error:
            self._wait_for_answer(error)
        else:
            if self._unreachable_since is not None:
                self._unreachable_since = None
                self._notice(f"{self.scheduler.title} answers again")

    def cancel(self) -> None:
        """Cancel the jobs that have not ended, and submit no others."""
        self._update(is_cancelled=True)
        self.scheduler.cancel(self.job_ids)

    def retry(self, is_chosen: Callable[[str, str], bool], excluded: Sequence[str] = ()) -> int:
        """Submit failed jobs again, not to the *excluded* nodes; return their number.

        Without *excluded* nodes, a user asks: the starts of jobs are counted anew.
        """
        with self._lock(block=not excluded) as is_locked:
            numbers = find_failed(self.records, is_chosen) if is_locked else []
            if numbers and not excluded:
                self._update(failed_nodes=[], retried_after=len(self._arrays))
                self._given_up = 0
            if numbers:
                arrays = [
                    (array, self.scheduler.exclude(options, excluded))
                    for array, options in self._grouped(job_set(numbers))
                ]
                with set_aside(self.records, numbers):
                    self._ends.forget(numbers)  # before new attempts begin
                    self._submit_again(arrays)
        return len(numbers)

    def _submit_again(self, arrays: Sequence[tuple[JobArray, Sequence[str]]]) -> None:
        submitted: list[JobArray] = []
        try:
            for array, options in arrays:
                after = [submitted[-1].job_id] if submitted and self._parallel else []
                submitted.append(self._submit(array, options, after))
        except BaseException:
            self.scheduler.cancel([array.job_id for array in submitted])
            raise
        self._update(arrays=[*self._arrays, *submitted])

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The scheduler's identifiers of the arrays."""
        return tuple(array.job_id for array in self._arrays)

    @property
    def _arrays(self) -> list[JobArray]:
        return [JobArray(*array) for array in self.records.plan.details["arrays"]]

    def _current_arrays(self) -> dict[JobArray, int]:
        """Return the arrays with jobs that have not ended, and these: a job is in its latest."""
        current, jobs = {}, self.records.unfinished
        for array in reversed(self._arrays):
            if array.jobs & jobs:
                current[array] = array.jobs & jobs
            jobs &= ~array.jobs
        return current

    def _update(self, **details: object) -> None:
        self._read_changes()
        plan = self.records.plan
        self.records.plan = dataclasses.replace(plan, details={**plan.details, **details})
        write_submission(self.directory, self.records.plan)

    def _read_changes(self) -> None:
        """Read what other commands changed: they cancel jobs, and start failed ones again."""
        try:
            identity = file_identity(str(plan_path(self.directory)))
        except OSError:
            return  # the file system does not answer; without the folder, polling ends
        if identity == self._plan_identity:
            return
        known = len(self._arrays)
        self.records.plan = read_submission(self.directory, self.scheduler.engine)
        self._plan_identity = identity
        again = _jobs_of(self._arrays[known:])
        if self.records.reopen([*members(again)]):
            self._ends = JobEnds(self.records, self.scheduler)
            self.records.look(again)

    def _remaining(self) -> int:
        """Return the set of the jobs that are not submitted yet."""
        return self.records.jobs & ~_jobs_of(self._arrays)

    def _submit_remaining(self) -> None:
        """Submit arrays until all jobs are in the queue, or until a limit is reached.

        Of several commands that wait for these jobs only one does so at a time.
        """
        if not self._remaining():
            return
        with self._lock() as is_locked:
            if not is_locked:
                return
            while (remaining := self._remaining()) and not self._is_cancelled:
                if not self._submit_array(remaining):
                    return
            for number in members(remaining):
                self.records.end(number, JobOutcome("cancelled"))

    @contextlib.contextmanager
    def _lock(self, *, block: bool = False) -> Iterator[bool]:
        """Yield True if no other command submits jobs of this folder; then the plan is new."""
        with contextlib.ExitStack() as stack:
            is_locked = True
            with contextlib.suppress(OSError):  # a file system without locks
                lock = FileLock(self.directory / PRIVATE_NAME / _LOCK_NAME)
                is_locked = lock.acquire(block=block)
                if is_locked:
                    stack.callback(lock.release)
            if is_locked:  # another command may have submitted some
                self._read_changes()
            yield is_locked

    def _submit_array(self, remaining: int) -> bool:
        """Submit one array; return False if the queue has no room for it now."""
        array, options = next(self._grouped(remaining))
        # a scheduler limits each array by itself: only one of them runs at a time
        after = [self.job_ids[-1]] if self.job_ids and self._parallel else []
        after += self.records.plan.details["after"]
        try:
            array = self._submit(array, options, after)
        except SubmitLimitError as error:
            if self.records.unfinished & ~remaining:
                self._notice_limit(error)
                return False
            size = array.jobs.bit_count()
            if size == 1:
                raise
            self._limit = math.ceil(size / 2)
            return True
        self._update(arrays=[*self._arrays, array])
        if self._is_cancelled:  # by another command, which does not know this array
            self.scheduler.cancel([array.job_id])
        return True

    @property
    def _is_cancelled(self) -> bool:
        is_cancelled: bool = self.records.plan.details["is_cancelled"]
        return is_cancelled

    @property
    def _parallel(self) -> int | None:
        parallel: int | None = self.records.plan.details["parallel"]
        return parallel

    @property
    def _groups(self) -> Sequence[tuple[str, list[str]]]:
        """Indices and options of the jobs with equal resources."""
        details = self.records.plan.details
        if "groups" in details:
            groups: Sequence[tuple[str, list[str]]] = details["groups"]
            return groups
        return [(f"1-{len(self.records.plan.rows)}", details["options"])]  # of an older version

    def _submit(self, array: JobArray, options: Sequence[str], after: Sequence[str]) -> JobArray:
        script = self.directory / PRIVATE_NAME / SCRIPT_NAME
        command = self.scheduler.submit_command(
            script, options, array, parallel=self._parallel, after=after
        )
        return array._replace(job_id=self.scheduler.submit(command))

    def _grouped(self, jobs: int) -> Iterator[tuple[JobArray, list[str]]]:
        """Yield arrays for a set of jobs, and their options: an array has the same for all."""
        for indices, options in self._groups:
            own = parse_indices(indices) & jobs
            for array in scheduler_arrays(self.scheduler, own, self._limit):
                yield array, options

    def _notice_limit(self, error: BundleError) -> None:
        if not self._limit_noticed:
            self._notice(
                f"not all jobs may be in the queue at once ({error.message}); the others follow"
            )
            self._limit_noticed = True

    def _wait_for_answer(self, error: BundleError) -> None:
        """Notify the user once; raise after the timeout."""
        now = time.monotonic()
        if self._unreachable_since is None:
            self._unreachable_since = now
            self._notice(f"{self.scheduler.title} does not answer ({error.message}); trying again")
        if now - self._unreachable_since > _RETRY_TIMEOUT_SECONDS:
            raise error

    def _read_queue(self) -> None:
        """Find out which jobs wait and run, and how the others ended."""
        running = 0
        self.reasons = set()
        current = self._current_arrays()
        queues = self.scheduler.queue([array.job_id for array in current]) if current else {}
        for array, jobs in current.items():
            queue, before = queues.get(array.job_id, Queue()), array.first - 1
            self.reasons |= queue.reasons
            # a scheduler may requeue a job after its end, and hold it
            self.records.look(jobs & queue.held << before)
            gone = self.records.look(jobs & ~((queue.pending | queue.running) << before))
            running += (queue.running << before & jobs & self.records.unfinished).bit_count()
            running += self._record_ends(array, gone) if gone else 0
        self._running = running

    def _record_ends(self, array: JobArray, gone: int) -> int:
        """Record why jobs left the queue; return how many have no reason yet.

        That is all of them while another command starts them again: their folders are set aside.
        """
        known = len(self._arrays)
        with self._lock() as is_locked:
            if not is_locked or len(self._arrays) > known:
                return gone.bit_count()
            return self._ends.record(array, gone)

    def _requeue(self) -> None:
        """Run jobs that a node failed again on other nodes; give up after some starts."""
        failed = self.records.in_state.get("node failed", 0) & ~self._given_up
        details = self.records.plan.details
        if not failed or self._is_cancelled or "--no-requeue" in self._groups[0][1]:
            return
        counted = [array.jobs for array in self._arrays[details["retried_after"] :]]
        for number in members(failed):
            if sum(jobs >> number & 1 for jobs in counted) >= _MOST_STARTS:
                self._given_up |= 1 << number
        again = [*members(failed & ~self._given_up)]
        if not again:
            return
        names = {self.records.name(number) for number in again}
        failed_on = {self.records.ended[number].node for number in members(failed)}
        nodes = sorted({*details["failed_nodes"], *failed_on} - {""})
        self._update(failed_nodes=nodes)
        fault = _node_fault(self.records.tail(again[0]))  # before its console is set aside
        try:
            number = self.retry(lambda name, _: name in names, nodes)
        except UnreachableError:
            raise
        except SchedulerError as error:  # no other node is left
            self._given_up |= job_set(again)
            self._notice(f"no other node for jobs that a node failed: {error.message}")
        else:
            if not number:
                return  # another command has started them again
            where = f" ({', '.join(nodes)})" if nodes else ""
            lines = [f"{count(number, 'job')} failed because of a node{where}: started again"]
            lines += [f"  {printable(fault)}"] if fault not in self._noticed_faults else []
            self._noticed_faults.add(fault)
            self._notice("\n".join(lines))


def _jobs_of(arrays: Sequence[JobArray]) -> int:
    """Return the set of the jobs of these arrays."""
    return functools.reduce(operator.or_, (array.jobs for array in arrays), 0)


def _node_fault(tail: str) -> str:
    """Return the line of a console that describes the fault of a node; empty without a console."""
    lines = tail.splitlines() or [""]
    return next((line for line in lines if line.startswith("error: ")), lines[-1])
