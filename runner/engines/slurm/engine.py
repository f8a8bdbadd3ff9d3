"""Slurm: jobs as tasks of job arrays, which work in a folder that the nodes see.

Each job's end is a file that it writes itself (see `runner/slurm_script.py`), so neither accounting nor Slurm's short
memory is needed for it. Of the others, those that Slurm ended, it tells why while it remembers; its words in the job's
log say so later. A look is one `squeue` for each array, whatever the number of tasks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.runner.console import console_tail
from offline_bundle.runner.engines.slurm import commands
from offline_bundle.runner.engines.slurm.batch_script import (
    ATTEMPTS,
    INPUTS,
    LOGS,
    SCRIPT_NAME,
    VALUES_NAME,
    render_script,
    render_values,
)
from offline_bundle.runner.options import PARALLEL, Decorator
from offline_bundle.runner.results.folder import (
    CONSOLE_NAME,
    PRIVATE_NAME,
    RECORD_NAME,
    JobOutcome,
    JobRecords,
    ResultsOwner,
    SubmissionRecord,
    lock_to_project,
    read_submission,
    record,
    write,
    write_submission,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from offline_bundle.runner.model import Counts, Failure, ProjectState, Results
    from offline_bundle.runner.request import Request

_OURS = {
    "array",
    "chdir",
    "output",
    "error",
    "open-mode",
    "parsable",
    "wrap",
    "wait",
    "test-only",
    "job-name",
    "help",
}
"""Options of sbatch that this engine sets itself."""

_PATIENCE_SECONDS = 1800.0
"""How long a controller that does not answer is waited for: jobs go on without it."""

_SETTLE_SECONDS = 60.0
"""How long a file may take to be seen through a network file system after its writer has gone."""

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
    "COMPLETED": "failed",  # by its own account well, but it has left nothing
}
_WORDS = {
    "oom_kill": "out of memory",
    "oom-kill": "out of memory",
    "xceeded job memory limit": "out of memory",
    "xceeded memory limit": "out of memory",
    "DUE TO TIME LIMIT": "timeout",
    "DUE TO NODE FAILURE": "node failed",
    "DUE TO PREEMPTION": "cancelled",
    "CANCELLED AT": "cancelled",  # the beginning of the three above, too
}
"""What Slurm writes into the log of a job that it ends; its state may say no more than `FAILED` then."""

_LOCK_NAME = "lock"
_LOG_LINES = 20
_CONSOLE_LINES = 200

_SAID = {
    "timeout": "Slurm ended it: it was over its time limit",
    "out of memory": "Slurm ended it: it used more memory than it had asked for",
    "node failed": "its node failed, and Slurm did not start it again",
    "cancelled": "it was cancelled",
    "failed": "it was killed, or could not begin",
    "lost": "it has left the queue without a word: somebody removed it, or its node failed",
}

OPTIONS: tuple[Decorator, ...] = (
    click.option("--partition", metavar="NAME", help="Partition of the jobs.  [default: Slurm's]"),
    click.option("--account", metavar="NAME", help="Account to charge.  [default: yours]"),
    click.option("--qos", metavar="NAME", help="Quality of service.  [default: yours]"),
    click.option(
        "--slurm-option",
        "slurm_options",
        multiple=True,
        metavar="KEY[=VALUE]",
        help="Any further option of sbatch, as in `constraint=icelake`; repeatable.",
    ),
    PARALLEL,
    click.option(
        "--node-cache",
        metavar="DIR",
        help="Where nodes keep environments: a folder of yours on a local disk that outlives the job.  "
        "[default: OFFLINE_BUNDLE_CACHE, or in TMPDIR unless that is the job's own, or in /tmp]",
    ),
    click.option("--cancel-on-interrupt", is_flag=True, help="Ctrl-C ends the jobs, too."),
)
JOBS_OPTIONS: tuple[Decorator, ...] = (OPTIONS[-1],)


def check_usage(options: Mapping[str, Any], *, bundle: str | None, wait: bool) -> None:
    """Refuse options that do not go together. Raises `click.UsageError`."""
    if not bundle:
        raise click.UsageError(
            "--engine slurm needs --bundle DIR, in a file system that the nodes see"
        )
    if options["cancel_on_interrupt"] and not wait:
        raise click.UsageError("--cancel-on-interrupt is about waiting: leave out --no-wait")
    for option in options["slurm_options"]:
        name = option.partition("=")[0]
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise click.UsageError(
                f"--slurm-option {option!r} is not KEY=VALUE, without the dashes in front"
            )
        if name in _OURS:
            raise click.UsageError(f"--slurm-option {name}: this is set by offline-bundle itself")
    if options["node_cache"] and not Path(options["node_cache"]).is_absolute():
        raise click.UsageError("--node-cache must be an absolute path: it is one on the nodes")


def needs_directory(_: Mapping[str, Any]) -> bool:
    """Jobs work in the folder of their results."""
    return True


@contextlib.contextmanager
def open_engine(options: Mapping[str, Any], notice: Callable[[str], None]) -> Iterator[SlurmEngine]:
    """Give the engine: there is nothing to open."""
    yield SlurmEngine(options, notice)


class SlurmEngine:
    """Slurm, as its commands on this machine reach it."""

    def __init__(self, options: Mapping[str, Any], notice: Callable[[str], None]) -> None:
        self._options = options
        self._notice = notice
        self._folders: dict[str, _Submission] = {}

    def submit(
        self,
        request: Request,
        directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> ProjectState:
        """Lay out the folder and submit the arrays; take all back where one of them is refused."""
        from offline_bundle.runner.request import check_request

        if directory is None:
            raise InputError(
                "jobs of Slurm need a folder to work in", hint="name one with --download"
            )
        check_request(request)
        problems = [
            f"--env {name}: a shell has no such name"
            for name in request.environment
            if not _is_name(name)
        ]
        if not Path(str(request.bundle)).is_absolute():
            problems.append(
                f"--bundle {request.bundle}: there is no such folder here, so name it as the nodes see it"
            )
        if problems:
            hint = "correct the options that are named, and submit again"
            raise InputError("the submission cannot be made", problems=problems, hint=hint)
        progress("writing the folder")
        submission = _Submission.make(directory.absolute(), request, self._options, self._notice)
        progress("submitting")
        submission.submit_all()
        self._folders[str(submission.directory)] = submission
        return submission.state()

    def find(self, name_or_id: str) -> ProjectState:
        """Find a submission by its folder, or by the identifier of a job that Slurm still knows."""
        folder = Path(name_or_id).absolute()
        if not folder.is_dir() and name_or_id.isdecimal():
            place = commands.work_directory(name_or_id)
            if place is None or place.name != PRIVATE_NAME:
                raise InputError(
                    f"Slurm knows of no job {name_or_id} of ours (any more)",
                    hint="name the folder of the results: offline-bundle jobs DIR",
                )
            folder = place.parent
        submission = self._folders[str(folder)] = _Submission.read(folder, self._notice)
        submission.look()
        return submission.state()

    def list_projects(self) -> list[ProjectState]:
        """List those in the queue; of others Slurm knows nothing, but their folders do."""
        folders = [
            queued.directory.parent
            for queued in commands.mine()
            if queued.directory.name == PRIVATE_NAME
        ]
        return [
            self.find(str(folder)) for folder in dict.fromkeys(reversed(folders)) if folder.is_dir()
        ]

    def poll(self, project: ProjectState) -> Counts:
        """Ask the queue, once for each array, and read the ends of those that have left it."""
        submission = self._folders[project.project_id]
        submission.look()
        return submission.state().counts

    def pending_reason(self, project: ProjectState) -> str:
        """Repeat Slurm's reasons."""
        reasons = sorted(self._folders[project.project_id].reasons - {"None"})
        return f"Slurm says {', '.join(reasons)}" if reasons else "Slurm does not say why"

    def results(
        self,
        project: ProjectState,
        directory: Path,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Results:
        """Write the page: the files are there."""
        return self._folders[project.project_id].ledger.results(directory, progress)

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Read the consoles of those that failed."""
        return self._folders[project.project_id].ledger.failures(limit)

    def resume_arguments(self, project: ProjectState, directory: Path | None) -> list[str]:
        """Name the folder."""
        del directory
        return [project.project_id, "--wait"]

    def on_interrupt(self, project: ProjectState) -> str | None:
        """Cancel the jobs where that was asked for."""
        if not self._options.get("cancel_on_interrupt"):
            return None
        self._folders[project.project_id].cancel()
        return "the jobs are cancelled"


class _Submission:
    """A folder whose jobs Slurm runs."""

    def __init__(self, directory: Path, ledger: JobRecords, notice: Callable[[str], None]) -> None:
        self.directory = directory
        self.ledger = ledger
        self.reasons: set[str] = set()
        self._notice = notice
        self._limit = int(ledger.plan.details["limit"])
        self._is_limit_said = False
        self._running = 0
        self._outage: float | None = None
        self._missed: dict[int, float] = {}
        """Jobs that have left the queue without a record → since when."""

    @classmethod
    def make(
        cls,
        directory: Path,
        request: Request,
        options: Mapping[str, Any],
        notice: Callable[[str], None],
    ) -> _Submission:
        """Write all that the jobs read."""
        limit = commands.array_limit()
        private = directory / PRIVATE_NAME
        lock_to_project(directory, ResultsOwner(str(directory), request.project_name, "slurm"))
        try:
            private.mkdir(mode=0o700)
            for name in (ATTEMPTS, INPUTS, LOGS):
                (private / name).mkdir()
            for path in (request.script, *request.inputs):
                shutil.copy(path, private / INPUTS / path.name)
            records, size = render_values(request.values.rows)
            (private / VALUES_NAME).write_bytes(records)
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
            details = {
                "arrays": [],
                "is_cancelled": False,
                "limit": limit,
                "options": _sbatch_options(request, options, directory),
                "throttle": f"%{options['parallel']}" if options.get("parallel") else "",
            }
            plan = SubmissionRecord(request.project_name, "slurm", request.values.rows, names, details)
            write_submission(directory, plan)
        except OSError as error:
            hint = (
                "name a folder in a file system with room that the nodes see, too: --download DIR"
            )
            raise BundleError(
                f"{directory} cannot be written: {error.strerror}", hint=hint
            ) from error
        return cls(directory, JobRecords(directory, plan), notice)

    @classmethod
    def read(cls, directory: Path, notice: Callable[[str], None]) -> _Submission:
        """Come back to a folder."""
        submission = cls(directory, JobRecords(directory, read_submission(directory, "slurm")), notice)
        submission.ledger.look(range(1, len(submission.ledger.plan.rows) + 1))
        return submission

    def state(self) -> ProjectState:
        """Describe it as it was at the last look."""
        return self.ledger.state(str(self.directory), self._running)

    def submit_all(self) -> None:
        """Submit for the first time; where that fails, take back what there is of it."""
        try:
            self._submit_rest()
        except BaseException:
            with contextlib.suppress(BundleError):
                self.cancel()
            if not self._arrays:  # nothing was ever started here, so all there is was written by us
                shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def look(self) -> None:
        """Bring the counts up to date; an outage of Slurm leaves them as they are, for a while."""
        try:
            self._ask_queue()
            self._submit_rest()
        except commands.UnreachableError as error:
            self._ride_out(error)
        else:
            if self._outage is not None:
                self._outage = None
                self._notice("Slurm answers again")

    def cancel(self) -> None:
        """End the jobs that have not ended, and submit no others."""
        self._change(is_cancelled=True)
        commands.cancel([job_id for job_id, _, _ in self._arrays])

    @property
    def _arrays(self) -> list[tuple[str, int, int]]:
        """Identifier, number of the job with index 1, number of jobs."""
        found: list[tuple[str, int, int]] = self.ledger.plan.details["arrays"]
        return found

    def _change(self, **details: object) -> None:
        plan = self.ledger.plan
        self.ledger.plan = dataclasses.replace(plan, details={**plan.details, **details})
        write_submission(self.directory, self.ledger.plan)

    def _rest(self) -> range:
        """The numbers of the jobs that have not been submitted."""
        return range(1 + sum(size for _, _, size in self._arrays), len(self.ledger.plan.rows) + 1)

    def _submit_rest(self) -> None:
        """Submit arrays until all jobs are in the queue, or until Slurm will have no more of them for now.

        Only one of the commands that wait for these jobs does so at a time.
        """
        from offline_bundle.wheelhouse.runtime.locks import FileLock

        if not self._rest():
            return
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a file system without locks
                lock = FileLock(self.directory / PRIVATE_NAME / _LOCK_NAME)
                if not lock.acquire(block=False):
                    return
                stack.callback(lock.release)
            self.ledger.plan = read_submission(
                self.directory, "slurm"
            )  # another command may have submitted some
            if self.ledger.plan.details["is_cancelled"]:
                self.ledger.ended |= dict.fromkeys(self._rest(), JobOutcome("cancelled"))
                return
            while rest := self._rest():
                if not self._submit_some(rest):
                    return

    def _submit_some(self, rest: range) -> bool:
        """Submit as many of the *rest* as an array may have; return False where there has to be room first."""
        size = min(self._limit, len(rest))
        script = self.directory / PRIVATE_NAME / SCRIPT_NAME
        details = self.ledger.plan.details
        options = [*details["options"], f"--array=1-{size}{details['throttle']}"]
        try:
            job_id = commands.submit(script, options, [str(rest[0] - 1)])
        except commands.SubmitLimitError as error:
            if len(self.ledger.ended) < rest[0] - 1:
                if not self._is_limit_said:
                    self._notice(
                        f"not all jobs may be in the queue at once ({error.message}); the others follow"
                    )
                    self._is_limit_said = True
                return False
            if size == 1:
                raise
            self._limit = math.ceil(size / 2)
            return True
        self._change(arrays=[*self._arrays, (job_id, rest[0], size)])
        return True

    def _ride_out(self, error: BundleError) -> None:
        """Bear an outage of Slurm; raise where there has been enough of it."""
        now = time.monotonic()
        if self._outage is None:
            self._outage = now
            self._notice(f"Slurm does not answer ({error.message}); trying again")
        if now - self._outage > _PATIENCE_SECONDS:
            raise error

    def _ask_queue(self) -> None:
        """Find out which jobs wait and run, and how those that do not have ended."""
        running = 0
        for job_id, first, size in self._arrays:
            numbers = range(first, first + size)
            if all(number in self.ledger.ended for number in numbers):
                continue
            lines = commands.queue(job_id)
            self.reasons = {line.reason for line in lines if line.state == "PENDING"}
            there = {first - 1 + index: line.state for line in lines for index in line.indices}
            gone = self.ledger.look(number for number in numbers if number not in there)
            running += sum(state != "PENDING" for state in there.values())
            running += self._settle(job_id, first, gone) if gone else 0
        self._running = running

    def _settle(self, job_id: str, first: int, gone: Sequence[int]) -> int:
        """Find out why jobs have left the queue without a record, and write it down; return how many are not clear."""
        known: dict[int, str] = {}
        for tasks in commands.queue(job_id, with_ended=True):
            known |= {first - 1 + index: tasks.state for index in tasks.indices}
        unclear = 0
        for number in self.ledger.look(gone):  # its record may have come meanwhile
            since = self._missed.setdefault(number, time.monotonic())
            state = _STATES.get(known.get(number, ""))
            if state in {None, "failed"}:
                state = self._state_by_log(job_id, first, number) or state
            is_clear = state not in {None, "failed"} or self._was_killed(number)
            if is_clear or time.monotonic() - since > _SETTLE_SECONDS:
                accounted = commands.accounted(job_id) if state is None else {}
                self._write_end(
                    number, state or _STATES.get(accounted.get(number - first + 1, ""), "lost")
                )
            else:
                unclear += 1
        return unclear

    def _state_by_log(self, job_id: str, first: int, number: int) -> str | None:
        """Read from a job's log what Slurm has done to it since it was last requeued."""
        said = console_tail(self._log(job_id, first, number), _LOG_LINES).rpartition(
            "DUE TO JOB REQUEUE"
        )[2]
        return next((state for words, state in _WORDS.items() if words in said), None)

    def _log(self, job_id: str, first: int, number: int) -> Path:
        return self.directory / PRIVATE_NAME / LOGS / f"{job_id}_{number - first + 1}.out"

    def _attempts(self, number: int) -> list[Path]:
        """List the folders of the attempts at a job that have not become its result, the last one last."""
        found = (self.directory / PRIVATE_NAME / ATTEMPTS).glob(f"{self.ledger.name(number)}.*.*")
        return sorted(found, key=lambda path: tuple(map(int, path.name.split(".")[1:])))

    def _was_killed(self, number: int) -> bool:
        """Whether the job's last attempt has said so."""
        return any((attempt / RECORD_NAME).exists() for attempt in self._attempts(number)[-1:])

    def _write_end(self, number: int, state: str) -> None:
        """Give a job that Slurm ended its folder, with its console and why; nothing else of the attempt."""
        name = self.ledger.name(number)
        said = [
            console_tail(attempt / CONSOLE_NAME, _CONSOLE_LINES)
            for attempt in self._attempts(number)[-1:]
        ]
        for job_id, first, size in self._arrays:
            if first <= number < first + size:
                said.append(console_tail(self._log(job_id, first, number), _LOG_LINES))
        folder = self.directory / PRIVATE_NAME / f"{name}.ended"
        try:
            folder.mkdir(exist_ok=True)
            write(folder / CONSOLE_NAME, "\n".join([*filter(None, said), _SAID[state], ""]))
            record(folder, state)
            with contextlib.suppress(FileExistsError):
                folder.rename(self.directory / name)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # it has ended by itself after all
                hint = "name a folder that can be written, on a file system that the nodes see"
                raise BundleError(
                    f"{folder} cannot be written: {error.strerror}", hint=hint
                ) from error
        self.ledger.look([number])


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None


def _sbatch_options(request: Request, options: Mapping[str, Any], directory: Path) -> list[str]:
    """Say in sbatch's options what a submission asks for."""
    private = str(directory / PRIVATE_NAME)
    words = [
        f"--job-name={request.project_name}",
        f"--chdir={private}",
        f"--output={private.replace('%', '%%')}/{LOGS}/%A_%a.out",
        "--open-mode=append",
        f"--cpus-per-task={math.ceil(request.cores or 1)}",
    ]
    if request.memory:
        words.append(f"--mem={math.ceil(request.memory / 1024)}K")
    if request.max_execution_time:
        seconds = math.ceil(request.max_execution_time)
        words.append(f"--time={seconds // 60}:{seconds % 60:02}")
    words += [
        f"--{name}={options[name]}" for name in ("partition", "account", "qos") if options[name]
    ]
    return words + [f"--{option}" for option in options["slurm_options"]]
