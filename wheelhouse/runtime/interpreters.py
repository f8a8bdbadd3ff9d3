"""Find CPython interpreters on this node."""

import os
import re
import sys

from .platforms import Node, dotted_version
from .processes import find_program, tool_variables
from .requirements import python_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional


def find_interpreter(minor: "tuple[int, int]", requires: "Optional[str]" = None) -> "Optional[str]":
    """Return the path of this machine's first CPython of *minor* that *requires* admits, as a launch looks for it."""
    found = Interpreters(None, Node()).of_minor(minor)
    return next((python.path for python in found if python_matches(requires, python.version)), None)


class Interpreter:
    """A CPython of this node, by the real path of the base interpreter, never of a virtual environment.

    One that the bundle brings has the path of its *archive*, and is unpacked to *folder* before it is used.
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
        """Version and path, for messages."""
        return f"Python {dotted_version(self.version)}{'t' if self.is_free_threaded else ''} ({self.path})"


class Interpreters:
    """Finds interpreters, asking each once; one that does not run (an idle pyenv shim) is passed over."""

    def __init__(
        self, explicit: "Optional[str]", node: Node, cache: "Optional[str]" = None
    ) -> None:
        self.explicit = explicit
        self.cache = cache
        self.node = node
        self._asked: "dict[str, Optional[Interpreter]]" = {}

    def of_minor(
        self, minor: "tuple[int, ...]", *, free_threaded: bool = False
    ) -> "Iterator[Interpreter]":
        """Yield the interpreters of one minor version, preferred ones first."""
        paths = _interpreter_paths(minor, "t" if free_threaded else "")
        for path in [self.explicit] if self.explicit else paths:
            if path not in self._asked:
                self._asked[path] = describe_interpreter(path, self.node)
            found = self._asked[path]
            if found and found.version[:2] == minor and found.is_free_threaded == free_threaded:
                yield found

    def __str__(self) -> str:
        """List those that were asked, for messages."""
        if self.explicit and not self._asked.get(self.explicit):
            return f"only {self.explicit} was asked for, and it is no CPython for this node"
        return (
            ", ".join(sorted({str(found) for found in self._asked.values() if found}))
            or "none found"
        )


def _interpreter_paths(minor: "tuple[int, ...]", abi: str) -> "Iterator[str]":
    """Yield where a Python of this minor version may be: this one, PATH's, uv's, pyenv's."""
    if sys.version_info[:2] == minor:
        yield sys.executable
    dotted = dotted_version(minor)
    for name in (f"python{dotted}{abi}", "python3", "python"):
        path = find_program(name)
        if path:
            yield path
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    managed = os.environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv", "python")
    pyenv = os.path.join(os.environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv"), "versions")
    for folder in _newest_first(managed, f"cpython-{dotted}.") + _newest_first(pyenv, f"{dotted}."):
        for inner in (os.path.join("bin", f"python{dotted}{abi}"), "python.exe"):
            if os.path.isfile(os.path.join(folder, inner)):
                yield os.path.join(folder, inner)


def _newest_first(folder: str, prefix: str) -> "list[str]":
    """List the versions of one minor in *folder*, the highest patch number first."""

    try:
        names = [name for name in os.listdir(folder) if name.startswith(prefix)]
    except OSError:
        return []
    names.sort(
        key=lambda name: ([int(number) for number in re.findall(r"\d+", name)], name), reverse=True
    )
    return [os.path.join(folder, name) for name in names]


_DESCRIBE_INTERPRETER = """
import json, os, struct, sys, sysconfig
path = sys.executable
if sys.prefix != sys.base_prefix:
    abi = getattr(sys, "abiflags", "")
    inner = "python.exe" if os.name == "nt" else "bin/python%d.%d%s" % (sys.version_info[:2] + (abi,))
    base = os.path.join(sys.base_prefix, inner)
    path = base if os.path.exists(base) else getattr(sys, "_base_executable", path)
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except Exception:
    libc = ""
print(json.dumps({
    "path": os.path.realpath(path), "version": list(sys.version_info[:3]), "release": sys.version_info[3],
    "implementation": sys.implementation.name,
    "free-threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "libc": libc.split(" ")[0], "bits": struct.calcsize("P") * 8,
}))
"""


def describe_interpreter(path: str, node: Node) -> "Optional[Interpreter]":
    """Return what the interpreter at *path* says of itself, or None for one that cannot serve this node."""
    import json
    import subprocess

    try:
        done = subprocess.run(
            [path, "-I", "-c", _DESCRIBE_INTERPRETER],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=tool_variables(),
            timeout=60,
            check=True,
        )
        said = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    is_native = said["bits"] == 64 and (said["libc"] == "glibc") == (node.libc_family == "glibc")
    if said["implementation"] != "cpython" or said["release"] != "final" or not is_native:
        return None
    major, minor, micro = said["version"]
    return Interpreter(said["path"], (major, minor, micro), free_threaded=said["free-threaded"])
