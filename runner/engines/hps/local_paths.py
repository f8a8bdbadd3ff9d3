"""Paths on this disk made from names that a server sent. Such names are data, never trusted.

`local_path` and `folder_names` are the only functions that turn them into paths.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from offline_bundle.runner.results.folder import PAGE_NAME, TABLE_NAME

_LONGEST_FOLDER = 100
_LONGEST_PART_BYTES = 200
"""File systems allow 255, and a partial file has a longer name than the file."""

_LONGEST_PATH = 1000
"""In characters, below the folder: systems allow 4096 bytes in all."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def local_path(folder: Path, name: str) -> Path:
    """Return a path below *folder* for *name*, which may have several parts.

    A name that leaves the folder, or that file systems do not allow, is replaced by its digest.
    """
    path = safe_path(name)
    if path is None:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        return folder / f"unnamed-{digest[:16]}"
    return folder / path


def safe_path(name: str) -> PurePosixPath | None:
    """Return *name* as a relative path that stays inside a folder; None if it does not."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    is_absolute = name.startswith(("/", "\\")) or bool(PureWindowsPath(name).drive)
    if not parts or is_absolute or len(name) > _LONGEST_PATH or _CONTROL.search(name):
        return None
    if any(part == ".." or len(part.encode()) > _LONGEST_PART_BYTES for part in parts):
        return None
    return PurePosixPath(*parts)


def folder_names(jobs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return a folder for each job, (identifier, name): its name if valid and unique."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for job_id, name in jobs:
        folder = _folder_name(name)
        if not folder or folder.lower() in taken:
            folder = _folder_name(f"{folder or 'job'}-{job_id}")
        number = 1
        while folder.lower() in taken:
            number += 1
            folder = _folder_name(f"job-{number}")
        taken.add(folder.lower())
        folders[job_id] = folder
    return folders


def _folder_name(name: str) -> str:
    folder = re.sub(r"[^\w.+=@-]+", "_", name)[:_LONGEST_FOLDER].strip("._ ")
    while len(folder.encode()) > _LONGEST_PART_BYTES:
        folder = folder[:-1]
    if _RESERVED.fullmatch(folder) or folder.lower() in {PAGE_NAME, TABLE_NAME}:
        return f"{folder}_"
    return folder
