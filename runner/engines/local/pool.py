"""One script on this machine: in place of this process, or as N jobs, each in a directory of its own.

    DIRECTORY/job-0001/console.txt      what the job wrote to stdout and stderr; absent if that was nothing
    DIRECTORY/job-0001/…                what it left in its working directory

The environment is prepared once, by the launcher's own code (`wheelhouse/prepare.py`), and held until the last job has
ended; each job is then no more than a start of its interpreter. A job finds its number, 1 to N, in
`OFFLINE_BUNDLE_JOB`, and N in `OFFLINE_BUNDLE_JOBS`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from offline_bundle.runner.console import tail_of
from offline_bundle.runner.engine import job_name
from offline_bundle.runner.network import seal_command
from offline_bundle.wheelhouse import runtime
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    InputError,
    IntegrityError,
    NotInBundleError,
    SignatureError,
)
from offline_bundle.wheelhouse.runtime.launcher.cold_start import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from offline_bundle.wheelhouse.runtime.launcher.cold_start import Environment

_LAUNCHER = (
    sys.executable,
    "-I",
    "-c",
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from runtime.launcher.entry import main; sys.exit(main())",
    str(Path(runtime.__file__).parents[1]),
)
"""The launcher as this version of offline-bundle has it, imported: modules are compiled once."""

CONSOLE_NAME = "console.txt"

_GRACE_SECONDS = 10.0
"""How long a job has to leave after a signal was passed on to it, before it is killed."""

_NOT_STARTED = 126
"""The exit code that shells use for a command that cannot be run."""

_TAIL_LINES = 10


@dataclass(frozen=True)
class JobResult:
    """How one job ended."""

    index: int
    """From 1."""
    directory: Path
    exit_code: int | None
    """None where a signal ended it."""
    signal: int | None
    """The signal that ended it, or None."""
    seconds: float
    """Wall time, with the start of the interpreter."""
    console: Path | None
    """Its stdout and stderr; None where it wrote nothing."""
    tail: str
    """The last lines of the console."""
    files: tuple[str, ...]
    """What it left in its directory besides the console, as sorted relative paths."""

    @property
    def succeeded(self) -> bool:
        """Whether it left with exit code 0."""
        return self.exit_code == 0

    @property
    def state(self) -> str:
        """`done`, `exit code 3` or `killed by SIGKILL`."""
        if self.signal is not None:
            return f"killed by {_signal_name(self.signal)}"
        return "done" if self.succeeded else f"exit code {self.exit_code}"


class JobsInterruptedError(BundleError):
    """A signal ended the run: exit 130, as shells have it."""

    exit_code = 130

    def __init__(self, results: Sequence[JobResult], jobs: int) -> None:
        done = sum(result.succeeded for result in results)
        super().__init__(
            f"interrupted: {done} of {jobs} jobs done, {len(results) - done} ended early, "
            f"{jobs - len(results)} not started",
            hint="start the run again with another --output; what is done is kept",
        )
        self.results = tuple(results)


def run_here(  # noqa: PLR0913
    script: Path,
    bundle: Path,
    *,
    arguments: Sequence[str] = (),
    sealed: bool = False,
    python: str | None = None,
    options: Sequence[str] = (),
) -> NoReturn:
    """Replace this process by the script: process id, streams, signals and exit code are the script's own.

    *options* go to the launcher (`-q`, `-v`); *python* is a path, or a name on PATH. Raises `BundleError`
    where *sealed* cannot be had.
    """
    command = _launcher_command(
        script, bundle, [*options, *_python_options(python)], arguments, sealed=sealed
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)  # noqa: S606


class Jobs:
    """A script's jobs, *parallel* at a time: by default one per usable core. A failing job stops no other.

    results = Jobs(Path("eval.py"), Path("/shared/uvcache"), jobs=10, directory=Path("out")).run()
    """

    def __init__(  # noqa: PLR0913
        self,
        script: Path,
        bundle: Path,
        *,
        jobs: int,
        directory: Path,
        arguments: Sequence[str] = (),
        sealed: bool = False,
        parallel: int | None = None,
        python: str | None = None,
        options: Sequence[str] = ("-q",),
        console_name: str = CONSOLE_NAME,
        variables: Mapping[str, str] | None = None,
        furnish: Callable[[int, Path], None] = lambda _number, _directory: None,
    ) -> None:
        """Have everything there, the environment too; start no job yet.

        *options* and *python* are those of `run_here`, for the environment; *furnish* puts into a job's directory what
        it needs, *variables* are the script's besides. Raises `InputError` for job directories that are not empty, and
        what the launcher has against the script, the bundle or this node.
        """
        self._directories = _job_directories(directory, jobs)
        self._environment = _prepare(script, bundle, options, python, sealed=sealed)
        self._parallel = parallel or usable_cores()
        self._console_name = console_name
        self._furnish = furnish
        command = [self._environment.python, str(script.absolute()), *arguments]
        command = seal_command(command) if sealed else command
        self._children = _Children(
            command, self._environment, {**(variables or {}), "OFFLINE_BUNDLE_JOBS": str(jobs)}
        )

    def run(self, progress: Callable[[JobResult], None] | None = None) -> list[JobResult]:
        """Run them, once; *progress* is called in this thread with every job that has ended.

        SIGINT and SIGTERM are passed on to the jobs; once they are gone, `JobsInterruptedError` is raised.
        """
        children = self._children
        try:
            results = self._run_all(progress)
        finally:
            self._environment.release()
        if children.stopped:
            raise JobsInterruptedError(results, len(self._directories))
        return results

    def stop(self) -> None:
        """Do, from any thread, as at Ctrl-C."""
        self._children.stop(signal.SIGINT)

    def _run_all(self, progress: Callable[[JobResult], None] | None) -> list[JobResult]:
        """Run a job in each directory; return those that were started, in the order of their numbers."""
        results = []
        places = list(enumerate(self._directories, 1))
        for _, path in places:
            _make_directory(path)
        with (
            self._children.signals_passed_on(),
            ThreadPoolExecutor(min(self._parallel, len(places))) as pool,
        ):
            started = [pool.submit(self._run_job, index, path) for index, path in places]
            for future in as_completed(started):
                result = future.result()
                if result:
                    results.append(result)
                    if progress:
                        progress(result)
        return sorted(results, key=lambda result: result.index)

    def _run_job(self, index: int, directory: Path) -> JobResult | None:
        """Run one job to its end; None where it was not started any more."""
        console = directory / self._console_name
        begin = time.monotonic()
        try:
            self._furnish(index, directory)
            with console.open("xb") as stream:
                process = self._children.start(index, directory, stream)
                code = self._children.wait(process) if process else None
            tail = tail_of(console, _TAIL_LINES)
        except OSError as error:  # no more processes or open files are allowed
            code, tail = _NOT_STARTED, f"could not be started: {error.strerror}"
        seconds = time.monotonic() - begin
        if console.exists() and console.stat().st_size == 0:
            console.unlink()
        if code is None:
            return None
        return JobResult(
            index=index,
            directory=directory,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            seconds=seconds,
            console=console if console.exists() else None,
            tail=tail,
            files=_files_made(directory, self._console_name),
        )


def usable_cores() -> int:
    """Count the cores this process may use: in a batch job often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Children:
    """The running jobs: a signal for this process goes to all of them, and none is started after it."""

    def __init__(
        self, command: Sequence[str], environment: Environment, variables: Mapping[str, str]
    ) -> None:
        self.stopped = False
        self._command = command
        self._variables = {**environment.variables(), **variables}
        self._held = [environment.descriptor] if environment.descriptor >= 0 else []
        self._lock = (
            threading.RLock()
        )  # a second signal may come while the first is being passed on
        self._running: set[subprocess.Popen[bytes]] = set()

    def start(
        self, index: int, directory: Path, console: IO[bytes]
    ) -> subprocess.Popen[bytes] | None:
        """Start a job as a process group of its own; return None once a signal has come.

        It inherits the environment's lock: should this process be killed, that lasts until the job has ended too.
        """
        with self._lock:
            if self.stopped:
                return None
            process = subprocess.Popen(
                self._command,
                cwd=directory,
                env={**self._variables, "OFFLINE_BUNDLE_JOB": str(index)},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=self._held,
                process_group=0,
            )
            self._running.add(process)
            return process

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a job's end; its process id is freed only when no signal can be sent to it any more."""
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._running.discard(process)
            return process.wait()

    @contextlib.contextmanager
    def signals_passed_on(self) -> Iterator[None]:
        """Pass SIGINT and SIGTERM on to the jobs; do nothing outside the main thread, which gets none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._receive)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self, number: int) -> None:
        """Ask the jobs to leave; kill them after the grace period, or when asked a second time."""
        if self.stopped:
            self._send(signal.SIGKILL)
            return
        self.stopped = True
        self._send(number)
        killer = threading.Timer(_GRACE_SECONDS, self._send, [signal.SIGKILL])
        killer.daemon = True  # where all have left by then, there is nobody to kill
        killer.start()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.stop(number)

    def _send(self, number: int) -> None:
        with self._lock:
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)


def _job_directories(directory: Path, jobs: int) -> list[Path]:
    """Name the jobs' directories; refuse those that hold anything, and touch none."""
    directories = [directory.absolute() / job_name(index, jobs) for index in range(1, jobs + 1)]
    try:
        taken = [
            path
            for path in directories
            if path.exists() and (not path.is_dir() or any(path.iterdir()))
        ]
    except OSError as error:
        hint = "name another folder with --output"
        raise BundleError(
            f"{error.filename} cannot be read: {error.strerror}", hint=hint
        ) from error
    if taken:
        named = ", ".join(path.name for path in taken[:5]) + (", …" if len(taken) > 5 else "")
        raise InputError(
            f"{directory} already holds the results of jobs ({named}); nothing was started or changed",
            hint="name another directory with --output, or move these away",
        )
    return directories


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "name a directory that can be written with --output"
        raise BundleError(f"{path} cannot be made: {error.strerror}", hint=hint) from error


