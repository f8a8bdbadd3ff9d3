"""Scripts with inline metadata (PEP 723).

    >>> read_script(Path("eval.py")).dependencies
    ('numpy', 'matplotlib')

All faults of all scripts of a build are found in one pass and reported together, each with its line
in the file. Requirements that uv accepts are accepted. An unclosed block, which the reference
implementation of PEP 723 silently skips, is an error here, as in uv.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from offline_bundle.builder.inputs.imports import imported_modules, likely_package
from offline_bundle.builder.inputs.notebooks import notebook_code, notebook_script
from offline_bundle.builder.inputs.other_files import describe_other
from offline_bundle.builder.inputs.script_checks import Fault, find_faults, line_of
from offline_bundle.wheelhouse.runtime.disk.paths import unsafe_path
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.python.pep723 import (
    OPENING,
    Block,
    MetadataError,
    find_block,
)
from offline_bundle.wheelhouse.runtime.text import printable, without_logins

if TYPE_CHECKING:
    AddHeader = Callable[[Path, bytes], bytes]
    """Returns a script's source with a metadata block."""

_HEADER_HINT = """a metadata block is a comment with each line as here:

# /// script
# requires-python = ">=3.12"
# dependencies = ["numpy", "matplotlib"]
# ///"""
_LEAVE_OUT_HINT = (
    "to leave out files without metadata, name their folder, or put the pattern in quotes: '*.py'"
)

_TOML_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)$")
# Comments that were meant to open a block: `#/// script`, `## //// Scirpt`, `# // script`.
_NEAR_OPENING = re.compile(r"\s*#+\s*/{2,}\s*([A-Za-z]{4,10})\s*")
_EXACT_MINOR = re.compile(r"\s*={2,3}\s*(3\.\d+)\s*")
_LOOSE_KEY = re.compile(r"#\s*(?:dependencies|requires-python)\s*=")


@dataclass(frozen=True)
class Script:
    """One script: its bytes unchanged, its metadata parsed and valid."""

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
    """The whole metadata table."""
    has_project: bool = True
    """False if the configuration of a project beside it does not apply."""
    has_own_header: bool = True
    """False if the metadata was added to what the file has, or comes from a notebook."""

    @property
    def code(self) -> bytes:
        """What the user wrote: of a notebook, its cells. Raises OSError for a removed notebook."""
        is_notebook = self.path.suffix == ".ipynb"
        return notebook_code(self.path.read_bytes()) if is_notebook else self.source

    @property
    def settings(self) -> dict[str, Any]:
        """The script's `[tool.uv]` table; empty where it has none."""
        return dict(self.metadata.get("tool", {}).get("uv", {}))

    @property
    def bundled(self) -> bytes:
        """The file as a bundle has it: without the logins of URLs in its metadata."""
        content = self.source
        for line in self.block.split("\n"):
            clean = without_logins(line)
            if clean != line:
                content = content.replace(f"# {line}".encode(), f"# {clean}".encode())
        return content


def read_scripts(paths: Sequence[Path], add_header: AddHeader | None = None) -> tuple[Script, ...]:
    """Read all scripts; raise one `InputError` with all faults of all of them.

    *add_header* adds metadata to scripts without any.
    """
    scripts: list[Script] = []
    problems: list[str] = []
    hints: dict[str, None] = {}
    for path in dict.fromkeys(paths):
        try:
            scripts.append(read_script(path, add_header))
        except InputError as error:
            problems += error.problems
            hints |= {error.hint: None} if error.hint else {}
    problems += _name_collisions(paths)
    if scripts and _HEADER_HINT in hints:  # as after the shell's *.py
        hints |= {_LEAVE_OUT_HINT: None}
    if problems:
        raise InputError(
            "the scripts cannot be used", hint="\n\n".join(hints) or None, problems=problems
        )
    return tuple(scripts)


def read_script(path: Path, add_header: AddHeader | None = None) -> Script:
    """Read one script; raise `InputError` with all its faults."""
    problem = _name_problem(path.stem)
    if problem:
        raise _script_error(path, [Fault(None, problem)])
    content = source = _read_file(path)
    if path.suffix == ".ipynb":
        source = _read_notebook(path, content)
    elif not opens_block(content):
        if path.suffix != ".py" and (other := describe_other(path, content)):
            raise _script_error(path, [Fault(None, other)])
        source = add_header(path, content) if add_header else content
    return replace(parse_script(path, source), has_own_header=source is content)


