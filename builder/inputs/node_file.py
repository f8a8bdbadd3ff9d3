"""A node by its own description, node.json (`runner/probe.py`), and the targets that are exactly its own.

    node = read_node(Path("node.json"))
    node_targets(script, node)              # (Target("3.12", "x86_64-manylinux_2_28"),)

The file comes from another machine, perhaps by way of others' hands: it is checked for its shape, and nothing of it
that is shown or used may be anything but what it has to be.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offline_bundle.builder.inputs.targets import Target, choose_python, highest_floor, make_target
from offline_bundle.wheelhouse.runtime.errors import InputError, ResolveError
from offline_bundle.wheelhouse.runtime.requirements import python_matches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from offline_bundle.builder.inputs.scripts import Script

FORMAT = 1
_LARGEST = 1024 * 1024
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6}){0,3}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,40}")
# What uv resolves for (`_MACOS_VERSION` in builder/target.py): older ones may not run what is chosen.
_OLDEST_MACOS = (13,)


@dataclass(frozen=True)
class NodePython:
    """One CPython that the launcher could use on the node."""

    version: tuple[int, int, int]
    is_free_threaded: bool

    @property
    def minor(self) -> str:
        """As `--python-version` has it: "3.12", "3.13t"."""
        return f"{self.version[0]}.{self.version[1]}{'t' if self.is_free_threaded else ''}"


@dataclass(frozen=True)
class Node:
    """What a build has to know of a node."""

    path: Path
    """The file that says so."""
    platform: str
    """In uv's words, with the highest libc floor that uv knows and the node meets."""
    pythons: tuple[NodePython, ...]
    """The best first: the usual build before the free-threaded one, then the newest."""
    others: tuple[str, ...]
    """Interpreters that cannot serve, for messages: other implementations, pre-releases, 32 bits."""

    def has(self, minor: str) -> bool:
        """Whether the node has this Python."""
        return any(python.minor == minor for python in self.pythons)

    def __str__(self) -> str:
        """Its Pythons, for messages."""
        names = [
            ".".join(map(str, python.version)) + "t" * python.is_free_threaded
            for python in self.pythons
        ]
        return ", ".join([*names, *self.others]) or "no Python at all"


def read_node(path: Path) -> Node:
    """Read node.json.

    Raises one InputError (exit 2) that names every field at fault, ResolveError (exit 3) for a node that uv resolves
    nothing for.
    """
    document = _parse(path)
    problems: list[str] = []
    found = document.get("format")
    if found != FORMAT or isinstance(found, bool):
        hint = "make it anew with this version's probe.py"
        raise InputError(f"{path}: format: must be {FORMAT}, not {_shown(found)}", hint=hint)
    system = _text(document, "system", _WORD, problems)
    machine = _text(document, "machine", _WORD, problems)
    libc = _table(document, "libc", problems) if document.get("libc") is not None else {}
    family = _text(libc, "family", _WORD, problems, "libc.") if libc else ""
    version = _text(libc, "version", _VERSION, problems, "libc.") if family == "glibc" else ""
    macos = (
        _text(document, "macos", _VERSION, problems) if document.get("macos") is not None else ""
    )
    pythons = _pythons(document, problems)
    if problems:
        raise InputError(
            f"{path} does not describe a node",
            problems=problems,
            hint="make it on the node: python3 probe.py",
        )
    platform = _platform(path, system, machine, (family, _numbers(version)), _numbers(macos))
    usable = [(python, name) for python, name in pythons if python is not None]
    return Node(
        path=path,
        platform=platform,
        pythons=tuple(
            sorted(
                {python for python, _ in usable},
                key=lambda one: (one.is_free_threaded, [-n for n in one.version]),
            )
        ),
        others=tuple(dict.fromkeys(name for python, name in pythons if python is None)),
    )


def node_targets(
    script: Script, node: Node, python_versions: Sequence[str] = (), *, brings_python: bool = False
) -> tuple[Target, ...]:
    """The targets of *script* for *node*: its platform, with the best of its Pythons that the script admits.

    *python_versions* name others of its Pythons; with *brings_python* the bundle brings the interpreter, and any will
    do. Raises ResolveError (exit 3) where the node has none that fits, InputError (exit 2) as `Target.full_version`.
    """
    if brings_python and not python_versions:
        python_versions = (choose_python(script.requires_python, node.has),)
    if python_versions:
        targets = [make_target(version, node.platform) for version in python_versions]
        for target in targets:
            target.full_version(script.requires_python)
    else:
        targets = [
            make_target(python.minor, node.platform) for python in _admitted(script, node)[:1]
        ]
    lacking = (
        [] if brings_python else [target for target in targets if not _serves(script, node, target)]
    )
    if targets and not lacking:
        return tuple(dict.fromkeys(targets))
    wanted = ", ".join(f"Python {target.python}" for target in lacking)
    wanted = (
        wanted or f"a Python that satisfies requires-python = {json.dumps(script.requires_python)}"
    )
    raise ResolveError(
        f"{node.path}: the node has no {wanted.removeprefix('a ')}; it has {node}",
        hint="bring the interpreter along with --with-python, or name another with --python-version",
    )


