"""Start the launcher: replace this process by a script, or prepare the environment of jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from offline_bundle.runner.network import no_network_command
from offline_bundle.wheelhouse import runtime
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    InputError,
    IntegrityError,
    NotInBundleError,
    SignatureError,
)
from offline_bundle.wheelhouse.runtime.launcher.cold_start import Environment, prepare

_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from runtime.launcher.entry import main; sys.exit(main())"
)
_LAUNCHER = (
    sys.executable,
    "-I",
    "-c",
    _PROGRAM,
    str(Path(runtime.__file__).parents[1]),
)
"""The launcher of this version of offline-bundle, imported: its modules are compiled once."""


def run_here(  # noqa: PLR0913
    script: Path,
    bundle: Path,
    *,
    arguments: Sequence[str] = (),
    no_network: bool = False,
    python: str | None = None,
    options: Sequence[str] = (),
) -> NoReturn:
    """Replace this process by the script; process id, streams, signals and exit code are its own.

    *options* are the launcher's (`-q`, `-v`); *python* is a path, or a name on PATH. Raises
    `BundleError` if *no_network* is not possible on this machine.
    """
    launcher_options = [*options, *_python_options(python)]
    command = _launcher_command(script, bundle, launcher_options, arguments, no_network=no_network)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)  # noqa: S606


def prepare_environment(
    script: Path,
    bundle: Path,
    *,
    no_network: bool = False,
    python: str | None = None,
    options: Sequence[str] = ("-q",),
) -> Environment:
    """Create the environment of *script* if need be, and hold it until `release()`.

    Raises the launcher's errors about the script, the bundle or this machine.
    """
    if no_network:
        _prepare_without_network(script, bundle, [*options, *_python_options(python)])
    verbosity = 1 if "-v" in options else -1 if "-q" in options else 0
    try:
        return prepare(
            str(script.absolute()),
            bundle=str(bundle.absolute()),
            python=python,
            verbosity=verbosity,
        )
    except OSError as error:
        hint = "set OFFLINE_BUNDLE_CACHE to a folder of your own, on a local disk"
        raise BundleError(f"cannot prepare the environment: {error}", hint=hint) from error


def _prepare_without_network(script: Path, bundle: Path, options: Sequence[str]) -> None:
    """Create the environment in a launcher without a network; this process then finds it.

    Progress goes to stderr; the launcher's error is raised as a `BundleError`.
    """
    command = _launcher_command(script, bundle, ["--prepare", *options], (), no_network=True)
    null = subprocess.DEVNULL
    error_lines: list[str] = []
    with subprocess.Popen(
        command, stdin=null, stdout=null, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            if error_lines or line.startswith("error: "):
                error_lines.append(line)
            else:
                sys.stderr.write(line)
    if process.returncode:
        raise _launcher_error(process.returncode, "".join(error_lines))


def _launcher_error(code: int, output: str) -> BundleError:
    message, _, hint = output.strip().removeprefix("error: ").partition("\nhint: ")
    errors = (InputError, IntegrityError, SignatureError, NotInBundleError)
    kinds: dict[int, type[BundleError]] = {error.exit_code: error for error in errors}
    message = message or f"the launcher ended with exit code {code} before any job was started"
    return kinds.get(code, BundleError)(message, hint=hint or None)


def _launcher_command(
    script: Path,
    bundle: Path,
    options: Sequence[str],
    arguments: Sequence[str],
    *,
    no_network: bool,
) -> list[str]:
    paths = ["--bundle", str(bundle.absolute()), *options, str(script.absolute())]
    command = [*_LAUNCHER, *paths, *arguments]
    return no_network_command(command) if no_network else command


def _python_options(python: str | None) -> list[str]:
    """Make a path absolute, as jobs have other working directories; keep a name on PATH."""
    if not python:
        return []
    return ["--python", os.path.abspath(python) if os.path.dirname(python) else python]  # noqa: PTH100, PTH120
