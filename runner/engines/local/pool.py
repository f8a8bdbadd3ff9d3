"""A pool of job processes in one environment.

    DIRECTORY/job-0001/console.txt      stdout and stderr of the job; absent if it wrote nothing
    DIRECTORY/job-0001/…                files of the job, from its working directory

The launcher prepares the environment once, and it is held until the last job has ended. Each job
is then no more than a start of its interpreter. A job finds its number, 1 to N, in
`OFFLINE_BUNDLE_JOB`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from offline_bundle.runner.engines.local.processes import JobProcesses
from offline_bundle.runner.job_files.inputs import link_inputs
from offline_bundle.runner.job_files.names import INPUT_PARAMETERS
from offline_bundle.runner.model import JobSpec
from offline_bundle.runner.results.console import console_tail
from offline_bundle.runner.standalone.job_rules import list_files
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.launcher.cold_start import Environment
from offline_bundle.wheelhouse.runtime.parallel import cpus

CONSOLE_NAME = "console.txt"

_NOT_STARTED = 126
"""The exit code of shells for a command that cannot be run."""

_TAIL_LINES = 10


@dataclass(frozen=True)
class JobResult:
    """How one job ended."""

    index: int
    """From 1."""
    directory: Path
    exit_code: int | None
    """None if a signal ended the job."""
    signal: int | None
    """The signal that ended the job, or None."""
    seconds: float
    """Wall time, including the start of the interpreter."""
    console: Path | None
    """Its stdout and stderr; None if it wrote nothing."""
    tail: str
    """Last lines of the console."""
    files: tuple[str, ...]
    """Files in its directory besides the console, as sorted relative paths."""

    @property
    def succeeded(self) -> bool:
        """True for exit code 0."""
        return self.exit_code == 0

    @property
    def state(self) -> str:
        """`done`, `exit code 3` or `killed by SIGKILL`."""
        if self.signal is not None:
            return f"killed by {_signal_name(self.signal)}"
        return "done" if self.succeeded else f"exit code {self.exit_code}"


class JobsInterruptedError(BundleError):
    """A signal ended the run, exit code 130."""

    exit_code = 130

    def __init__(self, results: Sequence[JobResult], jobs: int) -> None:
        done = sum(result.succeeded for result in results)
        super().__init__(
            f"interrupted: {done} of {jobs} jobs done, {len(results) - done} ended early, "
            f"{jobs - len(results)} not started",
            hint="run again with another --output; finished jobs are kept",
        )
        self.results = tuple(results)


class LocalPool:
    """Runs jobs in *environment*, *parallel* at a time (default: one per usable core).

    results = LocalPool(environment, parallel=8).run(specs, on_result=print)

    A failed job does not stop the others.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        parallel: int | None = None,
        console_name: str = CONSOLE_NAME,
    ) -> None:
        self._environment = environment
        self._parallel = parallel or cpus()
        self._console_name = console_name
        self._processes = JobProcesses(environment.variables(), environment.descriptor)

    def run(
        self, specs: Sequence[JobSpec], on_result: Callable[[JobResult], None] | None = None
    ) -> list[JobResult]:
        """Run the jobs, once; call *on_result* in this thread for every job that has ended.

        SIGINT and SIGTERM are forwarded to the jobs; once these have ended, `JobsInterruptedError`
        is raised. The environment is released.
        """
        try:
            results = self._run_all(specs, on_result)
        finally:
            self._environment.release()
        if self.is_stopped:
            raise JobsInterruptedError(results, len(specs))
        return results

    @property
    def is_stopped(self) -> bool:
        """True once the jobs are being ended."""
        return self._processes.stopped

    def stop(self) -> None:
        """End the jobs as Ctrl-C does, from any thread."""
        self._processes.stop(signal.SIGINT)

    def _run_all(
        self, specs: Sequence[JobSpec], on_result: Callable[[JobResult], None] | None
    ) -> list[JobResult]:
        """Return the results of the jobs that were started, in the order of their numbers."""
        results = []
        for spec in specs:
            make_directory(spec.directory)
        with (
            self._processes.forward_signals(),
            ThreadPoolExecutor(min(self._parallel, len(specs))) as threads,
        ):
            futures = [threads.submit(self._run_job, spec) for spec in specs]
            for future in as_completed(futures):
                result = future.result()
                if result:
                    results.append(result)
                    if on_result:
                        on_result(result)
        return sorted(results, key=lambda result: result.index)

    def _run_job(self, spec: JobSpec) -> JobResult | None:
        """Run one job to its end; None if it was not started any more."""
        console = spec.directory / self._console_name
        start = time.monotonic()
        fault = ""
        try:
            _write_inputs(spec)
            with console.open("xb") as stream:
                process = self._processes.start(spec, stream)
                code = self._processes.wait(process) if process else None
        except OSError as error:  # no such command, or the limit of processes or files is reached
            code = _NOT_STARTED
            reason = ": ".join(filter(None, [error.filename, error.strerror]))
            fault = f"error: the job could not start: {reason}\n"
            with contextlib.suppress(OSError):
                console.write_text(fault, encoding="utf-8")
        seconds = time.monotonic() - start
        with contextlib.suppress(OSError):
            if console.stat().st_size == 0:
                console.unlink()
        if code is None:
            return None
        return JobResult(
            index=spec.number,
            directory=spec.directory,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            seconds=seconds,
            console=console if os.path.lexists(console) else None,
            tail=console_tail(console, _TAIL_LINES) or fault.strip(),
            files=tuple(
                path for path, _ in list_files(spec.directory) if path != self._console_name
            ),
        )


def make_directory(path: Path) -> None:
    """Make the folder of a job. Raises BundleError."""
    try:
        # not writable by a group, whatever the umask
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        hint = "name a directory that can be written with --output"
        raise BundleError(f"cannot create {path}: {error.strerror}", hint=hint) from error


def _write_inputs(spec: JobSpec) -> None:
    if spec.parameters:
        text = json.dumps(dict(spec.parameters))
        (spec.directory / INPUT_PARAMETERS).write_text(text, encoding="utf-8")
    if spec.inputs:
        link_inputs(spec.inputs, spec.directory)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
