"""What is in the cache folder: environments, interpreters, downloads and more."""

import json
import os
from dataclasses import dataclass, replace

from ...disk.file_identity import read_regular
from ...disk.files import remove_file
from ...disk.locks import FileLock
from ..prepare.cache_cleanup import remove_unlocked
from ..warm_start import marker_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENVIRONMENT, INTERPRETER, UV, UV_CACHE = "environment", "interpreter", "uv", "uv-cache"
LAUNCHES, BUNDLE, DOWNLOAD, PARTIAL = "launch-records", "bundle", "download", "partial-download"
BUILT_WHEEL, BYTECODE, PYTHON_ARCHIVE, OTHER = "built-wheel", "bytecode", "python-archive", "other"
# Folder, number of levels down to an entry, and its kind. Jobs use the first ones, builds the last.
_AREAS = (
    ("environments", 1, ENVIRONMENT),
    ("python", 1, INTERPRETER),
    ("bootstrap", 0, INTERPRETER),
    ("uv-bin", 1, UV),
    ("uv", 0, UV_CACHE),
    ("launches", 0, LAUNCHES),
    ("bundles", 1, BUNDLE),
    ("downloads/sha256", 2, DOWNLOAD),
    ("downloads/partial", 1, PARTIAL),
    ("built", 1, BUILT_WHEEL),
    ("bytecode", 1, BYTECODE),
    ("python-archives", 1, PYTHON_ARCHIVE),
)
KINDS = tuple(dict.fromkeys(kind for _, _, kind in _AREAS))
"""Kinds of entries that may be removed."""


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache that can be removed on its own, and is made again when needed."""

    kind: str
    path: str
    size: int
    """Bytes on disk. A file with several links counts for its first entry only."""
    used: float
    """Time of the last use, in seconds since 1970."""
    is_in_use: bool
    detail: str
    """Script and lock of an environment, else the last part of the path."""


def cache_entries(cache: str) -> "list[CacheEntry]":
    """Return all entries of the cache folder, in the order of kinds, then by path."""
    counted: set[tuple[int, int]] = set()
    entries = [
        _entry(kind, path, counted)
        for folder, levels, kind in _AREAS
        for path in _paths(os.path.join(cache, *folder.split("/")), levels)
    ]
    known = {folder.split("/")[0] for folder, _, _ in _AREAS}
    for name in _names(cache):
        if name not in known and not name.endswith(".lock"):
            kind = UV_CACHE if name.startswith("uv-cache-") else OTHER
            entries.append(_entry(kind, os.path.join(cache, name), counted))
    return entries


def remove_entry(entry: CacheEntry) -> bool:
    """Remove an entry unless a job or build uses it; return whether it was removed."""
    if os.path.isdir(entry.path):
        return remove_unlocked(entry.path, marker_path(entry.path))
    if _is_locked(entry):
        return False
    remove_file(entry.path)
    return True


def _paths(folder: str, levels: int) -> "Iterator[str]":
    if levels == 0:
        if os.path.isdir(folder):
            yield folder
        return
    for name in _names(folder):
        path = os.path.join(folder, name)
        if levels > 1:
            yield from _paths(path, levels - 1)
        elif not name.endswith(".lock"):
            yield path


def _names(folder: str) -> "list[str]":
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _entry(kind: str, path: str, counted: "set[tuple[int, int]]") -> CacheEntry:
    size, newest = 0, 0.0
    for state in _states(path):
        if (state.st_dev, state.st_ino) not in counted:
            size += getattr(state, "st_blocks", 0) * 512 or state.st_size
        if state.st_nlink > 1:
            counted.add((state.st_dev, state.st_ino))
        newest = max(newest, state.st_mtime, state.st_atime)
    marker = marker_path(path)
    used = os.stat(marker).st_mtime if os.path.exists(marker) else newest
    entry = CacheEntry(kind, path, size, used, is_in_use=False, detail=_detail(kind, path))
    return replace(entry, is_in_use=_is_locked(entry))


def _states(path: str) -> "Iterable[os.stat_result]":
    try:
        if not os.path.isdir(path) or os.path.islink(path):
            yield os.lstat(path)
            return
    except OSError:
        return
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                yield os.lstat(os.path.join(folder, name))
            except OSError:  # removed meanwhile
                continue


def _detail(kind: str, path: str) -> str:
    if kind == ENVIRONMENT:
        try:
            facts = json.loads(read_regular(marker_path(path)))
            return f"{facts.get('script', '')} {facts['lock']}".strip()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "incomplete"
    return os.path.basename(path)


def _is_locked(entry: CacheEntry) -> bool:
    """Return whether a job or a build holds the lock of the entry."""
    path = entry.path if entry.kind == PARTIAL else entry.path + ".lock"
    if not os.path.isfile(path):
        return False
    lock = FileLock(path)
    try:
        return not lock.acquire(block=False)
    except OSError:
        return False
    finally:
        lock.release()
