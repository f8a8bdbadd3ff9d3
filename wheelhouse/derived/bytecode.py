"""Bytecode of wheels: one file per wheel and Python minor version, the same for every platform."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.bytecode import bytecode_path
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.processes import tool_variables
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

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


class Compiler:
    """A process that compiles wheels into *folder*, each as soon as it is added.

    Files that *folder* has already are kept. As a context manager, it ends the process.
    """

    def __init__(self, interpreter: str, folder: Path) -> None:
        self._interpreter = interpreter
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - see __exit__
        self._process = subprocess.Popen(
            [interpreter, *_OPTIONS, str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=_variables(),
        )
        self._send(str(folder.absolute()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, finished or not."""
        with self._errors, self._process:
            self._process.kill()

    def add(self, sha256: str, wheel: Path) -> None:
        """Compile *wheel*, which has the digest *sha256*."""
        self._send([sha256, str(wheel.absolute())])

    def finish(self) -> dict[str, Path]:
        """Return the compiled file of each wheel (by sha256). Raises FetchError (exit 4)."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            self._errors.seek(0)
            raise FetchError(
                f"{self._interpreter} could not compile bytecode",
                problems=self._errors.read().strip().splitlines()[-5:],
                hint="pin another version of a corrupt wheel; check the free disk space; "
                "or leave bytecode out with --no-bytecode",
            )
        return {digest: Path(path) for digest, path in json.loads(output).items()}

    def _send(self, item: object) -> None:
        assert self._process.stdin  # noqa: S101 - it is a pipe; narrows the type for mypy
        with suppress(BrokenPipeError):  # finish() reports a process that has failed
            self._process.stdin.write(json.dumps(item) + "\n")
            self._process.stdin.flush()


def compile_wheels(interpreter: str, wheels: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Compile *wheels* (by sha256) into *folder*; return the compiled file of each.

    Files that *folder* has already are kept. Raises FetchError (exit 4).
    """
    # the largest first, so that none is left at last
    largest_first = sorted(wheels.items(), key=lambda item: -item[1].stat().st_size)
    with Compiler(interpreter, folder) as compiler:
        for sha256, wheel in largest_first:
            compiler.add(sha256, wheel)
        return compiler.finish()


def _variables() -> dict[str, str]:
    variables = tool_variables()
    plain = {name: text for name, text in variables.items() if not name.startswith("PYTHON")}
    return {**plain, "PYTHONHASHSEED": "0"}  # before 3.11, it orders the constants of sets
