"""The demonstration: from a script to ten plots with the network cut, by the commands a user would type.

The script is `examples/python_uv/eval.py`; a wheel of this project brings it along.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.runner.network import no_network_command
from offline_bundle.wheelhouse.runtime.errors import BundleError, JobsFailedError
from offline_bundle.wheelhouse.runtime.interpreters import find_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PYTHON = (3, 12)
"""As the script's requires-python says."""
_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE / "examples" / "eval.py", _HERE.parent / "examples" / "python_uv" / "eval.py")


def demonstrate(folder: Path, *, jobs: int, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Build, verify and run in *folder*; return the plots.

    A command that fails ends it with that command's exit code, in a `StepError`. Raises BundleError besides.
    """
    script, bundle, plots = folder / "eval.py", folder / "bundle", folder / "plots"
    _prepare_folder(folder, script, plots)
    _provide_python(say)
    submit = [
        "submit",
        script,
        "--bundle",
        bundle,
        "--embedded",
        "-j",
        jobs,
        "--output",
        "plot.png",
    ]
    say("\n# On the connected side: a bundle of everything the script needs")
    _step(["build", script, "-o", bundle], say)
    say("\n# Is it whole?")
    _step(["verify", bundle], say)
    say(
        "\n# On the other side of the gap, where there is no network: plot jobs through an HPS of our own"
    )
    _step([*submit, "--download", plots], say, is_sealed=True)
    found = tuple(sorted(plots.glob("*/plot.png")))
    if len(found) != jobs:
        raise JobsFailedError(
            f"{len(found)} plots came of {jobs} jobs", hint=f"look at {plots}/*/console_output.txt"
        )
    return found


class StepError(BundleError):
    """A command of the demonstration failed, and has said why."""

    def __init__(self, command: str, exit_code: int) -> None:
        message = f"the demonstration ends here: `{command}` left with exit code {exit_code}"
        super().__init__(
            message, hint="what it says is above; the steps before it need not be done again"
        )
        self.exit_code = exit_code


def _prepare_folder(folder: Path, script: Path, plots: Path) -> None:
    """Put a copy of the script there; remove the plots of the time before."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(next(place for place in _PLACES if place.is_file()), script)
        shutil.rmtree(plots, ignore_errors=True)
    except OSError as error:
        hint = "name a folder that can be written, with -o"
        raise BundleError(f"{folder} cannot be used: {error.strerror}", hint=hint) from error


def _provide_python(say: Callable[[str], None]) -> None:
    """A node brings its own interpreter; where this machine has none that fits, uv installs one, online."""
    wanted = ".".join(map(str, PYTHON))
    if find_interpreter(PYTHON) is not None:
        return
    say(f"# This machine has no Python {wanted}: let uv install one while there is a network")
    if subprocess.run(
        [sys.executable, "-m", "uv", "python", "install", wanted], check=False
    ).returncode:
        hint = f"install Python {wanted} by other means, and try again"
        raise BundleError(
            f"Python {wanted} is needed to run the plots, and uv could not install it", hint=hint
        )


def _step(words: Sequence[object], say: Callable[[str], None], *, is_sealed: bool = False) -> None:
    """Show a command and run it; sealed, in a network namespace with nothing but loopback."""
    told = [str(word) for word in words]
    shown = shlex.join(["offline-bundle", *told])
    say(f"$ {shown}")
    command = [sys.executable, "-m", "offline_bundle", *told]
    done = subprocess.run(no_network_command(command) if is_sealed else command, check=False)
    if done.returncode:
        raise StepError(shown, done.returncode)
