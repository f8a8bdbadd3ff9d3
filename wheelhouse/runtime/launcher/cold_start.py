"""Prepare the environment of a script, once per node, and start the script in it."""

import os
import sys

from ..cache_setup import cache_directory
from ..errors import BundleError, print_error
from ..files import write_atomic
from ..interpreters import Interpreters
from ..locks import FileLock
from ..platforms import Node
from .cache_cleanup import remove_unused
from .environment import make_environment
from .lock_selection import bundled_scripts, choose_lock
from .os_errors import explain_os_error
from .request import USAGE, Request, parse_command_line
from .script_metadata import read_metadata
from .trusted_manifest import read_manifest
from .warm_start import (
    environment_python,
    is_complete,
    job_variables,
    lock_environment,
    record_path,
    recorded_environment,
    start_script,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Optional

    from .lock_selection import Plan


def main(argv: "Sequence[str]", default_bundle: str = "") -> int:
    """Do what the command line says; return the exit code. On POSIX a started script never returns here."""
    try:
        options = parse_command_line(list(argv))
        if options is None:
            print(USAGE)
            return 0
        options.setdefault("bundle", default_bundle or None)
        return launch(**options)
    except BundleError as error:
        return print_error(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def launch(  # noqa: PLR0913
    script: str,
    arguments: "Sequence[str]" = (),
    *,
    bundle: "Optional[str]" = None,
    python: "Optional[str]" = None,
    prepare_only: bool = False,
    verbosity: int = 0,
) -> int:
    """Replace this process by *script* in its environment; with *prepare_only* print that one's folder."""
    environment = prepare(script, bundle=bundle, python=python, verbosity=verbosity)
    if prepare_only:
        print(environment.folder)
        return 0
    return start_script(
        environment.home, environment.descriptor, environment.bundle, script, list(arguments)
    )


def prepare(
    script: str,
    *,
    bundle: "Optional[str]" = None,
    python: "Optional[str]" = None,
    verbosity: int = 0,
) -> "Environment":
    """Return the complete environment of *script*, made now if need be, and held against removal.

    *bundle* defaults to the folder of this file, *python* to OFFLINE_BUNDLE_PYTHON and then to a search.
    Verbosity -1 is quiet, 0 says when something takes time, 1 explains. Raises LaunchError.
    """
    request = Request(script, bundle, python, verbosity)
    cache = cache_directory()
    environment = _recall(request, cache)
    if environment is None:
        try:
            environment = _find_and_prepare(request, cache)
        except OSError as error:
            raise explain_os_error(error, cache) from error
        _record(request, cache, environment)
    return environment


class Environment:
    """A virtual environment that is complete, and stays while this process holds *descriptor*, a shared lock."""

    def __init__(self, home: str, bundle: str, descriptor: int) -> None:
        self.home = home
        self.folder = os.path.join(home, "env")
        self.python = environment_python(home)
        self.bundle = bundle
        self.descriptor = descriptor

    def variables(self) -> "dict[str, str]":
        """Return the environment variables for a script: its lock's packages, no others, and uv offline."""
        return job_variables(self.home, self.bundle)

    def release(self) -> None:
        """Let it be removed, should pruning come to that."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _recall(request: Request, cache: str) -> "Optional[Environment]":
    """Return the environment that answered the same question before, if it is still complete."""
    home = recorded_environment(cache, request.question)
    return use_environment(home, request.bundle) if home else None


def _record(request: Request, cache: str, environment: Environment) -> None:
    """Note for the next start which environment answered; a note that cannot be written only costs time."""
    try:
        os.makedirs(os.path.join(cache, "launches"), mode=0o700, exist_ok=True)
        content = os.fsencode(environment.home) + b"\n" + request.question
        write_atomic(record_path(cache, request.question), content)
    except OSError as error:
        request.say(f"this choice could not be noted for the next start: {error}", 1)


def use_environment(home: str, bundle: str) -> "Optional[Environment]":
    """Return the environment at *home*, held against removal, or None while it is not complete."""
    descriptor = lock_environment(home)
    return None if descriptor is None else Environment(home, bundle, descriptor)


def _find_and_prepare(request: Request, cache: str) -> Environment:
    """Go the whole way; once more when a file does not match because the bundle was updated meanwhile."""
    manifest = read_manifest(request.bundle)
    try:
        return _prepare_once(_make_plan(request, manifest, cache), request, cache)
    except BundleError as error:
        newer = read_manifest(request.bundle)
        if error.exit_code != 5 or newer == manifest:
            raise
    return _prepare_once(_make_plan(request, newer, cache), request, cache)


def _make_plan(request: Request, manifest: "dict[str, Any]", cache: str) -> "Plan":
    interpreters = Interpreters(request.python, Node(), cache)
    metadata = read_metadata(request, manifest, interpreters)
    scripts = bundled_scripts(request, manifest, metadata)
    return choose_lock(request, manifest, scripts, metadata, interpreters)


def _prepare_once(plan: "Plan", request: Request, cache: str) -> Environment:
    """Return the environment of *plan*; of many jobs that start at once one makes it, and the others wait."""
    import time

    home = os.path.join(cache, "environments", plan.key())
    os.makedirs(os.path.dirname(home), mode=0o700, exist_ok=True)
    speaks_at = time.monotonic() + (0 if request.verbosity > 0 else 5)
    is_new = False
    while True:
        environment = use_environment(home, request.bundle)
        if environment is not None:
            if is_new:
                remove_unused(cache, request)
            return environment
        maker = FileLock(home + ".lock")
        if maker.acquire(block=False):
            try:
                if not is_complete(home):
                    make_environment(home, plan, request, cache, maker)
                    is_new = True
            finally:
                maker.release()
            continue
        if time.monotonic() >= speaks_at:
            request.say(f"Waiting for another job to finish preparing {home} ...")
            speaks_at = float("inf")
        time.sleep(0.1)
