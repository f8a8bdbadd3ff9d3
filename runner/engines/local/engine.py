"""This machine as an engine: `run -j` with the values, results and page of the other engines.

The jobs end with the command that started them. Another command may poll them meanwhile: a lock
shows whether they are still being run.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from offline_bundle.runner.engines.local.jobs import free_directories
from offline_bundle.runner.engines.local.launch import prepare_environment
from offline_bundle.runner.engines.local.pool import JobResult, JobsInterruptedError, LocalPool
from offline_bundle.runner.job_files.inputs import INPUTS, write_inputs
from offline_bundle.runner.job_files.names import CONSOLE_NAME
from offline_bundle.runner.model import Counts, Failure, JobSpec, ProjectState, Results
from offline_bundle.runner.network import no_network_command
from offline_bundle.runner.options import NO_NETWORK, PARALLEL, PYTHON, Decorator
from offline_bundle.runner.request import Request, check_request, check_resources
from offline_bundle.runner.results.changes import find_failed, remove_results, set_aside
from offline_bundle.runner.results.folder import (
    PRIVATE_NAME,
    JobOutcome,
    JobRecords,
    SubmissionRecord,
    read_submission,
    record,
    write_submission,
)
from offline_bundle.runner.results.job_sets import members
from offline_bundle.runner.results.owner import ResultsOwner, lock_to_project
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.parallel import cpus

OPTIONS: tuple[Decorator, ...] = (PARALLEL, NO_NETWORK, PYTHON)
JOBS_OPTIONS: tuple[Decorator, ...] = ()

_LOCK_NAME = "lock"
_UNSUPPORTED = ("cores", "memory", "max_execution_time", "gpus", "nodes", "tasks")
_CANCEL_NAME = "cancel"
_OF_THE_JOB = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.ELOOP}
"""Errors where a job has made folders or links in the place of files: others are not concerned."""


def check_usage(_options: Mapping[str, Any], *, bundle: str | None, wait: bool) -> None:
    """Raise `click.UsageError` for options that exclude each other."""
    if not bundle:
        raise click.UsageError("--engine local requires --bundle DIR")
    if not wait:
        raise click.UsageError("--no-wait: local jobs end with this command; leave it out")


def needs_directory(_: Mapping[str, Any]) -> bool:
    """Return True: jobs work in the results folder."""
    return True


@contextlib.contextmanager
def open_engine(options: Mapping[str, Any], _: Callable[[str], None]) -> Iterator[LocalEngine]:
    """Yield the engine; on exit no job is left running."""
    engine = LocalEngine(options)
    with _end_as_interrupt():
        try:
            yield engine
        finally:
            engine.close()


@contextlib.contextmanager
def _end_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM, and SIGHUP of a closed terminal, as Ctrl-C: jobs would go on alone."""
    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():
        numbers = set()  # only the main thread receives signals
    numbers = {number for number in numbers if signal.getsignal(number) is signal.SIG_DFL}
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


