"""What a header is made from, and the block that is added to a script."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from offline_bundle.builder.resolve.uv_lockfile import ScriptLock
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.text import without_logins

# Lines that must stay first: a byte order mark, an interpreter line, a coding line (PEP 263).
_FIRST_LINES = re.compile(
    rb"\A(?:\xef\xbb\xbf)?(?:#![^\n]*\n)?(?:[ \t\f]*#[^\n]*coding[:=][^\n]*\n)?"
)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file that the user names; raises InputError (exit 2)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise InputError(message, hint="check its path") from error
    except (ValueError, RecursionError) as error:  # TOML and UTF-8
        message = f"{path} is not valid TOML: {without_logins(str(error))}"
        raise InputError(message, hint="correct it") from error


@dataclass(frozen=True)
class HeaderRequest:
    """Files that replace the header of scripts without one; true if there are any."""

    requirements: tuple[Path, ...] = ()
    project: Path | None = None
    """A pyproject.toml, or its folder."""
    groups: tuple[str, ...] = ()
    """Dependency groups of the project (PEP 735)."""
    pylock: Path | None = None

    def __bool__(self) -> bool:
        """True if there is a file."""
        return bool(self.requirements or self.project or self.pylock)

    @property
    def project_file(self) -> Path | None:
        """The project's pyproject.toml."""
        is_folder = self.project is not None and self.project.is_dir()
        return self.project / "pyproject.toml" if self.project and is_folder else self.project

    @property
    def project_lock(self) -> Path | None:
        """The project's uv.lock, if it has one."""
        path = self.project_file.with_name("uv.lock") if self.project_file else None
        return path if path and path.is_file() else None


@dataclass(frozen=True)
class Header:
    """The metadata for a script, and the lock that pins its versions and files."""

    metadata: Mapping[str, Any]
    """As TOML; relative paths are relative to the script's folder."""
    lock: ScriptLock | None = None
    notes: tuple[str, ...] = ()

    def added_to(self, source: bytes) -> bytes:
        """Return *source* with the metadata as its block (PEP 723)."""
        lines = [f"# {line}".rstrip() for line in tomli_w.dumps(self.metadata).splitlines()]
        block = "\n".join(["# /// script", *lines, "# ///", ""]).encode()
        first = _FIRST_LINES.match(source)
        end = first.end() if first else 0
        return source[:end] + block + source[end:]
