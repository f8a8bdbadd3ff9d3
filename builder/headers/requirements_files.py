"""A header from requirements files, as `uv add --script -r FILE` makes it.

uv reads the requirements, and leaves out options and hashes: these are read here.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.credentials import redact
from offline_bundle.builder.headers.model import Header
from offline_bundle.builder.resolve.uv_lockfile import ScriptLock
from offline_bundle.builder.resolve.uv_process import run_uv
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.python.pep723 import read_block

# Options without an effect here: wheels are preferred, and all files have hashes.
_IGNORED = {"--only-binary", "--prefer-binary", "--require-hashes", "--use-feature"}
_LONG = {"-c": "--constraint", "-f": "--find-links", "-i": "--index-url", "-r": "--requirement"}
_HASH = re.compile(r"--hash[ =](\w+):([0-9a-fA-F]+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def header_from_requirements(files: Sequence[Path], folder: Path, uv: str) -> Header:
    """Return the header for a script in *folder*; raises InputError (exit 2)."""
    options = _Options()
    for path in files:
        options.read(path, set())
    metadata = _metadata(files, folder, uv)
    settings = {**metadata.get("tool", {}).get("uv", {}), **options.settings(folder)}
    if settings:
        metadata["tool"] = {"uv": settings}
    hashes = {name: frozenset(digests) for name, digests in options.hashes.items()}
    lock = ScriptLock(files[0], "", {}, {}, hashes) if hashes else None
    return Header(metadata, lock)


def _metadata(files: Sequence[Path], folder: Path, uv: str) -> dict[str, Any]:
    """Let uv write the requirements into an empty script; return its metadata."""
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as name:
        work = Path(name).resolve()
        script = work / "script.py"
        script.write_text("# /// script\n# dependencies = []\n# ///\n", encoding="utf-8")
        command = [uv, "add", "--script", str(script), "--offline", "--frozen"]
        command += ["--no-python-downloads", "--color", "never", "--python", sys.executable]
        for path in files:
            command += ["--requirements", str(path.resolve())]
        process = run_uv(command, work)
        if process.returncode != 0:
            raise InputError(
                f"{', '.join(map(str, files))}: the requirements cannot be used",
                problems=redact(process.stderr).replace(f"{work}{os.sep}", "").splitlines(),
                hint="correct the lines that uv names",
            )
        metadata = tomllib.loads(read_block(script.read_text(encoding="utf-8")) or "")
        return _moved(metadata, work, folder)


def _moved(metadata: dict[str, Any], work: Path, folder: Path) -> dict[str, Any]:
    """Return *metadata* with the paths of sources relative to *folder* in place of *work*."""
    sources = metadata.get("tool", {}).get("uv", {}).get("sources", {})
    for source in sources.values():
        if isinstance(source, dict) and "path" in source:
            source["path"] = relative_path(work / source["path"], folder)
    return metadata


def relative_path(path: Path, folder: Path) -> str:
    """Return *path* as seen from *folder*, with `/`: a bundle names no folder of this machine."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


@dataclass
class _Options:
    """The options of requirements files, and the hashes of their packages."""

    constraints: list[str] = field(default_factory=list)
    indexes: list[dict[str, Any]] = field(default_factory=list)
    find_links: list[Path | str] = field(default_factory=list)
    others: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, set[str]] = field(default_factory=dict)

    def read(self, path: Path, seen: set[Path], *, is_constraint: bool = False) -> None:
        """Read a file and those that it includes."""
        if path.resolve() in seen:
            return
        seen.add(path.resolve())
        for number, line in _logical_lines(path):
            if line.startswith("-"):
                self._read_option(path, number, line, seen)
                continue
            name = _NAME.match(line)
            digests = {text.lower() for kind, text in _HASH.findall(line) if kind == "sha256"}
            if name and digests:
                key = str(canonicalize_name(name[0]))
                self.hashes.setdefault(key, set()).update(digests)
            if is_constraint:
                self.constraints.append(_HASH.sub("", line).strip())

    def settings(self, folder: Path) -> dict[str, Any]:
        """Return them as `[tool.uv]` settings of a script in *folder*."""
        links = [
            relative_path(link, folder) if isinstance(link, Path) else link
            for link in self.find_links
        ]
        settings = {
            "constraint-dependencies": self.constraints,
            "find-links": links,
            "index": self.indexes,
            **self.others,
        }
        return {name: value for name, value in settings.items() if value}

    def _read_option(self, path: Path, number: int, line: str, seen: set[Path]) -> None:
        words = shlex.split(line)
        option, equals, value = words[0].partition("=")
        option = _LONG.get(option, option)
        value = value if equals else " ".join(words[1:2])
        if option in {"--requirement", "--constraint"}:
            self.read(path.parent / value, seen, is_constraint=option == "--constraint")
        elif option in {"--index-url", "--extra-index-url"}:
            _check_no_password(path, number, value)
            default = {"default": True} if option == "--index-url" else {}
            self.indexes.append({"url": value, **default})
        elif option == "--find-links":
            _check_no_password(path, number, value)
            self.find_links.append(value if "://" in value else path.parent / value)
        elif option == "--no-index":
            self.others["no-index"] = True
        elif option == "--pre":
            self.others["prerelease"] = "allow"
        elif option not in _IGNORED | {"-e", "--editable"}:
            raise InputError(
                f"{path}:{number}: the option {option} is not supported",
                hint="remove it, and see `build --help` for an option that does the same",
            )


def _check_no_password(path: Path, number: int, url: str) -> None:
    if redact(url) != url:
        raise InputError(
            f"{path}:{number}: the URL contains a password, which a bundle must not have",
            hint="remove it from the URL; name the index with --index, UV_INDEX or a netrc file",
        )


def _logical_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line, without comments; continued lines are joined."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{path} cannot be read: {reason}", hint="check its path") from error
    return _joined(lines)


def _joined(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    start, text = 0, ""
    for number, line in enumerate(lines, 1):
        start = start or number
        if line.endswith("\\"):
            text += line[:-1]
            continue
        text = re.sub(r"(^|\s)#.*", "", text + line).strip()
        if text:
            yield start, text
        start, text = 0, ""
