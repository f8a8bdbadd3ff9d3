"""A script: a Python file that says in its own first lines what it needs (PEP 723).

    >>> read_script(Path("eval.py")).dependencies
    ('numpy', 'matplotlib')

Everything that is wrong with the scripts of one build is found in one pass and reported together, each
fault with its line in the file. What uv accepts is accepted: unknown keys and tool tables, a missing
`dependencies`, any direct reference. An unterminated block, which is no block at all to PEP 723's reference
implementation, is an error here, as it is to uv.
"""

from __future__ import annotations

import json
import re
import stat
import tomllib
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.paths import printable, unsafe_path
from offline_bundle.wheelhouse.runtime.pep723 import read_block

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_OPENING = "# /// script"

_HEADER_HINT = """a script names what it needs in a comment block, each line exactly as here:

# /// script
# requires-python = ">=3.12"
# dependencies = ["numpy", "matplotlib"]
# ///"""

_KINDS: Mapping[type, str] = {
    bool: "a boolean",
    str: "a string",
    int: "a number",
    float: "a number",
    dict: "a table",
    list: "a list",
}

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[^\]]*\])?")
_USER_INFO = re.compile(r"//[^/\s]*@")
_ERROR_LINE = re.compile(r"line (\d+): ")
_TOML_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)$")


@dataclass(frozen=True)
class Script:
    """One script as read: its bytes untouched, its metadata parsed and found sound."""

    path: Path
    """As the user gave it."""
    name: str
    """The file's name without its suffix: the script's key in a bundle."""
    source: bytes = field(repr=False)
    """The file, verbatim."""
    block: str
    """The TOML text of its metadata block, without the comment signs."""
    dependencies: tuple[str, ...]
    """Requirements as written."""
    requires_python: str | None
    """As written, or None."""
    metadata: Mapping[str, Any] = field(hash=False)
    """The whole metadata table, unknown keys included."""

    @property
    def settings(self) -> dict[str, Any]:
        """The script's `[tool.uv]` table; empty where it has none."""
        return dict(self.metadata.get("tool", {}).get("uv", {}))


def notes_for_uv(scripts: Iterable[Script]) -> list[str]:
    """Scripts whose block uv itself overlooks: it goes by the first `# /// script`, which must begin a line for it."""
    notes = []
    for script in scripts:
        first = script.source.find(_OPENING.encode())
        if first > 0 and script.source[first - 1] not in b"\r\n":
            what = (
                "a byte order mark"
                if script.source[:first] == b"\xef\xbb\xbf"
                else f"`{_OPENING}` within a line"
            )
            notes.append(
                f"{printable(str(script.path))}: uv overlooks its metadata because of {what} before it: `uv run` goes "
                "without its dependencies; run.py and `offline-bundle run` do not"
            )
    return notes


def read_scripts(paths: Sequence[Path]) -> tuple[Script, ...]:
    """Read every script; raise one `InputError` with all faults of all of them."""
    scripts: list[Script] = []
    problems: list[str] = []
    hints: dict[str, None] = {}
    for path in paths:
        try:
            scripts.append(read_script(path))
        except InputError as error:
            problems += error.problems
            hints |= {error.hint: None} if error.hint else {}
    problems += _name_collisions(paths)
    if problems:
        raise InputError(
            "the scripts cannot be used", hint="\n\n".join(hints) or None, problems=problems
        )
    return tuple(scripts)


def read_script(path: Path) -> Script:
    """Read one script; raise `InputError` with everything that is wrong with it."""
    fault = _name_fault(path.stem)
    if fault:
        raise _refused(path, [fault])
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _refused(path, ["is a directory; name the script itself"])
        if not stat.S_ISREG(mode):
            raise _refused(path, ["is not a regular file; save the script to one"])
        source = path.read_bytes()
    except FileNotFoundError:
        raise _refused(path, ["no such file; check the path"]) from None
    except OSError as error:
        fault = f"cannot be read ({error.strerror}); check its path and permissions"
        raise _refused(path, [fault]) from error
    return parse_script(path, source)


def parse_script(path: Path, source: bytes) -> Script:
    """Make a `Script` of a file's content, without touching the disk; raise as `read_script` does."""
    text = _decode(path, source)
    block, first_line = _find_block(path, text)
    metadata = _parse_toml(path, block, first_line)
    problems = [(first_line + line, fault) for line, fault in _metadata_faults(metadata, block)]
    if problems:
        raise _refused(path, [fault for _, fault in problems], lines=[line for line, _ in problems])
    return Script(
        path=path,
        name=path.stem,
        source=source,
        block=block,
        dependencies=tuple(metadata.get("dependencies", ())),
        requires_python=metadata.get("requires-python"),
        metadata=metadata,
    )