def _prepare(
    script: Path, bundle: Path, options: Sequence[str], python: str | None, *, sealed: bool
) -> Environment:
    """Make the environment once for all jobs, and hold it; the launcher's errors become `BundleError`."""
    if sealed:
        _prepare_sealed(script, bundle, [*options, *_python_options(python)])
    verbosity = 1 if "-v" in options else -1 if "-q" in options else 0
    try:
        return prepare(
            str(script.absolute()),
            bundle=str(bundle.absolute()),
            python=python,
            verbosity=verbosity,
        )
    except OSError as error:
        hint = "try OFFLINE_BUNDLE_CACHE with a folder of your own, on a local disk"
        raise BundleError(f"the environment cannot be prepared: {error}", hint=hint) from error


def _prepare_sealed(script: Path, bundle: Path, options: Sequence[str]) -> None:
    """Have a launcher without a network make the environment, which this process then finds.

    What it says while it works goes on to stderr; what it says of an error is raised as a `BundleError`.
    """
    command = _launcher_command(script, bundle, ["--prepare", *options], (), sealed=True)
    null = subprocess.DEVNULL
    fault: list[str] = []
    with subprocess.Popen(
        command, stdin=null, stdout=null, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            if fault or line.startswith("error: "):
                fault.append(line)
            else:
                sys.stderr.write(line)
    if process.returncode:
        message, _, hint = "".join(fault).strip().removeprefix("error: ").partition("\nhint: ")
        if not message:
            message = (
                f"the launcher ended with code {process.returncode} before any job was started"
            )
        raise _launch_error(process.returncode, message, hint or None)


def _launch_error(code: int, message: str, hint: str | None) -> BundleError:
    errors = (InputError, IntegrityError, SignatureError, NotInBundleError)
    kinds: dict[int, type[BundleError]] = {error.exit_code: error for error in errors}
    return kinds.get(code, BundleError)(message, hint=hint)


def _launcher_command(
    script: Path, bundle: Path, options: Sequence[str], arguments: Sequence[str], *, sealed: bool
) -> list[str]:
    command = [
        *_LAUNCHER,
        "--bundle",
        str(bundle.absolute()),
        *options,
        str(script.absolute()),
        *arguments,
    ]
    return seal_command(command) if sealed else command


def _python_options(python: str | None) -> list[str]:
    """Make a path absolute, for jobs have working directories of their own; leave a name on PATH as it is."""
    if not python:
        return []
    return ["--python", os.path.abspath(python) if os.path.dirname(python) else python]  # noqa: PTH100, PTH120


def _files_made(directory: Path, console_name: str) -> tuple[str, ...]:
    made = (
        os.path.relpath(os.path.join(folder, name), directory)  # noqa: PTH118
        for folder, _, names in os.walk(directory)
        for name in names
    )
    return tuple(sorted(name for name in made if name != console_name))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
