"""This machine as an engine: the jobs of `offline-bundle run -j`, with values, results and a page as elsewhere.

The jobs end with the command that started them. Another one may look at them meanwhile: a lock says whether they are
still being run.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.runner.cli.sizes import PARALLEL, Decorator
from offline_bundle.runner.results.folder import (
    CONSOLE_NAME,
    INPUT_PARAMETERS,
    PRIVATE_NAME,
    Ended,
    Ledger,
    Owner,
    Plan,
    claim,
    read_plan,
    record,
    write_plan,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from offline_bundle.runner.engine import Counts, Failure, ProjectState, Results
    from offline_bundle.runner.engines.local.pool import JobResult, Jobs
    from offline_bundle.runner.request import Request

OPTIONS: tuple[Decorator, ...] = (
    PARALLEL,
    click.option("--sealed", is_flag=True, help="Without a network: only loopback is there."),
    click.option(
        "--python", metavar="PATH", help="The interpreter to use.  [default: one that fits]"
    ),
)
JOBS_OPTIONS: tuple[Decorator, ...] = ()

_LOCK_NAME = "lock"


def check_usage(options: Mapping[str, Any], *, bundle: str | None, waits: bool) -> None:
    """Refuse options that do not go together. Raises `click.UsageError`."""
    del options
    if not bundle:
        raise click.UsageError("--engine local needs --bundle DIR")
    if not waits:
        raise click.UsageError("jobs on this machine end with this command: leave out --no-wait")


def needs_directory(_: Mapping[str, Any]) -> bool:
    """Jobs work in the folder of their results."""
    return True


@contextlib.contextmanager
def open_engine(options: Mapping[str, Any], notice: Callable[[str], None]) -> Iterator[LocalEngine]:
    """Give the engine; at the end, whatever it is, no job is left running."""
    del notice
    engine = LocalEngine(options)
    try:
        yield engine
    finally:
        engine.close()


class LocalEngine:
    """This machine."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._ledger: Ledger | None = None
        self._jobs: Jobs | None = None
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    def submit(
        self,
        request: Request,
        directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> ProjectState:
        """Make the environment, and start the jobs in a thread beside this one."""
        from offline_bundle.runner.engines.local.pool import Jobs
        from offline_bundle.runner.request import check

        if directory is None:
            raise InputError("jobs need a folder to work in", hint="name one with --download")
        limits = {
            "--cores": request.cores,
            "--memory": request.memory,
            "--max-execution-time": request.max_execution_time,
        }
        for name in (name for name, given in limits.items() if given):
            raise InputError(
                f"{name}: nothing on this machine would hold jobs to it", hint="leave it out"
            )
        check(request)
        progress("making the environment")
        directory = directory.absolute()
        rows = request.values.rows
        names = tuple(path.name for path in request.inputs)
        claim(directory, Owner(str(directory), request.project_name, "local"))
        (directory / PRIVATE_NAME).mkdir(mode=0o700)
        plan = Plan(request.project_name, "local", rows, names, {})

        def furnish(number: int, folder: Path) -> None:
            if rows[number - 1]:
                (folder / INPUT_PARAMETERS).write_text(
                    json.dumps(dict(rows[number - 1])), encoding="utf-8"
                )
            for path in request.inputs:
                shutil.copy(path, folder)

        try:
            self._jobs = Jobs(
                request.script,
                Path(str(request.bundle)),
                jobs=len(rows),
                directory=directory,
                sealed=bool(self._options.get("sealed")),
                parallel=self._options.get("parallel"),
                python=self._options.get("python"),
                console_name=CONSOLE_NAME,
                variables=request.environment,
                furnish=furnish,
            )
        except BaseException:
            shutil.rmtree(
                directory, ignore_errors=True
            )  # there is nothing in it but what was written above
            raise
        write_plan(directory, plan)
        self._ledger = Ledger(directory, plan)
        self._thread = threading.Thread(target=self._run, args=[request.outputs], name="jobs")
        self._thread.start()
        return self._state()

    def find(self, name_or_id: str) -> ProjectState:
        """Find jobs by their folder."""
        directory = Path(name_or_id).absolute()
        self._ledger = Ledger(directory, read_plan(directory, "local"))
        self._read()
        return self._state()

    def recent(self) -> list[ProjectState]:
        """Jobs on this machine are listed nowhere."""
        raise InputError(
            "which jobs? those on this machine are listed nowhere",
            hint="name the folder of the results",
        )

    def look(self, project: ProjectState) -> Counts:
        """Count those that have ended; raise what stopped the others."""
        del project
        if self._thread is None:
            self._read()
        elif self._fault is not None:
            raise self._fault
        return self._state().counts

    def standstill(self, project: ProjectState) -> str:
        """Jobs start at once here, so there is no such thing."""
        return f"nothing is known of what keeps {project.name}"

    def results(
        self,
        project: ProjectState,
        directory: Path,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Results:
        """Write the page: the files are there."""
        del project
        return self._own().results(directory, progress)

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Read the consoles of those that failed."""
        del project
        return self._own().failures(limit)

    def way_back(self, project: ProjectState, directory: Path | None) -> list[str]:
        """Name the folder."""
        del directory
        return [project.project_id]

    def interrupted(self, project: ProjectState) -> str | None:
        """End the jobs, unless another command runs them."""
        if self._thread is None:
            return None
        self.close()
        counts = self._state().counts
        return f"the jobs of {project.name} were ended; {counts.count('done')} of {counts.total} are done"

    def close(self) -> None:
        """End the jobs that run, start no other, and wait until they have gone."""
        if self._thread and self._thread.is_alive() and self._jobs:
            self._jobs.stop()
        if self._thread:
            self._thread.join()

    def _run(self, outputs: tuple[str, ...]) -> None:
        from offline_bundle.runner.engines.local.pool import (
            JobsInterruptedError,
        )
        from offline_bundle.wheelhouse.runtime.locks import FileLock

        ledger = self._own()
        with FileLock(ledger.directory / PRIVATE_NAME / _LOCK_NAME):
            try:
                if self._jobs:
                    self._jobs.run(lambda result: _note(ledger, result, outputs))
            except JobsInterruptedError:
                pass  # whoever stopped them knows
            except BaseException as error:  # noqa: BLE001 - it is raised by the next look
                self._fault = error
            for number in ledger.look(range(1, len(ledger.plan.rows) + 1)):
                ledger.ended[number] = Ended("cancelled")

    def _own(self) -> Ledger:
        if self._ledger is None:
            raise RuntimeError("neither submitted nor found")
        return self._ledger

    def _state(self) -> ProjectState:
        from offline_bundle.runner.engines.local.pool import usable_cores

        ledger = self._own()
        running = self._options.get("parallel") or usable_cores()
        return ledger.state(str(ledger.directory), running)

    def _read(self) -> None:
        """Read how the jobs of another command have ended; where it has gone, so have they."""
        from offline_bundle.wheelhouse.runtime.locks import FileLock

        ledger = self._own()
        lock = FileLock(ledger.directory / PRIVATE_NAME / _LOCK_NAME)
        is_run = not lock.acquire(block=False)
        lock.release()
        for number in ledger.look(range(1, len(ledger.plan.rows) + 1)):
            if not is_run:
                ledger.ended[number] = Ended("cancelled")


def _note(ledger: Ledger, result: JobResult, outputs: tuple[str, ...]) -> None:
    """Write down how a job ended; one that left no output has failed."""
    missing = (
        [name for name in outputs if not (result.directory / name).exists()]
        if result.succeeded
        else []
    )
    ended = time.time()
    try:
        if missing or not result.succeeded:
            with (result.directory / CONSOLE_NAME).open("a", encoding="utf-8") as console:
                for name in missing:
                    console.write(f"error: the script left no {name}\n")
                if not missing:
                    console.write(f"{result.state}\n")
        state = "failed" if missing or not result.succeeded else "done"
        record(
            result.directory,
            state,
            code=result.exit_code,
            started=ended - result.seconds,
            ended=ended,
        )
    except OSError as error:
        hint = "make room, or check the permissions of that folder"
        raise BundleError(
            f"{result.directory} cannot be written: {error.strerror}", hint=hint
        ) from error
    ledger.look([result.index])