def metadata_error(
    faults: Iterable[tuple[Script, int, Sequence[str], str]], hint: str
) -> InputError:
    """One error for what another reader of these scripts cannot read.

    Each fault: its script, the line of the block (from 0) where it is or begins, words that are found there one after
    the other and lead nearer to it, and what to say.
    """
    problems: list[str] = []
    for script, line, words, fault in faults:
        first = _find_block(script.path, _decode(script.path, script.source))[1]
        position = sum(len(text) + 1 for text in script.block.split("\n")[:line])
        for word in filter(None, words):
            found = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])").search(
                script.block, position
            )
            position = found.start() if found else position
        problems += _refused(
            script.path, [fault], lines=[first + _line_at(script.block, position)]
        ).problems
    return InputError("the scripts cannot be used", hint=hint, problems=problems)


def _refused(
    path: Path, faults: Sequence[str], *, lines: Sequence[int] = (), hint: str | None = None
) -> InputError:
    """One error for *path*: a problem per fault, each with its line where it has one."""
    label = printable(str(path))
    places = [f"{label}:{line}" for line in lines] or [label] * len(faults)
    problems = [f"{place}: {fault}" for place, fault in zip(places, faults, strict=True)]
    return InputError(f"{label} cannot be used", hint=hint, problems=problems)


def _name_fault(name: str) -> str | None:
    """Why *name* cannot be a key in a bundle, which becomes a folder's name there."""
    if any(
        unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} or letter == "\\"
        for letter in name
    ):
        return "its name has a control character, a backslash or bytes that are not UTF-8; rename the file"
    if not name.strip(". "):
        return "its name is nothing but dots or spaces; rename the file"
    reason = unsafe_path(name)
    return (
        f"its name cannot be that of a file everywhere: {reason}; rename the file"
        if reason
        else None
    )


def _name_collisions(paths: Iterable[Path]) -> list[str]:
    """Scripts whose names differ by nothing that every file system can tell apart."""
    first: dict[str, Path] = {}
    problems = []
    for path in paths:
        key = unicodedata.normalize("NFC", path.stem).casefold()
        if key in first:
            other = printable(str(first[key]))
            problems.append(
                f"{printable(str(path))}: has the same name as {other}; a bundle knows a script by its file "
                "name without the suffix, so rename one (case is not told apart) or build two bundles"
            )
        first.setdefault(key, path)
    return problems


