"""Checks of inline script metadata (PEP 723): each fault with its line. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from offline_bundle.wheelhouse.runtime.text import printable

_TYPES: Mapping[type, str] = {
    bool: "a boolean",
    str: "a string",
    int: "a number",
    float: "a number",
    dict: "a table",
    list: "a list",
}
_KEYS = ("dependencies", "requires-python", "tool")
# Common settings of uv that belong in [tool.uv].
_UV_KEYS = {
    "constraint-dependencies",
    "exclude-newer",
    "extra-index-url",
    "find-links",
    "index",
    "index-strategy",
    "index-url",
    "override-dependencies",
    "prerelease",
    "resolution",
    "sources",
}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[^\]]*\])?")
_USER_INFO = re.compile(r"//[^/\s]*@")


class Fault(NamedTuple):
    """A problem and its line: in the block from 0, or in the file from 1; None for none."""

    line: int | None
    text: str


def find_faults(metadata: Mapping[str, Any], block: str) -> list[Fault]:
    """Return what PEP 723 does not allow, in the order of the lines in the *block*."""
    faults = [
        *_dependency_faults(metadata.get("dependencies", []), block),
        *_requires_python_faults(metadata.get("requires-python", ""), block),
        *_tool_faults(metadata.get("tool", {}), block),
        *_unknown_keys(metadata, block),
        *_misplaced_keys(metadata, block),
    ]
    return sorted(faults, key=lambda fault: fault.line or 0)


def line_of(block: str, position: int) -> int:
    """Return the line (from 0) of a position in *block*."""
    return block.count("\n", 0, position)


def _dependency_faults(dependencies: object, block: str) -> Iterator[Fault]:
    start = key = _key_position(block, "dependencies")
    if not isinstance(dependencies, list):
        kind = _type_name(dependencies)
        problem = f'dependencies is {kind}; write a list of strings: dependencies = ["numpy"]'
        yield Fault(line_of(block, key), problem)
        return
    for dependency in dependencies:
        if not isinstance(dependency, str):
            kind = _type_name(dependency)
            problem = f"dependencies holds {kind}; write every requirement as a string, in quotes"
            yield Fault(line_of(block, key), problem)
            continue
        position = _string_position(block, dependency, start)
        if not _is_requirement(dependency):
            shown = printable(_USER_INFO.sub("//****@", dependency))
            yield Fault(
                line_of(block, position),
                f"`{shown}` is not a requirement; write it as in `numpy>=2` or `name @ https://…`",
            )
        start = max(start, position)


def _is_requirement(text: str) -> bool:
    """Return whether *text* is valid by PEP 508, as uv reads it.

    Of a direct reference (`name @ anything`) only the name is checked: uv accepts paths, spaces and
    variables there that the standard does not, and checks them itself.
    """
    name, at, reference = text.partition("@")
    if at and reference.strip() and _NAME.fullmatch(name.strip()):
        return True
    try:
        Requirement(" ".join(text.split()))
    except InvalidRequirement:
        return False
    return True


def _requires_python_faults(requires_python: object, block: str) -> Iterator[Fault]:
    line = line_of(block, _key_position(block, "requires-python"))
    if not isinstance(requires_python, str):
        kind = _type_name(requires_python)
        yield Fault(line, f'requires-python is {kind}; write a string: requires-python = ">=3.12"')
        return
    try:
        SpecifierSet(requires_python)
    except InvalidSpecifier:
        shown = printable(requires_python)
        problem = f"requires-python `{shown}` is not a version specifier"
        yield Fault(line, f"{problem}; write `>=3.12` or `==3.12.*`")


def _tool_faults(tool: object, block: str) -> Iterator[Fault]:
    if not isinstance(tool, dict):
        problem = f"tool is {_type_name(tool)}; it holds tables: [tool.uv]"
        yield Fault(line_of(block, _key_position(block, "tool")), problem)
        return
    settings = tool.get("uv", {})
    if not isinstance(settings, dict):
        problem = f"tool.uv is {_type_name(settings)}; write it as a table: [tool.uv]"
        position = max(_key_position(block, r"tool\s*\.\s*uv"), _key_position(block, "uv"))
        yield Fault(line_of(block, position or _key_position(block, "tool")), problem)


def _unknown_keys(metadata: Mapping[str, Any], block: str) -> Iterator[Fault]:
    """Find misspelt keys: without `dependencies` a bundle would be empty."""
    for key in sorted(metadata.keys() - set(_KEYS)):
        close = get_close_matches(key.lower().replace("_", "-"), _KEYS, n=1)
        if close:
            advice = f"did you mean `{close[0]}`?"
        elif key in _UV_KEYS:
            advice = "did you mean a key of [tool.uv]?"
        elif key == "uv":
            advice = "did you mean [tool.uv]?"
        else:
            advice = "a script has dependencies, requires-python and [tool.…] tables; remove it"
        position = _key_position(block, re.escape(key))
        yield Fault(line_of(block, position), f"unknown key `{printable(key)}`; {advice}")


def _misplaced_keys(metadata: Mapping[str, Any], block: str) -> Iterator[Fault]:
    """Find `dependencies` and `requires-python` below a `[tool.…]` header.

    TOML puts all keys after a header into that table. Other tools may have such keys: there they
    are faults only in a script without a key of this name.
    """
    tool = metadata.get("tool")
    for path, key in _nested_keys(tool if isinstance(tool, dict) else {}, ()):
        if path[0] != "uv" and key in metadata:
            continue
        positions = [match.end() - 1 for match in _key_matches(block, key)]
        header = ".".join(("tool", *path))
        problem = f"`{key}` is in the table [{printable(header)}], where it has no effect"
        line = line_of(block, max(positions, default=0))
        yield Fault(line, f"{problem}; move it above the first table")


def _nested_keys(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[Any, str]]:
    for key, value in table.items():
        # a package may be named "dependencies"; uv's dependency-metadata has requires-python, and
        # an override of one package's requirements has dependencies
        has_others = path[:2] in {("uv", "sources"), ("uv", "override-dependencies")}
        is_list = key == "dependencies" and isinstance(value, list) and not has_others
        is_python = key == "requires-python" and path[:2] != ("uv", "dependency-metadata")
        if path and (is_list or is_python):
            yield path, key
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, dict):
                yield from _nested_keys(child, (*path, key))


def _type_name(value: object) -> str:
    return _TYPES.get(type(value), "a date or time")


def _key_position(block: str, key: str) -> int:
    """Return where *key* (a regular expression) is set or its table opened; 0 where not visible."""
    match = next(_key_matches(block, key), None)
    return match.end() - 1 if match else 0


def _key_matches(block: str, key: str) -> Iterator[re.Match[str]]:
    return re.finditer(rf"^\s*(?:\[\s*)*[\"']?{key}[\"']?\s*[=.\]]", block, re.MULTILINE)


def _string_position(block: str, value: str, start: int) -> int:
    """Return where *value* is a quoted string from *start* on; *start* for another spelling."""
    spellings = {f'"{value}"', f"'{value}'", json.dumps(value)}
    positions = [block.find(spelling, start) for spelling in spellings]
    return min((position + 1 for position in positions if position >= 0), default=start)
