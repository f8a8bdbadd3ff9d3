"""Remove environments and interpreters that are unused or exceed the size limit."""

import json
import os
import time

from ...disk.file_identity import read_regular
from ...disk.locks import FileLock
from ...errors import InputError
from ...sizes import parse_size
from ..images.mount import MountError, remove_environment
from ..warm_start import marker_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional

    from ..request import Request

DEFAULT_CACHE_LIMIT = "20G"
UNUSED_DAYS = 30


def remove_unused(cache: str, request: "Request") -> None:
    """Remove environments unused for UNUSED_DAYS, then the least recently used beyond the limit.

    Environments that a job holds stay, and so does the newest. If any is removed, so are the launch
    records and uv's cache: they are written again when needed.
    """
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    limit = cache_limit()
    total = 0
    has_removed = False
    environments = _environments(os.path.join(cache, "environments"))
    for used, size, home in sorted(environments, reverse=True):
        total += size
        if (total > limit or used < oldest) and remove_unlocked(home, marker_path(home)):
            day = time.strftime("%Y-%m-%d", time.localtime(used))
            request.log(f"Removed {home}, last used {day}", 1)
            total -= size
            has_removed = True
    remove_unused_interpreters(cache, oldest)
    if has_removed:
        remove_unlocked(os.path.join(cache, "launches"))
        remove_unlocked(os.path.join(cache, "uv"))


def remove_unused_interpreters(cache: str, oldest: float) -> None:
    """Remove unpacked interpreters that no environment uses and no launch needed since *oldest*."""
    folder = os.path.join(cache, "python")
    if not os.path.isdir(folder):
        return
    used = used_interpreters(cache)
    for name in os.listdir(folder):
        home = os.path.join(folder, name)
        marker = marker_path(home)
        is_used = any(path.startswith(os.path.join(home, "")) for path in used)
        if is_used or name.endswith(".lock") or not os.path.exists(marker):
            continue
        if os.path.getmtime(marker) < oldest:
            remove_unlocked(home, marker)


def used_interpreters(cache: str) -> "set[str]":
    """Return the paths of the interpreters of all environments."""
    used = set()
    for _, _, home in _environments(os.path.join(cache, "environments")):
        try:
            used.add(json.loads(read_regular(marker_path(home)))["interpreter"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return used


def cache_limit() -> int:
    """Return the bytes of OFFLINE_BUNDLE_CACHE_MAX; K, M, G, T are powers of 1024."""
    text = os.environ.get("OFFLINE_BUNDLE_CACHE_MAX") or DEFAULT_CACHE_LIMIT
    try:
        return parse_size(text)
    except InputError as error:
        message = f"OFFLINE_BUNDLE_CACHE_MAX: {error.message}"
        raise InputError(message, hint=error.hint) from None


def _environments(folder: str) -> "Iterator[tuple[float, int, str]]":
    """Yield time of last use, bytes and path of each environment; unfinished ones have 0 bytes."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        home = os.path.join(folder, name)
        if name.endswith(".lock"):
            continue
        try:
            facts = json.loads(read_regular(marker_path(home)))
            yield os.stat(marker_path(home)).st_mtime, int(facts["size"]), home
        except (OSError, ValueError, KeyError, TypeError):
            if os.path.isdir(home):
                yield os.path.getmtime(home), 0, home


def remove_unlocked(folder: str, marker: "Optional[str]" = None) -> bool:
    """Remove *folder* unless *folder*.lock is held; return whether it was removed.

    The *marker* is removed first, so that half of an environment never counts as complete.
    """
    lock = FileLock(folder + ".lock")
    try:
        if not lock.acquire(block=False):
            return False
        if marker and os.path.exists(marker):
            os.unlink(marker)
        remove_environment(folder)
    except (OSError, MountError):
        return False
    finally:
        lock.release()
    return True
