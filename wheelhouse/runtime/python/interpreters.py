"""Find CPython interpreters on this node."""

import json
import os
import re
import subprocess
import sys
from functools import cache

from ..names import PYTHON_VARIABLES
from ..processes import find_programs, tool_variables
from .interpreter_info import describe
from .platforms import Node, dotted_version, version_numbers
from .requirements import python_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional, Union

_INFO_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "interpreter_info.py")
_TIMEOUT_SECONDS = 60


def find_interpreter(
    minor: "tuple[int, int]", requires: "Optional[str]" = None, *, free_threaded: bool = False
) -> "Optional[str]":
    """Return the path of the first CPython *minor* that *requires* admits, as the launcher does."""
    interpreters = Interpreters(None, Node()).of_minor(minor, free_threaded=free_threaded)
    matching = (python.path for python in interpreters if python_matches(requires, python.version))
    return next(matching, None)


class Interpreter:
    """A CPython of this node, by the real path of the base interpreter.

    One that is included in the bundle has the path of its *archive* in the bundle, and is unpacked
    to *folder* before use.
    """

    def __init__(
        self,
        path: str,
        version: "tuple[int, int, int]",
        *,
        free_threaded: bool,
        archive: "Optional[str]" = None,
        folder: str = "",
    ) -> None:
        self.path = path
        self.version = version
        self.is_free_threaded = free_threaded
        self.archive = archive
        self.folder = folder

    def __str__(self) -> str:
        abi = "t" if self.is_free_threaded else ""
        return f"Python {dotted_version(self.version)}{abi} ({self.path})"

    @property
    def name(self) -> str:
        """Name of its program and of the folder of its library: `python3.13t`."""
        return f"python{dotted_version(self.version[:2])}{'t' if self.is_free_threaded else ''}"


def requested_minor(python: str) -> "tuple[int, ...]":
    """Return the version that `--python 3.12` asks for, as in uv; empty for a path or name."""
    return version_numbers(python) if re.fullmatch(r"3\.\d{1,2}", python) else ()


class Interpreters:
    """Finds the interpreters of this node, and starts each once to find out what it is."""

    def __init__(self, explicit: "Optional[str]", node: Node) -> None:
        """*explicit* is the path of the only one to use, or the version of those to use."""
        self.minor = requested_minor(explicit or "")
        self.explicit = None if self.minor else explicit
        self.node = node
        self._described: dict[str, Union[Interpreter, str]] = {}

    def of_minor(
        self, minor: "tuple[int, ...]", *, free_threaded: bool = False
    ) -> "Iterator[Interpreter]":
        """Yield the interpreters of one minor version, preferred ones first."""
        if not self.may_be(minor):
            return
        paths = _interpreter_paths(minor, "t" if free_threaded else "")
        for path in [self.explicit] if self.explicit else paths:
            if path not in self._described:
                self._described[path] = describe_interpreter(path, self.node)
            python = self._described[path]
            if isinstance(python, str):
                continue
            if python.version[:2] == minor and python.is_free_threaded == free_threaded:
                yield python

    def may_be(self, minor: "tuple[int, ...]") -> bool:
        """Return False for another version than the one that was asked for."""
        return self.minor in ((), minor)

    def usable(self) -> "list[Interpreter]":
        """Return those that were found, of any version."""
        return [python for python in self._described.values() if isinstance(python, Interpreter)]

    def __str__(self) -> str:
        """List the interpreters that were found and those that were passed over, for messages."""
        faults = {path: fault for path, fault in self._described.items() if isinstance(fault, str)}
        if self.explicit in faults:
            return f"only {self.explicit} was asked for, and it {faults[self.explicit]}"
        usable = set(map(str, self.usable()))
        passed_over = [f"{path} {fault}" for path, fault in faults.items()]
        asked = f"only Python {dotted_version(self.minor)} was asked for: " if self.minor else ""
        return "; ".join(
            [asked + (", ".join(sorted(usable)) or "none found")]
            + (["passed over: " + ", ".join(passed_over)] if passed_over else [])
        )


def _interpreter_paths(minor: "tuple[int, ...]", abi: str) -> "Iterator[str]":
    """Yield where a Python *minor* may be: this one, all on PATH, those of uv and of pyenv."""
    if sys.version_info[:2] == minor:
        yield sys.executable
    dotted = dotted_version(minor)
    for name in (f"python{dotted}{abi}", "python3", "python"):
        yield from find_programs(name)
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    managed = os.environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv", "python")
    pyenv = os.path.join(os.environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv"), "versions")
    for folder in _newest_first(managed, f"cpython-{dotted}.") + _newest_first(pyenv, f"{dotted}."):
        for inner in (os.path.join("bin", f"python{dotted}{abi}"), "python.exe"):
            if os.path.isfile(os.path.join(folder, inner)):
                yield os.path.join(folder, inner)


def _newest_first(folder: str, prefix: str) -> "list[str]":
    """List the subfolders of one minor version in *folder*, the highest patch number first."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(prefix)]
    except OSError:
        return []
    numbers = {name: [int(number) for number in re.findall(r"\d+", name)] for name in names}
    names.sort(key=lambda name: (numbers[name], name), reverse=True)
    return [os.path.join(folder, name) for name in names]


def describe_interpreter(path: str, node: Node) -> "Union[Interpreter, str]":
    """Return the interpreter that the program at *path* starts, or why it cannot be used.

    Environments link to the interpreter's real path, not to a wrapper script. So the real path is
    started too, and must give the same answer.
    """
    info = _interpreter_info(path)
    if info is None:
        return "does not start"
    try:
        fault = _interpreter_fault(info, node)
        real_path = str(info["path"])
        major, minor, micro = info["version"]
    except (KeyError, TypeError, ValueError):  # a wrapper may print any JSON
        return "does not start Python"
    if fault:
        return fault
    if real_path != os.path.realpath(path) and _interpreter_info(real_path) != info:
        return f"starts {real_path}, which does not start without it"
    return Interpreter(real_path, (major, minor, micro), free_threaded=info["free-threaded"])


@cache
def _interpreter_info(path: str) -> "Optional[dict[str, Any]]":
    if path == sys.executable and not any(os.environ.get(name) for name in PYTHON_VARIABLES):
        return describe()  # it runs this program: it need not be started for that
    try:
        result = subprocess.run(
            [path, "-I", _INFO_PROGRAM],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=tool_variables(),
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
        # wrappers and .pth files may print before
        info = json.loads(result.stdout.strip().rpartition(b"\n")[2])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return info if isinstance(info, dict) else None


def _interpreter_fault(info: "dict[str, Any]", node: Node) -> "Optional[str]":
    if info["implementation"] != "cpython":
        return f"is {info['implementation']}, not CPython"
    if info["release"] != "final":
        return f"is a pre-release ({info['release']})"
    if info["bits"] != 64 or (info["libc"] == "glibc") != (node.libc_family == "glibc"):
        return f"is not built for {node}"
    return None