def _decode(path: Path, source: bytes) -> str:
    """Decode UTF-8, as PEP 723 asks; drop a byte order mark, make every line end a newline."""
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        fault = (
            f"byte {error.start} (0x{source[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        )
        raise _refused(path, [fault], lines=[line]) from None
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _find_block(path: Path, text: str) -> tuple[str, int]:
    """Return the metadata block's TOML text, and the line in the file on which it begins (from 1)."""
    lines = text.split("\n")
    try:
        block = read_block(text)
    except BundleError as error:
        found = _ERROR_LINE.match(error.message)
        number = int(found[1]) if found else 1
        fault = f"{_ERROR_LINE.sub('', error.message)}; {_break(lines, number) or error.hint}"
        raise _refused(path, [fault], lines=[number]) from None
    if block is None:
        raise _no_block(path, lines)
    size = block.count("\n")
    opening = next(
        number
        for number, line in enumerate(lines, 1)
        if line == _OPENING
        and "".join(f"{line[2:]}\n" for line in lines[number : number + size]) == block
    )
    return block, opening + 1


def _break(lines: Sequence[str], opening: int) -> str | None:
    """Where the block that is opened on line *opening* breaks off, if it does, and what must stand there."""
    for number, line in enumerate(lines[opening:], opening + 1):
        if re.match(r"\s*#\s*/{2,}", line):
            return f"line {number} must be exactly `# ///`" if line != "# ///" else None
        if line != "#" and not line.startswith("# "):
            return f"line {number} is no line of it: they all begin with `# `, and the last one is `# ///`"
    return None


def _no_block(path: Path, lines: Sequence[str]) -> InputError:
    """No metadata at all; where a line was clearly meant to open it, say which."""
    for number, line in enumerate(lines, 1):
        if re.fullmatch(r"\s*#\s*/{3,}\s*script\s*", line, re.IGNORECASE):
            fault = f"no metadata: this line must be exactly `{_OPENING}`, from its first column to its last"
            return _refused(path, [fault], lines=[number], hint=_HEADER_HINT)
    fault = "no inline metadata (PEP 723); add a metadata block at the top of the file"
    return _refused(path, [fault], lines=[1], hint=_HEADER_HINT)


def _parse_toml(path: Path, block: str, first_line: int) -> dict[str, Any]:
    """Parse the block; a fault is reported with its line in the file, not in the block."""
    try:
        return tomllib.loads(block)
    except RecursionError:
        raise _refused(
            path, ["the metadata is nested too deep; flatten it"], lines=[first_line]
        ) from None
    except ValueError as error:  # also a bare one, for a number of thousands of digits
        message = str(error)
        found = _TOML_LINE.search(message)
        line = int(found[1]) if found else max(block.count("\n"), 1)
        what = _TOML_LINE.sub("", message)
        fault = f"the metadata is not valid TOML: {what}; correct this line"
        raise _refused(path, [fault], lines=[first_line + line - 1]) from None


def _metadata_faults(metadata: Mapping[str, Any], block: str) -> list[tuple[int, str]]:
    """Find what PEP 723 does not allow: (line in the block from 0, fault), in the order of the lines."""
    faults = [
        *_dependency_faults(metadata.get("dependencies", []), block),
        *_requires_python_faults(metadata.get("requires-python", ""), block),
        *_tool_faults(metadata.get("tool", {}), block),
    ]
    return sorted(faults, key=lambda fault: fault[0])


def _dependency_faults(dependencies: object, block: str) -> list[tuple[int, str]]:
    start = key = _key_position(block, "dependencies")
    if not isinstance(dependencies, list):
        fault = f'dependencies is {_kind(dependencies)}; write a list of strings: dependencies = ["numpy"]'
        return [(_line_at(block, key), fault)]
    faults = []
    for dependency in dependencies:
        if not isinstance(dependency, str):
            fault = (
                f"dependencies holds {_kind(dependency)}; every requirement is a string, in quotes"
            )
            faults.append((_line_at(block, key), fault))
            continue
        position = _string_position(block, dependency, start)
        what = _requirement_fault(dependency)
        if what:
            shown = printable(_USER_INFO.sub("//****@", dependency))
            fault = f"`{shown}` is not a requirement: {what}; write it as in `numpy>=2` or `name @ https://…`"
            faults.append((_line_at(block, position), fault))
        start = max(start, position)
    return faults


def _requirement_fault(requirement: str) -> str | None:
    """Why *requirement* is not one by PEP 508, as uv reads it.

    Of a direct reference (`name @ anything`) only the name is looked at: uv takes paths, spaces and variables
    there that the standard does not, and judges them itself.
    """
    name, at, reference = requirement.partition("@")
    if at and reference.strip() and _NAME.fullmatch(name.strip()):
        return None
    try:
        Requirement(requirement)
    except InvalidRequirement as error:
        return printable(_USER_INFO.sub("//****@", str(error).partition("\n")[0]))
    return None


def _requires_python_faults(requires_python: object, block: str) -> list[tuple[int, str]]:
    line = _line_at(block, _key_position(block, "requires-python"))
    if not isinstance(requires_python, str):
        fault = f'requires-python is {_kind(requires_python)}; write a string: requires-python = ">=3.12"'
        return [(line, fault)]
    try:
        SpecifierSet(requires_python)
    except InvalidSpecifier:
        shown = printable(requires_python)
        fault = (
            f"requires-python `{shown}` is not a version specifier; write `>=3.12` or `==3.12.*`"
        )
        return [(line, fault)]
    return []


def _tool_faults(tool: object, block: str) -> list[tuple[int, str]]:
    if not isinstance(tool, dict):
        fault = f"tool is {_kind(tool)}; it holds tables: [tool.uv]"
        return [(_line_at(block, _key_position(block, "tool")), fault)]
    settings = tool.get("uv", {})
    if not isinstance(settings, dict):
        fault = f"tool.uv is {_kind(settings)}; write it as a table: [tool.uv]"
        position = max(_key_position(block, r"tool\s*\.\s*uv"), _key_position(block, "uv"))
        return [(_line_at(block, position or _key_position(block, "tool")), fault)]
    return []


def _kind(value: object) -> str:
    """Say in words what a TOML value is."""
    return _KINDS.get(type(value), "a date or time")


def _key_position(block: str, key: str) -> int:
    """Find where *key* (a regular expression) is set or its table opened; 0 where that cannot be seen."""
    found = re.search(rf"^\s*(?:\[\s*)*[\"']?{key}[\"']?\s*[=.\]]", block, re.MULTILINE)
    return found.end() - 1 if found else 0


def _string_position(block: str, value: str, start: int) -> int:
    """Find *value* as a quoted string at or after *start*; *start* where it is written in another way."""
    spellings = {f'"{value}"', f"'{value}'", json.dumps(value)}
    positions = [block.find(spelling, start) for spelling in spellings]
    return min((position + 1 for position in positions if position >= 0), default=start)


def _line_at(block: str, position: int) -> int:
    return block.count("\n", 0, position)