class LocalEngine:
    """Runs jobs on this machine, in a thread beside the one that polls."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._opened: JobRecords | None = None
        self._pool: LocalPool | None = None
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    def submit(
        self,
        request: Request,
        directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> ProjectState:
        """Prepare the environment, and start the jobs in a thread."""
        if directory is None:
            raise InputError("local jobs need a folder", hint="name one with --download")
        check_resources(request, "local", *_UNSUPPORTED)
        files = check_request(request)
        progress("preparing the environment")
        directory = directory.absolute()
        free_directories(directory, len(request.values.rows))
        rows, details = request.values.rows, self._details(request)
        plan = SubmissionRecord(request.project_name, "local", rows, request.wanted, details)
        lock_to_project(directory, ResultsOwner(str(directory), request.project_name, "local"))
        self._opened = JobRecords(directory, plan)
        try:
            (directory / PRIVATE_NAME).mkdir(mode=0o700)
            with self._locked() as lock:
                write_inputs(files, directory / PRIVATE_NAME / INPUTS)
                specs = self._prepare()
                write_submission(directory, plan)
                self._start(specs, lock)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)  # it has only what was written above
            raise
        return self._state()

    def find(self, name_or_id: str) -> ProjectState:
        """Find jobs by their folder."""
        directory = Path(name_or_id).absolute()
        self._opened = JobRecords(directory, read_submission(directory, "local"))
        self._read_records()
        return self._state()

    def list_projects(self) -> list[ProjectState]:
        """Raise: there is no list of local jobs."""
        raise InputError("local jobs are not listed", hint="name the results folder")

    def poll(self, _: ProjectState) -> Counts:
        """Count the jobs that have ended; raise the error that stopped the others."""
        if self._thread is None:
            self._read_records()
        elif self._fault is not None:
            raise self._fault
        elif self._cancel_file.exists():  # another command has created it
            self.close()
        return self._state().counts

    def pending_reason(self, project: ProjectState) -> str:
        """Return that the reason is unknown: local jobs start at once."""
        return f"the reason is unknown; see the processes of {project.name}"

    def scheduler_jobs(self, _: ProjectState) -> tuple[str, ...]:
        """Return none."""
        return ()

    def results(
        self,
        _: ProjectState,
        directory: Path,
        _progress: Callable[[int, int], None] | None = None,
    ) -> Results:
        """Write the page; the files are in the folder already."""
        return self._records.results(directory)

    def read_console(self, _: ProjectState, job: str, *, is_last: bool = False) -> str:
        """Return new text from the folder of the job, or of its attempt."""
        del is_last
        return self._records.read_console(job)

    def failures(self, _: ProjectState, limit: int) -> list[Failure]:
        """Return the first failed jobs and their consoles."""
        return self._records.failures(limit)

    def resume_arguments(self, project: ProjectState, _: Path | None) -> list[str]:
        """Return the folder."""
        return [project.project_id]

    def cancel(self, _: ProjectState) -> None:
        """End the jobs; another command that runs them does so at its next poll."""
        if self._thread is None:
            self._cancel_file.touch()
        self.close()

    def retry(self, project: ProjectState, is_chosen: Callable[[str, str], bool]) -> int:
        """Start failed jobs again, here."""
        del project
        with self._locked() as lock:
            # another command may have started some of them meanwhile
            self._opened = JobRecords(self._records.directory, self._records.plan)
            self._cancel_unfinished()
            numbers = find_failed(self._records, is_chosen)
            if numbers:
                self._cancel_file.unlink(missing_ok=True)
                with set_aside(self._records, numbers):
                    specs = self._prepare()
                self._start([spec for spec in specs if spec.number in numbers], lock)
        return len(numbers)

    def delete(self, _: ProjectState) -> None:
        """Remove the folder."""
        remove_results(self._records.directory, self._records.plan.names)

    def on_interrupt(self, project: ProjectState) -> str | None:
        """End the jobs, unless another command runs them."""
        if self._thread is None:
            return None
        self.close()
        counts = self._state().counts
        ended = f"the jobs of {project.name} were ended"
        return f"{ended}; {counts.count('done')} of {counts.total} are done"

    def close(self) -> None:
        """End the running jobs, start no others, and wait until they have ended."""
        if self._thread and self._thread.is_alive() and self._pool:
            self._pool.stop()
        if self._thread:
            self._thread.join()

    def _details(self, request: Request) -> dict[str, Any]:
        """Return what running the jobs needs, for this command and for `jobs --retry-failed`."""
        return {
            "script": request.script.name,
            "bundle": str(Path(str(request.bundle)).absolute()),
            "environment": request.variables,
            "arguments": [request.arguments_of(row) for row in request.values.rows],
            "run_with": list(request.run_with),
            "parallel": self._options.get("parallel") or cpus(),
            **{name: self._options.get(name) for name in ("no_network", "python")},
        }

    def _prepare(self) -> list[JobSpec]:
        """Prepare the environment; return all jobs."""
        records, details = self._records, self._records.plan.details
        no_network = bool(details["no_network"])
        inputs = tuple(sorted((records.directory / PRIVATE_NAME / INPUTS).iterdir()))
        script = records.directory / PRIVATE_NAME / INPUTS / details["script"]
        environment = prepare_environment(
            script, Path(details["bundle"]), no_network=no_network, python=details["python"]
        )
        self._pool = LocalPool(environment, parallel=self._parallel, console_name=CONSOLE_NAME)
        variables = {**details["environment"], "OFFLINE_BUNDLE_JOBS": str(len(records.plan.rows))}
        specs = []
        for number, row in enumerate(records.plan.rows, 1):
            folder = records.directory / records.name(number)
            command = [*details["run_with"], environment.python, str(folder / script.name)]
            command += details["arguments"][number - 1]
            words = tuple(no_network_command(command) if no_network else command)
            specs.append(JobSpec(number, folder, words, variables, inputs, row))
        return specs

    @contextlib.contextmanager
    def _locked(self) -> Iterator[contextlib.ExitStack]:
        """Yield the lock of the command that runs the jobs. Raises `InputError` if another does.

        It is released at the end, unless `_start` has given it to the thread.
        """
        lock = FileLock(self._records.directory / PRIVATE_NAME / _LOCK_NAME)
        if not lock.acquire(block=False):
            raise InputError(
                f"the jobs of {self._records.plan.name} are under way",
                hint="wait until they have ended, or end them with --cancel",
            )
        with contextlib.ExitStack() as stack:
            stack.callback(lock.release)
            yield stack

    def _start(self, specs: list[JobSpec], lock: contextlib.ExitStack) -> None:
        """Start a thread that runs jobs under the *lock*."""
        arguments = [specs, lock.pop_all()]
        self._thread = threading.Thread(target=self._run, args=arguments, name="jobs")
        self._thread.start()

    @property
    def _cancel_file(self) -> Path:
        return self._records.directory / PRIVATE_NAME / _CANCEL_NAME

    def _run(self, specs: list[JobSpec], lock: contextlib.ExitStack) -> None:
        """Run the jobs, and release the *lock*; an error is raised by the next poll."""
        records = self._records
        with lock:
            try:
                if pool := self._pool:
                    pool.run(specs, lambda done: _record(records, done, pool.is_stopped))
            except JobsInterruptedError:
                pass  # `on_interrupt` or `close` stopped them
            except BaseException as error:  # noqa: BLE001 - it is raised by the next poll
                self._fault = error
            self._cancel_unfinished()

    @property
    def _records(self) -> JobRecords:
        if self._opened is None:
            raise RuntimeError("call submit() or find() first")
        return self._opened

    def _state(self) -> ProjectState:
        return self._records.state(str(self._records.directory), self._parallel)

    @property
    def _parallel(self) -> int:
        parallel: int | None = self._records.plan.details["parallel"]
        return parallel or cpus()  # None: of an older version

    def _read_records(self) -> None:
        """Read how the jobs of another command ended; if it is gone, so are its jobs."""
        if not self._poll_lock():
            self._cancel_unfinished()
            return
        running = 0  # jobs start in their order: none has ended behind as many as may run
        for number in members(self._records.unfinished):
            running += self._records.look(1 << number).bit_count()
            if running == self._parallel:
                return

    def _poll_lock(self) -> bool:
        """Return True if a command runs the jobs."""
        lock = FileLock(self._records.directory / PRIVATE_NAME / _LOCK_NAME)
        is_running = not lock.acquire(block=False)
        lock.release()
        return is_running

    def _cancel_unfinished(self) -> None:
        records = self._records
        for number in members(records.look(records.unfinished)):
            records.end(number, JobOutcome("cancelled"))


def _record(records: JobRecords, result: JobResult, is_stopped: bool) -> None:  # noqa: FBT001 - private
    """Write down how a job ended; one without its outputs has failed, or was cancelled."""
    outputs = records.plan.outputs
    lines = [result.state]
    if result.succeeded:
        lines = outputs.problems([path for path, _ in outputs.find(result.directory)])
    state = ("cancelled" if is_stopped else "failed") if lines else "done"
    ended = time.time()
    try:
        result.directory.mkdir(exist_ok=True)  # a job may remove its folder
        if lines:
            with (result.directory / CONSOLE_NAME).open("a", encoding="utf-8") as console:
                console.write("".join(f"{line}\n" for line in lines))
        record(
            result.directory,
            state,
            code=result.exit_code,
            started=ended - result.seconds,
            ended=ended,
        )
    except OSError as error:
        if error.errno in _OF_THE_JOB:
            records.end(result.index, JobOutcome("lost"))
            return
        raise BundleError(
            f"cannot write {result.directory}: {error.strerror}",
            hint="free some space, or check the permissions of that folder",
        ) from error
    records.look(1 << result.index)
