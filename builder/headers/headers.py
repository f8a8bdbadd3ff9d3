"""Add headers to scripts without one, from the files that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offline_bundle.builder.headers.model import Header, HeaderRequest
from offline_bundle.builder.headers.project import header_from_project
from offline_bundle.builder.headers.pylock import header_from_pylock
from offline_bundle.builder.headers.requirements_files import header_from_requirements
from offline_bundle.builder.inputs.scripts import Script, read_scripts
from offline_bundle.builder.inputs.search import has_metadata
from offline_bundle.builder.resolve.uv_lockfile import Locking, ScriptLock
from offline_bundle.wheelhouse.runtime.errors import InputError


class Headers:
    """Makes the headers of one build, and keeps their locks."""

    def __init__(
        self, request: HeaderRequest, locking: Locking, *, with_project_lock: bool = True
    ) -> None:
        self._request = request
        self._with_project_lock = with_project_lock
        self._locking = locking
        self._made: dict[Path, Header] = {}
        self.locks: dict[str, ScriptLock] = {}
        """By script name."""
        self.notes: dict[str, None] = {}

    def read(self, paths: Sequence[Path]) -> tuple[Script, ...]:
        """Read all scripts, and add headers to those without one.

        Raises InputError (exit 2), also if none of them needed a header.
        """
        if not self._request:
            return read_scripts(paths)
        for path in paths:
            if not has_metadata(path):
                self._prepare(path)
        scripts = read_scripts(paths, self._add)
        if all(script.has_own_header for script in scripts):
            raise InputError(
                "--requirements, --project and --pylock are for scripts without metadata, and all "
                "of these scripts have some",
                hint="leave the option out, or remove the `# /// script` block",
            )
        return scripts

    def _prepare(self, path: Path) -> Header:
        folder = path.resolve().parent
        if folder not in self._made:
            self._made[folder] = self._header(folder)
        return self._made[folder]

    def _add(self, path: Path, source: bytes) -> bytes:
        header = self._prepare(path)
        self.notes |= dict.fromkeys(header.notes)
        if header.lock:
            self.locks[path.stem] = header.lock
        return header.added_to(source)

    def _header(self, folder: Path) -> Header:
        request = self._request
        if request.pylock:
            return header_from_pylock(request.pylock, folder)
        if request.project_file:
            locking = self._locking if self._with_project_lock else None
            return header_from_project(request.project_file, request.groups, folder, locking)
        return header_from_requirements(request.requirements, folder, self._locking.uv)
