"""Bytecode of wheels: one file per wheel and Python minor version, the same for every platform."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.bytecode import bytecode_path
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.processes import tool_variables
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest

_PROGRAM = Path(__file__).with_name("compile_wheels.py")
# No site-packages and no user settings; warnings about the code of packages are not printed.
_OPTIONS = ("-B", "-s", "-S", "-W", "ignore")


def needed_bytecode(manifest: Manifest, scripts: Collection[str]) -> set[str]:
    """Return the paths of the bytecode that the locks of these scripts can use. Pure."""
    return {
        bytecode_path(package.wheel, manifest.targets[target].python)
        for name in scripts
        for target, lock in manifest.scripts[name].locks.items()
        for package in lock.packages.values()
    }


def find_compiler(python: str) -> str | None:
    """Return the path of an interpreter on this machine that compiles for *python*, or None."""
    major, minor = python.rstrip("t").split(".")
    return find_interpreter((int(major), int(minor)), free_threaded=python.endswith("t"))


def compile_wheels(interpreter: str, wheels: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Compile *wheels* (by sha256) into *folder*; return the compiled file of each.

    Files that *folder* has already are kept. Raises FetchError (exit 4).
    """
    request = {
        "folder": str(folder.absolute()),
        "wheels": {digest: str(path.absolute()) for digest, path in wheels.items()},
    }
    process = subprocess.run(
        [interpreter, *_OPTIONS, str(_PROGRAM)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=_variables(),
        check=False,
    )
    if process.returncode:
        raise FetchError(
            f"{interpreter} could not compile bytecode",
            problems=process.stderr.strip().splitlines()[-5:],
            hint="check the free disk space; or leave bytecode out with --no-bytecode",
        )
    return {digest: Path(path) for digest, path in json.loads(process.stdout).items()}


def _variables() -> dict[str, str]:
    variables = tool_variables()
    plain = {name: text for name, text in variables.items() if not name.startswith("PYTHON")}
    return {**plain, "PYTHONHASHSEED": "0"}  # before 3.11, it orders the constants of sets