def opens_block(source: bytes) -> bool:
    """Return whether *source* has a metadata block, or a line that was meant for one."""
    text = _normalized(source.decode("utf-8", "replace"))
    try:
        if find_block(text):
            return True
    except MetadataError:
        return True
    return _stray_line(text.split("\n")) is not None


def parse_script(path: Path, source: bytes) -> Script:
    """Parse a file's content, without reading the disk; raise as `read_script` does."""
    block = _find_block(path, _decode(path, source))
    metadata = _parse_toml(path, block)
    faults = find_faults(metadata, block.text)
    if faults:
        raise _script_error(path, faults, first_line=block.line)
    return Script(
        path=path,
        name=path.stem,
        source=source,
        block=block.text,
        dependencies=tuple(metadata.get("dependencies", ())),
        requires_python=metadata.get("requires-python"),
        metadata=metadata,
    )


def notes_for_uv(scripts: Iterable[Script]) -> list[str]:
    """Return a note for each script that `uv run` reads in another way than the launcher.

    uv reads the first `# /// script`, which must be at the start of a line.
    """
    scripts = list(scripts)
    notes = _exact_minor_notes(scripts)
    for script in (one for one in scripts if one.has_own_header):
        start = script.source.find(OPENING.encode())
        if start > 0 and script.source[start - 1] not in b"\r\n":
            is_mark = script.source[:start] == b"\xef\xbb\xbf"
            reason = "a byte order mark" if is_mark else f"`{OPENING}` within a line"
            notes.append(
                f"{printable(str(script.path))}: `uv run` ignores its metadata and dependencies, "
                f"because of {reason} before it; run.py and `offline-bundle run` do not"
            )
    return notes


def _exact_minor_notes(scripts: Sequence[Script]) -> list[str]:
    """Return a note for each `==3.12`: 3.12.0 to PEP 440, and meant as any 3.12."""
    by_version: dict[str, list[str]] = {}
    for script in scripts:
        if match := _EXACT_MINOR.fullmatch(script.requires_python or ""):
            by_version.setdefault(match[1], []).append(printable(str(script.path)))
    return [
        f'{", ".join(labels)}: requires-python = "=={version}" means {version}.0 only (PEP 440). '
        f"run.py and the venv format accept any {version}; `uv run` (index and cache formats) "
        "warns, and refuses it in old versions or beside a uv lock; "
        f'write requires-python = "=={version}.*"'
        for version, labels in by_version.items()
    ]


def metadata_error(
    faults: Iterable[tuple[Script, int, Sequence[str], str]], hint: str
) -> InputError:
    """Return one error for metadata that another program cannot read.

    Each fault: its script, the line of the block (from 0) where the search begins, words that lead
    to the exact line when found one after the other, and the problem.
    """
    problems: list[str] = []
    for script, start, words, problem in faults:
        block = _find_block(script.path, _decode(script.path, script.source))
        position = sum(len(text) + 1 for text in block.text.split("\n")[:start])
        for word in filter(None, words):
            pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
            match = pattern.search(block.text, position)
            position = match.start() if match else position
        fault = Fault(line_of(block.text, position), problem)
        problems += _script_error(script.path, [fault], first_line=block.line).problems
    return InputError("the scripts cannot be used", hint=hint, problems=problems)


def _read_file(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            problem = "is a directory; name the script itself"
        elif not stat.S_ISREG(mode):
            problem = "is not a regular file; save the script to one"
        else:
            return path.read_bytes()
    except FileNotFoundError:
        problem = "no such file; check the path"
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); check its path and permissions"
    raise _script_error(path, [Fault(None, problem)])


def _read_notebook(path: Path, source: bytes) -> bytes:
    """Return the script that runs a notebook."""
    try:
        script = notebook_script(path.name, source)
    except (MetadataError, ValueError) as error:
        problem = error.problem if isinstance(error, MetadataError) else error
        fault = Fault(None, f"its metadata cell: {problem}; correct the cell")
        raise _script_error(path, [fault]) from None
    if script is None:
        raise _script_error(path, [Fault(None, describe_other(path, source) or "")])
    return script


def _script_error(
    path: Path, faults: Iterable[Fault], *, first_line: int = 0, hint: str | None = None
) -> InputError:
    """Return one error for *path*: a problem per fault, with its line where it has one."""
    label = printable(str(path))
    problems = [
        f"{label}: {text}" if line is None else f"{label}:{first_line + line}: {text}"
        for line, text in faults
    ]
    return InputError(f"{label} cannot be used", hint=hint, problems=problems)


