"""Find out why a job left the queue without an outcome, and record it.

The scheduler ended the job, its node failed, or the job could not start. The queue may have the
reason for a while; the job's log and the accounting, if there is one, have it for longer.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from offline_bundle.runner.batch.job_script import LOGS
from offline_bundle.runner.batch.scheduler import End, JobArray, Scheduler
from offline_bundle.runner.job_files.names import CONSOLE_NAME, RECORD_NAME
from offline_bundle.runner.results.console import console_tail
from offline_bundle.runner.results.folder import ATTEMPTS, PRIVATE_NAME, JobRecords, record, write
from offline_bundle.runner.results.job_sets import members
from offline_bundle.wheelhouse.runtime.errors import BundleError

SETTLE_SECONDS = 60.0
"""Time that a file may take to appear through a network file system after its writer ended."""

_LOG_LINES = 20
_CONSOLE_LINES = 200

_EXPLANATIONS = {
    "timeout": "{title} ended the job: time limit exceeded",
    "out of memory": "{title} ended the job: it used more memory than requested",
    "node failed": "the node failed, and {title} did not start the job again",
    "cancelled": "the job was cancelled",
    "failed": "the job was killed or could not start",
    "lost": "the job left the queue without a reason: it was removed, or its node failed",
}


class JobEnds:
    """Records the ends of jobs that could not do so themselves."""

    def __init__(self, records: JobRecords, scheduler: Scheduler) -> None:
        self._records = records
        self._scheduler = scheduler
        self._private = records.directory / PRIVATE_NAME
        self._missing_since: dict[int, float] = {}
        """Job number → time at which it had left the queue without an outcome."""

    def forget(self, numbers: Sequence[int]) -> None:
        """Forget what is known of jobs that run again, and remove their earlier attempts."""
        for number in numbers:
            self._missing_since.pop(number, None)
            for attempt in self._attempts(number):
                shutil.rmtree(attempt, ignore_errors=True)

    def record(self, array: JobArray, gone: int) -> int:
        """Record why jobs of an array left the queue; return how many have no reason yet."""
        before = array.first - 1
        ended = self._scheduler.ended(array.job_id)
        unclear = 0
        without_outcome = self._records.look(gone)  # it may have been written meanwhile
        for number in members(without_outcome):
            since = self._missing_since.setdefault(number, time.monotonic())
            task = f"{array.job_id}_{number - before}"
            state, node = ended.get(number - before, End(None))
            if state in {None, "failed"}:
                state = self._state_in_log(task) or state
            is_cancelled = self._records.plan.details["is_cancelled"]
            if state in {None, "failed"} and is_cancelled and not self._was_killed(number):
                state = "cancelled"
            is_clear = state not in {None, "failed"} or self._was_killed(number)
            if is_clear or time.monotonic() - since > SETTLE_SECONDS:
                is_unseen = state == "failed" and not self._has_begun(number, task)
                if is_unseen:
                    state = "node failed"
                if state is None:
                    end = self._scheduler.accounted(array.job_id).get(number - before, End(None))
                    state, node = end.state or "lost", node or end.node
                self._write(number, state, task, node, is_unseen=is_unseen)
            else:
                unclear += 1
        return unclear

    def _state_in_log(self, task: str) -> str | None:
        """Return what the scheduler did to a job since it was last requeued, from the job's log."""
        log = console_tail(self._log(task), _LOG_LINES).rpartition("DUE TO JOB REQUEUE")[2]
        return next(
            (state for text, state in self._scheduler.log_states.items() if text in log), None
        )

    def _has_begun(self, number: int, task: str) -> bool:
        """Return False if the job could write nothing at all."""
        return bool(self._attempts(number)) or self._log(task).exists()

    def _log(self, task: str) -> Path:
        return self._private / LOGS / f"{task}.out"

    def _attempts(self, number: int) -> list[Path]:
        """Return the folders of attempts that did not become the result, the last one last."""
        folders = (self._private / ATTEMPTS).glob(f"{self._records.name(number)}.*")
        return sorted(folders, key=lambda path: int(path.suffix[1:]))

    def _was_killed(self, number: int) -> bool:
        """Return True if the last attempt has recorded that."""
        return any((attempt / RECORD_NAME).exists() for attempt in self._attempts(number)[-1:])

    def _write(self, number: int, state: str, task: str, node: str, *, is_unseen: bool) -> None:
        """Write the folder of a job that was ended: its console and the reason."""
        name = self._records.name(number)
        folder = self._private / f"{name}.ended"
        try:
            folder.mkdir(exist_ok=True)
            text = self._console(number, state, task, node, is_unseen=is_unseen)
            write(folder / CONSOLE_NAME, text)
            record(folder, state, node=node, job_id=task)
            with contextlib.suppress(FileExistsError):
                folder.rename(self._records.directory / name)
        except OSError as error:
            if not self._private.exists():
                raise BundleError(
                    f"{self._records.directory} does not exist any more",
                    hint="if it was moved, move it back: its jobs write their results there",
                ) from error
            if error.errno != errno.ENOTEMPTY:  # else the job has ended by itself after all
                raise BundleError(
                    f"cannot write {folder}: {error.strerror}",
                    hint="name a writable folder, on a file system that the nodes see",
                ) from error
        self._records.look(1 << number)

    def _console(self, number: int, state: str, task: str, node: str, *, is_unseen: bool) -> str:
        attempts = self._attempts(number)
        consoles = [console_tail(path / CONSOLE_NAME, _CONSOLE_LINES) for path in attempts[-1:]]
        log = console_tail(self._log(task), _LOG_LINES)
        title = self._scheduler.title
        where = f"{title} job {task}" + (f" on node {node}" if node and "None" not in node else "")
        explanation = f"{_EXPLANATIONS[state].format(title=title)} ({where})"
        if is_unseen:
            explanation = (
                f"the job could not start ({where})"
                f"\ncheck on that node: can it read and write {self._records.directory}? "
                "The results folder must be on a file system that the nodes see"
            )
        return "\n".join([*filter(None, [*consoles, log]), explanation, ""])
