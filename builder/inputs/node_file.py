"""A node described by its node.json (`runner/standalone/probe.py`), and the targets for it.

    node = read_node(Path("node.json"))
    node_targets(script, node)              # (Target("3.12", "x86_64-manylinux_2_28"),)

The file comes from another machine and is untrusted: each field that is shown or used is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target, choose_python, make_target
from offline_bundle.wheelhouse.runtime.errors import InputError, ResolveError
from offline_bundle.wheelhouse.runtime.python.platforms import (
    MACOS_VERSION,
    dotted_version,
    highest_floor,
    version_numbers,
)
from offline_bundle.wheelhouse.runtime.python.requirements import python_matches
from offline_bundle.wheelhouse.runtime.strict_json import (
    JsonTable,
    Problems,
    parse_object,
    shown_value,
)

FORMAT = 1
_LARGEST_FILE = 1024 * 1024
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6}){0,3}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_HINT = "name the file that probe.py wrote on the node: python3 probe.py > node.json"


@dataclass(frozen=True)
class NodePython:
    """A CPython of the node that the launcher can use."""

    version: tuple[int, int, int]
    is_free_threaded: bool

    @property
    def minor(self) -> str:
        """As for `--python-version`: "3.12", "3.13t"."""
        return f"{self.version[0]}.{self.version[1]}{'t' if self.is_free_threaded else ''}"


@dataclass(frozen=True)
class NodeDescription:
    """The facts of a node that decide its targets."""

    path: Path
    """Its node.json."""
    platform: str
    """uv's name, with the highest libc floor that uv has and the node meets."""
    pythons: tuple[NodePython, ...]
    """The best first: the default build before the free-threaded one, then the newest."""
    others: tuple[str, ...]
    """Unusable interpreters, for messages: other implementations, pre-releases, 32 bits."""

    def has(self, minor: str) -> bool:
        """Return whether the node has this Python."""
        return any(python.minor == minor for python in self.pythons)

    def __str__(self) -> str:
        names = [
            dotted_version(python.version) + "t" * python.is_free_threaded
            for python in self.pythons
        ]
        return ", ".join([*names, *self.others]) or "no Python at all"


def read_node(path: Path) -> NodeDescription:
    """Read node.json.

    Raises one InputError (exit 2) for all invalid fields, ResolveError (exit 3) for a node that uv
    has no platform for.
    """
    document = _parse(path)
    file_format = document.get("format")
    if file_format != FORMAT or isinstance(file_format, bool):
        raise InputError(
            f"{path}: format: must be {FORMAT}, not {shown_value(file_format)}",
            hint="run probe.py of this version on the node again",
        )
    problems = Problems()
    table = JsonTable(document, (), problems)
    system, machine = _word(table, "system"), _word(table, "machine")
    libc = table.table("libc") if table.has("libc") else None
    family = _word(libc, "family") if libc else ""
    libc_version = _version(libc, "version") if libc and family == "glibc" else ()
    macos = _version(table, "macos") if table.has("macos") else ()
    pythons = list(_read_pythons(table, family))
    problems.raise_if_any(f"{path}: not a valid node.json", _HINT, InputError)
    usable = {python for python, _ in pythons if python is not None}
    return NodeDescription(
        path=path,
        platform=_platform(path, system, machine, (family, libc_version), macos),
        pythons=tuple(sorted(usable, key=_preference)),
        others=tuple(dict.fromkeys(name for python, name in pythons if python is None)),
    )