def _name_problem(name: str) -> str | None:
    """Return why *name* cannot be a key in a bundle, where it becomes a folder's name."""
    unprintable = {"Cc", "Cs", "Zl", "Zp"}
    if any(unicodedata.category(letter) in unprintable or letter == "\\" for letter in name):
        reason = "it has a control character, a backslash or bytes that are not UTF-8"
    elif not name.strip(". "):
        reason = "it has only dots or spaces"
    else:
        reason = unsafe_path(name) or ""
    return f"invalid file name for a bundle: {reason}; rename the file" if reason else None


def _name_collisions(paths: Iterable[Path]) -> list[str]:
    """Find scripts whose names are equal on some file system."""
    first: dict[str, Path] = {}
    problems = []
    for path in paths:
        label = printable(str(path))
        key = unicodedata.normalize("NFC", path.stem).casefold()
        if key not in first:
            first[key] = path
            continue
        other = first[key]
        if os.path.abspath(other) == os.path.abspath(path):  # noqa: PTH100 - without symbolic links
            problems.append(f"{label}: is named twice; name each script once")
        else:
            problems.append(
                f"{label}: has the same name as {printable(str(other))}; rename one or build two "
                "bundles: a bundle has one script per file name without suffix, ignoring case"
            )
    return problems


def _decode(path: Path, source: bytes) -> str:
    """Decode UTF-8, as PEP 723 requires; drop a byte order mark, make every line end a newline."""
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        byte = f"byte {error.start} (0x{source[error.start]:02x})"
        fault = Fault(line, f"{byte} is not UTF-8; save the file as UTF-8")
        raise _script_error(path, [fault]) from None
    return _normalized(text)


def _normalized(text: str) -> str:
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _find_block(path: Path, text: str) -> Block:
    """Return the metadata block; raise `InputError` where there is none."""
    lines = text.split("\n")
    try:
        block = find_block(text)
    except MetadataError as error:
        fault = Fault(error.line, f"{error.problem}; {_break(lines, error.line) or error.hint}")
        raise _script_error(path, [fault]) from None
    if block is None:
        fault = _stray_line(lines) or Fault(
            1, f"no inline metadata (PEP 723); {_advice(path, text)}"
        )
        raise _script_error(path, [fault], hint=_HEADER_HINT)
    return block


def _advice(path: Path, text: str) -> str:
    """Return the command that adds metadata with the packages that the script imports."""
    modules = imported_modules(text.encode())
    packages = dict.fromkeys(
        likely_package(module) or module.partition(".")[0] for module in modules
    )
    name = quote(printable(str(path)))
    return f"add it: uv add --script {name} {' '.join(packages) or 'PACKAGE'}"


def _break(lines: Sequence[str], opening: int) -> str | None:
    """Return where the block opened on line *opening* ends by mistake, and how to correct it."""
    for number, line in enumerate(lines[opening:], opening + 1):
        if re.match(r"\s*#\s*/{2,}", line):
            return f"line {number} must be exactly `# ///`" if line != "# ///" else None
        if line != "#" and not line.startswith("# "):
            return f"line {number} does not begin with `# `; the block must end with `# ///`"
    return None


def _stray_line(lines: Sequence[str]) -> Fault | None:
    """Return the fault of the line that was meant to open a block, or to be in one."""
    for number, line in enumerate(lines, 1):
        match = _NEAR_OPENING.fullmatch(line)
        if match and get_close_matches(match[1].lower(), ["script"]):
            return Fault(number, f"no metadata: this line must be exactly `{OPENING}`")
    for number, line in enumerate(lines, 1):
        if _LOOSE_KEY.match(line):
            fault = f"no metadata: this line must be between `{OPENING}` and `# ///`"
            return Fault(number, fault)
    return None


def _parse_toml(path: Path, block: Block) -> dict[str, Any]:
    """Parse the block; an error has its line in the file, not in the block."""
    try:
        return tomllib.loads(block.text)
    except RecursionError:
        fault = Fault(0, "the metadata is nested too deep; flatten it")
    except ValueError as error:  # not only TOMLDecodeError, for a number of thousands of digits
        match = _TOML_LINE.search(str(error))
        line = int(match[1]) - 1 if match else max(block.text.count("\n") - 1, 0)
        reason = _TOML_LINE.sub("", str(error))
        reason = f"{reason} (strings need quotes)" if reason == "Invalid value" else reason
        fault = Fault(line, f"the metadata is not valid TOML: {reason}; correct this line")
    raise _script_error(path, [fault], first_line=block.line)
