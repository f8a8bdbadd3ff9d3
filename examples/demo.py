"""What `make demo` shows: from a script to ten plots with the network cut, by the commands a user would type."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from runner.seal import seal_command
from wheelhouse import prepare
from wheelhouse.errors import BundleError

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path("examples/python_uv/eval.py")
BUNDLE = Path("demo/bundle")
PLOTS = Path("demo/plots")
PYTHON = (3, 12)  # as the script's requires-python says


def main() -> int:
    """Run the steps in order; stop at the first that fails, with its exit code."""
    shutil.rmtree(ROOT / PLOTS, ignore_errors=True)
    steps = [
        (
            "On the connected side: a bundle of everything the script needs",
            ["build-offline-bundle", SCRIPT, "-o", BUNDLE],
        ),
        ("Is it whole?", ["offline-bundle", "verify", BUNDLE]),
    ]
    sealed = (
        "On the other side of the gap, where there is no network: ten plot jobs through an HPS of our own",
        [
            *["offline-bundle", "submit", SCRIPT, "--bundle", BUNDLE, "--embedded", "-j", 10],
            *["--output", "plot.png", "--download", PLOTS],
        ],
    )
    provide_python()
    for title, command in [*steps, sealed]:
        code = step(title, [str(part) for part in command], is_sealed=command is sealed[1])
        if code != 0:
            return code
    plots = sorted((ROOT / PLOTS).glob("*/plot.png"))
    print(f"\n{len(plots)} plots, made offline:")
    for plot in plots:
        print(f"  {plot.relative_to(ROOT)}")
    print(f"All of them on one page: {PLOTS / 'index.html'}")
    return 0 if len(plots) == 10 else 1


def step(title: str, command: list[str], *, is_sealed: bool) -> int:
    """Show a command and run it; sealed, in a network namespace with nothing but loopback."""
    print(f"\n# {title}\n$ {shlex.join(command)}", flush=True)
    whole = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
    try:
        return subprocess.run(seal_command(whole) if is_sealed else whole, cwd=ROOT, check=False).returncode
    except BundleError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code


def provide_python() -> None:
    """A node brings its own interpreter; where this machine has none that fits, uv installs one, online."""
    wanted = ".".join(map(str, PYTHON))
    if prepare.find_interpreter(PYTHON) is None:
        print(f"# This machine has no Python {wanted}: let uv install one while there is a network", flush=True)
        uv = Path(sys.executable).with_name("uv")
        if subprocess.run([str(uv), "python", "install", wanted], check=False).returncode != 0:
            sys.exit(f"error: Python {wanted} is needed to run the plots; install it by other means and try again")


if __name__ == "__main__":
    sys.exit(main())
