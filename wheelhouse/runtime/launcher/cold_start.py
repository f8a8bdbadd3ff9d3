"""Prepare the environment of a script, once per node, and start the script in it."""

import io
import os
import sys
import time
from dataclasses import replace

from ..disk.cache_setup import cache_directory
from ..disk.files import has_digest, sha256_of, write_atomic
from ..disk.locks import FileLock
from ..errors import BundleError, print_error
from ..names import PENDING
from ..processes import ignore_children, stop_ignoring_children
from ..python.interpreters import Interpreters
from ..python.platforms import Node
from .command_line import parse_command_line
from .images.mount import MountError, mount_obstacle
from .lock_selection import choose_lock
from .os_errors import explain_os_error
from .prepare.cache_cleanup import remove_unused
from .prepare.check import check_after_boot, flush_environment
from .prepare.environment import make_environment
from .prepare.failed_attempts import raise_failure_since
from .request import Request
from .script_metadata import read_metadata
from .trusted_bundle import open_bundle
from .warm_start import (
    awaits_check,
    environment_python,
    is_complete,
    job_variables,
    lock_environment,
    marker_path,
    mounted_path,
    record_path,
    recorded_environment,
    start_script,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    from .prepare.plan import Plan
    from .trusted_bundle import TrustedBundle

_MOST_ATTEMPTS = 3
_UPDATE_SECONDS = 5.0
_SILENT_SECONDS = 5
"""How long a start waits for another one before it prints so."""
_INTERRUPTED_HINT = "an update of the bundle was interrupted: run it again to finish it"
_UNUSABLE_HINT = "check that no other program changes the cache, and that the interpreter remains"


class Environment:
    """A complete virtual environment, kept while this process holds its lock, *descriptor*."""

    def __init__(self, home: str, bundle: str, descriptor: int) -> None:
        self.home = home
        self.folder = os.path.join(home, "env")
        self.python = environment_python(home)
        self.bundle = bundle
        self.descriptor = descriptor
        self.script: Optional[str] = None
        """Verified copy of a script of the bundle, to start instead of it; under a policy only."""

    def variables(self) -> "dict[str, str]":
        """Return the environment variables for a script: only its lock's packages, uv offline."""
        return job_variables(self.home, self.bundle)

    def release(self) -> None:
        """Allow its removal."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def main(words: "Sequence[str]", default_bundle: str = "") -> int:
    """Run the command line; return the exit code. On POSIX, a started script never returns here."""
    if sys.stderr is None:  # closed when this program started
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until this program ends
    try:
        if words[:1] == ["--cache"]:
            from .cache.command import main as cache_main  # starts of scripts do not need it

            return cache_main(words[1:])
        options = parse_command_line(words, default_bundle)
        script, *arguments = options.command
        was_ignoring = stop_ignoring_children()
        environment = prepare(
            script,
            bundle=options.bundle,
            python=options.python,
            verbosity=options.verbosity,
            may_mount=not options.prepare,
        )
        if options.prepare:
            flush_environment(environment.home)  # no job waits for it
            print(environment.folder)
            return 0
        if was_ignoring:
            ignore_children()  # the script gets the signals that this program got
        home, lock = environment.home, environment.descriptor
        script = environment.script or script
        return start_script(home, lock, environment.bundle, script, arguments)
    except BundleError as error:
        return print_error(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def prepare(
    script: str,
    *,
    bundle: "Optional[str]" = None,
    python: "Optional[str]" = None,
    verbosity: int = 0,
    may_mount: bool = True,
) -> Environment:
    """Return the environment of *script*, made if need be, and locked against removal.

    *bundle* defaults to the working directory, *python* to OFFLINE_BUNDLE_PYTHON and then to a
    search. Verbosity -1 prints errors only, 0 reports slow steps, 1 explains each choice. Without
    *may_mount*, the environment can be used when this process has ended.
    """
    stop_ignoring_children()
    cache = cache_directory()
    for attempt in range(_MOST_ATTEMPTS):
        request = Request(script, bundle, python, verbosity)
        try:
            return _find_or_make(request, cache, may_mount=may_mount)
        except OSError as error:
            raise explain_os_error(error, cache) from error
        except BundleError as error:
            if attempt == _MOST_ATTEMPTS - 1 or not _wait_for_update(request):
                if os.path.lexists(os.path.join(request.bundle, PENDING)):
                    error.hint = _INTERRUPTED_HINT
                raise
            request.log(f"{request.bundle} was updated meanwhile: starting over")
    raise AssertionError  # the last attempt returns or raises


def _find_or_make(request: Request, cache: str, *, may_mount: bool) -> Environment:
    home = recorded_environment(cache, request.key)
    environment = None
    if home and (may_mount or not os.path.lexists(mounted_path(home))):
        environment = _use_environment(home, request.bundle)
    if environment:
        request.log(f"Chosen at an earlier start: {environment.folder}", 1)
    else:
        opened = open_bundle(request.bundle)
        if request.bundled_name:
            opened.check(request.bundled_name, io.BytesIO(request.source))
        plan = _make_plan(request, opened, cache)
        environment = _prepare_any(plan, request, cache, may_mount=may_mount)
        _record(request, cache, environment)
    if request.bundled_name:
        environment.script = _copy_script(request, environment.home)
    return environment


def _copy_script(request: Request, home: str) -> str:
    """Return a copy of the verified script: in the bundle, it or its folder may be changed now."""
    digest = sha256_of(request.source)
    path = os.path.join(home, "scripts", digest, request.name)
    if not has_digest(path, digest):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, request.source)
    return path


def _wait_for_update(request: Request) -> bool:
    """Return whether the bundle or the script is another one than when *request* was made.

    An update replaces the bundle's scripts shortly before its manifest. So while there
    is a journal, wait for the manifest. A killed update leaves a journal too.
    """
    end = time.monotonic() + _UPDATE_SECONDS
    while request.is_current():
        is_updating = os.path.lexists(os.path.join(request.bundle, PENDING))
        if not is_updating or time.monotonic() >= end:
            return False
        time.sleep(0.1)
    return True


def _record(request: Request, cache: str, environment: Environment) -> None:
    """Record the environment for the next start; a failure only costs time."""
    try:
        os.makedirs(os.path.join(cache, "launches"), mode=0o700, exist_ok=True)
        content = os.fsencode(environment.home) + b"\n" + request.key
        write_atomic(record_path(cache, request.key), content)
    except OSError as error:
        request.log(f"could not cache the launch record: {error}", 1)


def _use_environment(home: str, bundle: str) -> "Optional[Environment]":
    """Return the environment at *home*, locked against removal, or None while it is incomplete."""
    descriptor = lock_environment(home)
    return None if descriptor is None else Environment(home, bundle, descriptor)


def _make_plan(request: Request, bundle: "TrustedBundle", cache: str) -> "Plan":
    metadata = read_metadata(request, bundle.manifest)
    return choose_lock(request, bundle, metadata, Interpreters(request.python, Node()), cache)


def _prepare_any(plan: "Plan", request: Request, cache: str, *, may_mount: bool) -> Environment:
    """Return the environment of *plan*: an image is mounted, or else unpacked on this node."""
    if plan.image and may_mount and not is_complete(_home(plan, cache)):
        obstacle = mount_obstacle()
        if obstacle is None:
            try:
                return _prepare(replace(plan, is_mounted=True), request, cache)
            except MountError as error:
                request.log(f"{error.message}: unpacking it instead")
        else:
            request.log(f"The image is unpacked, not mounted: {obstacle}")
    return _prepare(plan, request, cache)


def _is_stuck(home: str) -> bool:
    """Return whether *home* was finished with a mounted image, which did not answer now."""
    return os.path.exists(marker_path(home)) and os.path.lexists(mounted_path(home))


def _home(plan: "Plan", cache: str) -> str:
    return os.path.join(cache, "environments", plan.key())


def _prepare(plan: "Plan", request: Request, cache: str) -> Environment:
    """Return the environment of *plan*; of many starts at once, one makes it, the others wait.

    Raises MountError if jobs hold an environment whose image does not answer.
    """
    home = _home(plan, cache)
    os.makedirs(os.path.dirname(home), mode=0o700, exist_ok=True)
    report_at = time.monotonic() + (0 if request.verbosity > 0 else _SILENT_SECONDS)
    give_up_at = time.monotonic() + _SILENT_SECONDS
    is_new = False
    begin = time.time()
    while True:
        check_after_boot(home, plan, request, cache)
        environment = _use_environment(home, request.bundle)
        if environment is not None:
            if is_new:
                remove_unused(cache, request)
            return environment
        maker = FileLock(home + ".lock")
        if maker.acquire(block=False):
            try:
                if awaits_check(home):
                    continue  # a node that shares the cache has just made it
                if is_new and not is_complete(home):
                    kind = MountError if plan.is_mounted else BundleError
                    raise kind(f"{home} was made, but it is not usable", hint=_UNUSABLE_HINT)
                if not is_complete(home):
                    raise_failure_since(home, begin)
                    make_environment(home, plan, request, cache, maker)
                    is_new = True
            finally:
                maker.release()
        elif _is_stuck(home) and time.monotonic() >= give_up_at:
            raise MountError(f"the mounted image in {home} does not answer, and jobs use it")
        elif time.monotonic() >= report_at:
            request.log(f"Waiting for another job to finish preparing {home} ...")
            report_at = float("inf")
        else:
            time.sleep(0.1)