def _admitted(script: Script, node: Node) -> list[NodePython]:
    return [
        python for python in node.pythons if python_matches(script.requires_python, python.version)
    ]


def _serves(script: Script, node: Node, target: Target) -> bool:
    return any(python.minor == target.python for python in _admitted(script, node))


def _platform(
    path: Path, system: str, machine: str, libc: tuple[str, tuple[int, ...]], macos: tuple[int, ...]
) -> str:
    family, version = libc
    problem = ""
    if machine not in {"x86_64", "aarch64"}:
        problem = f"uv resolves for no such machine: {machine}"
    elif system == "Linux" and family == "glibc":
        floor = highest_floor(version[1]) if version[:1] == (2,) and len(version) > 1 else None
        if floor:
            return f"{machine}-manylinux_2_{floor}"
        problem = f"uv resolves for no glibc as old as {'.'.join(map(str, version))}"
    elif system == "Linux" and family == "musl":
        return f"{machine}-unknown-linux-musl"
    elif system == "Darwin":
        if not macos or macos >= _OLDEST_MACOS:
            return f"{machine}-apple-darwin"
        problem = f"uv resolves for macOS {_OLDEST_MACOS[0]} and newer, this is {'.'.join(map(str, macos))}"
    elif system == "Windows":
        return f"{machine}-pc-windows-msvc"
    else:
        problem = f"uv resolves for no such system: {system}" + (
            f" with {family}" if family else " of unknown libc"
        )
    raise ResolveError(
        f"{path}: no target for this node: {problem}",
        hint="where you know better, name the target with --python-platform and --python-version",
    )


def _parse(path: Path) -> dict[str, Any]:
    hint = "name the file that probe.py wrote on the node: python3 probe.py > node.json"
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    if len(content) > _LARGEST:
        raise InputError(f"{path} is larger than any node.json: over {_LARGEST} bytes", hint=hint)
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply", hint=hint) from error
    except ValueError as error:  # JSON, UTF-8, integers of thousands of digits
        raise InputError(f"{path} is not JSON: {error}", hint=hint) from error
    if not isinstance(document, dict):
        raise InputError(f"{path} must be a JSON object, not {_shown(document)}", hint=hint)
    return document


def _pythons(document: dict[str, Any], problems: list[str]) -> list[tuple[NodePython | None, str]]:
    """Each interpreter with a name for messages; None for one that the launcher would pass over."""
    entries = document.get("pythons")
    if not isinstance(entries, list):
        problems.append(f"pythons: must be a list, not {_shown(entries)}")
        return []
    libc = document.get("libc")
    family = libc.get("family") if isinstance(libc, dict) else None
    found: list[tuple[NodePython | None, str]] = []
    for index, entry in enumerate(entries):
        where = f"pythons[{index}]."
        if not isinstance(entry, dict):
            problems.append(f"pythons[{index}]: must be an object, not {_shown(entry)}")
            continue
        version = _numbers(_text(entry, "version", _VERSION, problems, where))
        implementation = _text(entry, "implementation", _WORD, problems, where)
        release = _text(entry, "release", _WORD, problems, where)
        is_free_threaded = _flag(entry, "free-threaded", problems, where)
        bits = entry.get("bits")
        if type(bits) is not int:
            problems.append(f"{where}bits: must be a number, not {_shown(bits)}")
        of_glibc = (entry.get("libc") == "glibc") == (family == "glibc")
        dotted = ".".join(map(str, version))
        kinds = [
            implementation,
            "" if release == "final" else release,
            "" if bits == 64 else "of 32 bits",
        ]
        kinds += [] if of_glibc else ["for another libc"]
        serves = (
            implementation == "cpython"
            and release == "final"
            and bits == 64
            and of_glibc
            and len(version) == 3
        )
        python = (
            NodePython((version[0], version[1], version[2]), is_free_threaded) if serves else None
        )
        found.append((python, " ".join([dotted, *filter(None, kinds)])))
    return found


def _table(document: dict[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    value = document.get(key)
    if isinstance(value, dict):
        return value
    problems.append(f"{key}: must be an object, not {_shown(value)}")
    return {}


def _text(
    table: dict[str, Any], key: str, pattern: re.Pattern[str], problems: list[str], where: str = ""
) -> str:
    value = table.get(key)
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    kind = "a version such as 2.28" if pattern is _VERSION else "a name"
    problems.append(f"{where}{key}: must be {kind}, not {_shown(value)}")
    return ""


def _flag(table: dict[str, Any], key: str, problems: list[str], where: str) -> bool:
    value = table.get(key)
    if not isinstance(value, bool):
        problems.append(f"{where}{key}: must be true or false, not {_shown(value)}")
    return value is True


def _shown(value: object) -> str:
    """A value from outside, safe to show: no control character, no page of text."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)
