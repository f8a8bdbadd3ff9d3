"""File contents on disk: `FOLDER/BUCKET/NAME`; a bucket is usually a project."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from offline_bundle.wheelhouse.runtime.disk.cache_setup import make_private

DEFAULT_SCRIPTS = "default_execution_scripts"
"""Bucket of the site's execution scripts."""

_CHUNK = 1 << 20


class UnsafePathError(Exception):
    """A path that would leave the storage."""


class Storage:
    """The contents, by paths relative to *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_private(folder)  # the scripts of jobs are in it
        (folder / DEFAULT_SCRIPTS).mkdir(exist_ok=True)

    def path(self, name: str) -> Path:
        """Return the path of *name* on disk. Raises UnsafePathError."""
        parts = [part for part in name.replace("\\", "/").split("/") if part]
        if not parts or any(
            part in {".", ".."} or "\0" in part or part.startswith(".partial-") for part in parts
        ):
            raise UnsafePathError(f"{name!r} is not a path in the storage")
        return self.folder.joinpath(*parts)

    def begin(self, name: str) -> tuple[BinaryIO, Path]:
        """Open a temporary file for new content; `commit` renames it."""
        self.path(name)
        partial = self.folder / f".partial-{secrets.token_hex(8)}"
        return partial.open("wb"), partial

    def commit(self, partial: Path, name: str) -> None:
        """Rename a temporary file to its final name."""
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)

    def add(self, name: str, source: Path) -> dict[str, Any]:
        """Copy *source* into the storage; return its metadata."""
        stream, partial = self.begin(name)
        with stream, source.open("rb") as content:
            shutil.copyfileobj(content, stream, _CHUNK)
        self.commit(partial, name)
        return self.metadata(name)

    def metadata(self, name: str) -> dict[str, Any]:
        """Return size in bytes and checksum (xxh64, seed 0). Raises OSError."""
        digest = xxhash.xxh64(seed=0)
        with self.path(name).open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
            return {"checksum": digest.hexdigest(), "size": content.tell()}  # words: allow

    def remove_bucket(self, name: str) -> None:
        """Delete a bucket and its contents."""
        shutil.rmtree(self.path(name), ignore_errors=True)

    def perform(self, action: str, operation: dict[str, Any]) -> tuple[str, Any]:
        """Run one `/storage:ACTION`; return its path and result. Raises OSError."""
        if action in {"copy", "move"}:
            source, target = operation["src"]["path"], operation["dst"]["path"]
            self.add(target, self.path(source))
            if action == "move":
                self.path(source).unlink()
            return target, True
        name = operation["path"]
        path = self.path(name)
        if action == "list":
            return name, [
                {"path": f"{name}/{found.name}", **_entry(found)}
                for found in sorted(path.iterdir())
            ]
        if action == "mkdir":
            path.mkdir(parents=True, exist_ok=True)
        elif action == "remove":
            path.unlink()
        elif action == "rmdir":
            shutil.rmtree(path)
        return name, path.exists() if action == "exists" else True


def _entry(path: Path) -> dict[str, Any]:
    found = os.stat(path)  # noqa: PTH116 - one call for both
    return {"type": "directory" if path.is_dir() else "file", "size": found.st_size}
