"""The tasks of `cache`: size, list, prune, clear and verify. Each returns lines and plain data."""

import os
import re
import time
from dataclasses import asdict, dataclass

from ...disk.cache_setup import cache_directory
from ...errors import InputError, IntegrityError, first_problems
from ...sizes import format_size
from ..prepare.cache_cleanup import UNUSED_DAYS, remove_unused_interpreters, used_interpreters
from .check import corrupt_file
from .entries import INTERPRETER, KINDS, LAUNCHES, OTHER, cache_entries, remove_entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Any, Optional

    from .entries import CacheEntry

_DAY = 24 * 3600.0
# what makes lines too wide: digests, and the folder and digest of a lock
_LONG_NAME = re.compile(
    r"(?:locks/.*/pylock\.)?([0-9a-f]{12}(?=[0-9a-f]{52})|\S+?(?=-[0-9a-f]{16}\.toml))\S*"
)


TASKS = ("size", "list", "prune", "clear", "verify")


@dataclass(frozen=True)
class TaskResult:
    """What a task found or did."""

    lines: "tuple[str, ...]"
    """For people."""
    document: "dict[str, Any]"
    """For `--json`."""
    error: "Optional[IntegrityError]" = None
    """Corrupt entries that are still there."""


def run_cache_task(
    task: str,
    kinds: "Sequence[str]" = (),
    *,
    days: "Optional[float]" = None,
    limit: "Optional[int]" = None,
    repair: bool = False,
) -> TaskResult:
    """Run one of TASKS on the cache of this user. Raises InputError for options of another task."""
    misplaced = [
        name
        for name, is_given, owner in (
            ("KIND", bool(kinds), "clear"),
            ("--days", days is not None, "prune"),
            ("--max-size", limit is not None, "prune"),
            ("--repair", repair, "verify"),
        )
        if is_given and task != owner
    ]
    if misplaced:
        message = f"cache {task} does not accept {', '.join(misplaced)}"
        raise InputError(message, hint="leave it out, or name the task that it belongs to")
    cache = cache_directory()
    if task == "prune":
        return prune_cache(cache, UNUSED_DAYS if days is None else days, limit)
    if task == "clear":
        return clear_cache(cache, kinds)
    if task == "verify":
        return verify_cache(cache, repair=repair)
    return cache_size(cache) if task == "size" else list_cache(cache)


def cache_size(cache: str) -> TaskResult:
    """Return the number and size of the entries of each kind."""
    entries = cache_entries(cache)
    kinds: dict[str, tuple[int, int]] = {}
    for entry in entries:
        number, size = kinds.get(entry.kind, (0, 0))
        kinds[entry.kind] = (number + 1, size + entry.size)
    rows = [(kind, *kinds[kind]) for kind in kinds]
    lines = [f"{kind:<17} {number:>6}  {format_size(size):>10}" for kind, number, size in rows]
    total = sum(entry.size for entry in entries)
    lines.append(f"{'total':<17} {len(entries):>6}  {format_size(total):>10}  {cache}")
    document = {kind: {"entries": number, "size": size} for kind, number, size in rows}
    return TaskResult(tuple(lines), {"cache": cache, "size": total, "kinds": document})


def list_cache(cache: str) -> TaskResult:
    """Return all entries."""
    entries = cache_entries(cache)
    return TaskResult(tuple(map(_line, entries)), _document(cache, entries=entries))


def prune_cache(cache: str, days: float, limit: "Optional[int]" = None) -> TaskResult:
    """Remove what was not used for *days*, then the least recently used beyond *limit* bytes.

    Entries in use stay, and so do interpreters of environments that stay.
    """
    oldest = time.time() - days * _DAY
    entries = cache_entries(cache)
    total = sum(entry.size for entry in entries)
    for entry in sorted(entries, key=lambda entry: entry.used):
        is_beyond = limit is not None and total > limit
        if entry.kind in (INTERPRETER, LAUNCHES, OTHER) or not (entry.used < oldest or is_beyond):
            continue
        if remove_entry(entry):
            total -= entry.size
    is_beyond = limit is not None and total > limit
    remove_unused_interpreters(cache, float("inf") if is_beyond else oldest)
    return _removal(cache, entries)


def clear_cache(cache: str, kinds: "Collection[str]" = ()) -> TaskResult:
    """Remove all entries, or those of *kinds*, except those in use. Raises InputError."""
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        message = f"unknown kind of cache entry: {', '.join(unknown)}"
        raise InputError(message, hint=f"name one of {', '.join(KINDS)}")
    chosen = [entry for entry in cache_entries(cache) if entry.kind in (kinds or KINDS)]
    for entry in chosen:
        if entry.kind != INTERPRETER:
            remove_entry(entry)
    used = used_interpreters(cache)
    for entry in chosen:
        if entry.kind == INTERPRETER and not any(
            path.startswith(os.path.join(entry.path, "")) for path in used
        ):
            remove_entry(entry)
    return _removal(cache, chosen)


def verify_cache(cache: str, *, repair: bool = False) -> TaskResult:
    """Compare all entries with their digests; with *repair*, remove those that are corrupt.

    What is removed is made again when it is needed. The error names what is corrupt and remains.
    """
    entries = cache_entries(cache)
    faults = {entry: fault for entry in entries for fault in [corrupt_file(entry)] if fault}
    removed = {entry for entry in faults if repair and remove_entry(entry)}
    lines = [f"{cache}: {_entries(len(entries))} checked, {len(faults)} corrupt"]
    lines += [f"removed: {entry.kind} {faults[entry]}" for entry in faults if entry in removed]
    remaining = {entry: fault for entry, fault in faults.items() if entry not in removed}
    problems = [f"{entry.kind} {fault}" for entry, fault in remaining.items()]
    hint = "remove corrupt entries with --repair; they are made again when they are needed"
    if repair:
        hint = "they are in use: run this again when the jobs or builds have ended"
    message = f"the cache has corrupt entries: {len(remaining)}"
    error = IntegrityError(message, problems=first_problems(problems), hint=hint)
    document = _document(cache, corrupt=remaining, removed=removed)
    return TaskResult(tuple(lines), document, error if remaining else None)


def _removal(cache: str, entries: "Sequence[CacheEntry]") -> TaskResult:
    removed = [entry for entry in entries if not os.path.lexists(entry.path)]
    kept = [entry for entry in entries if entry.is_in_use and entry not in removed]
    freed = sum(entry.size for entry in removed)
    lines = [f"removed: {_line(entry)}" for entry in removed]
    lines.append(f"{cache}: {_entries(len(removed))} removed, {format_size(freed)}")
    if kept:
        lines.append(f"in use, and kept: {_entries(len(kept))}")
    return TaskResult(tuple(lines), {**_document(cache, removed=removed), "freed": freed})


def _line(entry: "CacheEntry") -> str:
    day = time.strftime("%Y-%m-%d", time.localtime(entry.used))
    detail = _LONG_NAME.sub(r"\1", entry.detail) + (" (in use)" if entry.is_in_use else "")
    return f"{entry.kind:<16} {format_size(entry.size):>10}  {day}  {detail}"


def _entries(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"


def _document(cache: str, **lists: "Iterable[CacheEntry]") -> "dict[str, Any]":
    return {"cache": cache, **{name: [asdict(entry) for entry in lists[name]] for name in lists}}