def node_targets(
    script: Script,
    node: NodeDescription,
    python_versions: Sequence[str] = (),
    *,
    bundle_python: bool = False,
) -> tuple[Target, ...]:
    """Return the targets of *script* for *node*: its platform, and its best admitted Python.

    *python_versions* name others of its Pythons; with *bundle_python* the bundle includes the
    interpreter, and any version will do. Raises ResolveError (exit 3) where the node has no Python
    that fits, InputError (exit 2) as `Target.full_version`.
    """
    if bundle_python and not python_versions:
        python_versions = (choose_python(script.requires_python, node.has),)
    admitted = [
        python for python in node.pythons if python_matches(script.requires_python, python.version)
    ]
    minors = python_versions or [python.minor for python in admitted[:1]]
    targets = [make_target(minor, node.platform) for minor in minors]
    for target in targets:
        target.full_version(script.requires_python)
    available = {python.minor for python in admitted}
    missing = [
        target.python for target in targets if not bundle_python and target.python not in available
    ]
    if targets and not missing:
        return tuple(dict.fromkeys(targets))
    requires = json.dumps(script.requires_python)
    subject = ", ".join(f"Python {minor}" for minor in missing)
    subject = subject or f"Python that satisfies requires-python = {requires}"
    raise ResolveError(
        f"{node.path}: the node has no {subject}; it has {node}",
        hint="include a Python with --with-python, or name another with --python-version",
    )


def _preference(python: NodePython) -> tuple[bool, list[int]]:
    return python.is_free_threaded, [-number for number in python.version]


def _platform(
    path: Path, system: str, machine: str, libc: tuple[str, tuple[int, ...]], macos: tuple[int, ...]
) -> str:
    family, version = libc
    if machine not in {"x86_64", "aarch64"}:
        problem = f"uv has no such machine: {machine}"
    elif system == "Linux" and family == "glibc":
        floor = highest_floor(version[1]) if version[:1] == (2,) and len(version) > 1 else None
        if floor:
            return f"{machine}-manylinux_2_{floor}"
        problem = f"uv has no platform for glibc {dotted_version(version)}"
    elif system == "Linux" and family == "musl":
        return f"{machine}-unknown-linux-musl"
    elif system == "Darwin":
        # older ones may not run the wheels that uv chooses
        if not macos or macos >= MACOS_VERSION[:1]:
            return f"{machine}-apple-darwin"
        problem = f"uv needs macOS {MACOS_VERSION[0]} or newer, this is {dotted_version(macos)}"
    elif system == "Windows":
        return f"{machine}-pc-windows-msvc"
    else:
        libc_name = f"with {family}" if family else "of unknown libc"
        problem = f"uv has no such system: {system} {libc_name}"
    raise ResolveError(
        f"{path}: no target for this node: {problem}",
        hint="name a target that runs there with --python-platform and --python-version",
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    if len(content) > _LARGEST_FILE:
        raise InputError(f"{path} is too large: over {_LARGEST_FILE} bytes", hint=_HINT)
    content = content.removeprefix(b"\xef\xbb\xbf")
    return parse_object(content, str(path), error_type=InputError, hint=_HINT)


def _word(table: JsonTable, key: str) -> str:
    return table.text(key, _WORD, "a name")


def _version(table: JsonTable, key: str) -> tuple[int, ...]:
    return version_numbers(table.text(key, _VERSION, "a version such as 2.28"))


def _read_pythons(table: JsonTable, libc_family: str) -> Iterator[tuple[NodePython | None, str]]:
    """Yield each interpreter with a name for messages; None for one that the launcher skips."""
    for entry in table.entries("pythons"):
        version = _version(entry, "version")
        implementation, release = _word(entry, "implementation"), _word(entry, "release")
        is_free_threaded = entry.flag("free-threaded", required=True)
        bits = entry.integer("bits", least=0, kind="a number")
        fits_libc = (entry.optional_text("libc") == "glibc") == (libc_family == "glibc")
        labels = [implementation]
        labels += [] if release == "final" else [release]
        labels += [] if bits == 64 else ["of 32 bits"]
        labels += [] if fits_libc else ["for another libc"]
        python = None
        if labels == ["cpython"] and len(version) == 3:
            python = NodePython((version[0], version[1], version[2]), is_free_threaded)
        yield python, " ".join(filter(None, [dotted_version(version), *labels]))
