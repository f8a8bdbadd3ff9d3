"""The demonstration: from a script to ten plots without a network, by commands to type.

The script is `examples/python_uv/eval.py`; a wheel of this project includes it.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from offline_bundle.runner.network import no_network_command
from offline_bundle.runner.results.owner import make_own_folder
from offline_bundle.wheelhouse.runtime.disk.files import write_atomic
from offline_bundle.wheelhouse.runtime.errors import BundleError, JobsFailedError
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

PYTHON = (3, 12)
"""As in the script's requires-python."""
_HERE = Path(__file__).resolve().parent
_SCRIPTS = (_HERE / "examples" / "eval.py", _HERE.parent / "examples" / "python_uv" / "eval.py")
"""In a wheel, and in a checkout."""


def demonstrate(folder: Path, *, jobs: int, echo: Callable[[str], None]) -> tuple[Path, ...]:
    """Build, verify and run in *folder*; return the plots.

    Raises `StepError` with the exit code of a command that failed, or another `BundleError`.
    """
    script, bundle, plots = folder / "eval.py", folder / "bundle", folder / "plots"
    _prepare_folder(folder, script, plots)
    _install_python(echo)
    options = ["--bundle", bundle, "--embedded", "-j", jobs, "--output", "plot.png"]
    echo("\n# With a network: build a bundle of everything that the script requires")
    _run_step(["build", script, "-o", bundle], echo)
    echo("\n# Verify it")
    _run_step(["verify", bundle], echo)
    echo("\n# Without a network: run plot jobs through an embedded HPS")
    _run_step(["submit", script, *options, "--download", plots], echo, no_network=True)
    files = tuple(sorted(plots.glob("*/plot.png")))
    if len(files) != jobs:
        raise JobsFailedError(
            f"{jobs} jobs wrote {len(files)} plots", hint=f"see {plots}/*/console_output.txt"
        )
    return files


class StepError(BundleError):
    """A command of the demonstration failed and has printed its error."""

    def __init__(self, command: str, exit_code: int) -> None:
        super().__init__(
            f"the demonstration stopped: `{command}` failed with exit code {exit_code}",
            hint="see its error above; finished steps are not repeated",
        )
        self.exit_code = exit_code


def _prepare_folder(folder: Path, script: Path, plots: Path) -> None:
    """Copy the script into the folder; remove plots of an earlier run."""
    try:
        make_own_folder(folder, "-o")
        example = next(path for path in _SCRIPTS if path.is_file())
        write_atomic(script, example.read_bytes(), mode=0o666)  # not through a link
        shutil.rmtree(plots, ignore_errors=True)
    except OSError as error:
        hint = "name a writable folder with -o"
        raise BundleError(f"cannot use {folder}: {error.strerror}", hint=hint) from error


def _install_python(echo: Callable[[str], None]) -> None:
    """Install a Python by uv, online, if this machine has none that fits."""
    version = ".".join(map(str, PYTHON))
    if find_interpreter(PYTHON) is not None:
        return
    echo(f"# This machine has no Python {version}: install one with uv while there is a network")
    command = [sys.executable, "-m", "uv", "python", "install", version]
    if subprocess.run(command, check=False).returncode:
        raise BundleError(
            f"the plots require Python {version}, and uv could not install it",
            hint=f"install Python {version}, and try again",
        )


def _run_step(
    arguments: Sequence[object], echo: Callable[[str], None], *, no_network: bool = False
) -> None:
    """Print a command and run it."""
    words = [str(argument) for argument in arguments]
    shown = shlex.join(["offline-bundle", *words])
    echo(f"$ {shown}")
    command = [sys.executable, "-m", "offline_bundle", *words]
    done = subprocess.run(no_network_command(command) if no_network else command, check=False)
    if done.returncode:
        raise StepError(shown, done.returncode)
