"""Fetch files into the download cache: many at once, each checked before it gets its name.

    downloads = [Download(url=…, filename="numpy-2.5.5-….whl", hashes={"sha256": …}, size=16_000_000)]
    [numpy] = fetch(downloads, DownloadCache(cache_directory()), credentials=credentials)
    numpy.path                  # read-only, in the cache

This module is quick to import; requests, which is not, is loaded by the first download, or by `warm_up`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeVar

from offline_bundle.wheelhouse.runtime.errors import BundleError, FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from offline_bundle.builder.fetch.cache import DownloadCache
    from offline_bundle.builder.fetch.credentials import Credentials
    from offline_bundle.builder.fetch.tls import Trust
    from offline_bundle.builder.fetch.transfer import Transfer

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_JOIN_SECONDS = 2.0


@dataclass(frozen=True)
class Download:
    """One file to be fetched."""

    url: str
    """https://, http:// or file://, or a plain path."""
    filename: str
    """What messages call it."""
    hashes: Mapping[str, str]
    """Algorithm to lower-case hex; empty where an index offers none."""
    size: int | None
    """Bytes, where known."""


@dataclass(frozen=True)
class Fetched:
    """One file that was fetched and verified."""

    path: Path
    """In the cache, read-only."""
    sha256: str
    size: int
    from_cache: bool
    """True when no byte was transferred."""


class FetchProgress(Protocol):
    """Watches downloads; called by one thread at a time, though not always by the same."""

    def begin(self, files: int, size: int | None) -> None:
        """There are so many different files, with so many bytes together; None when one's size is unknown."""

    def advance(self, size: int) -> None:
        """So many bytes are there; fewer than none, when bytes counted before must be fetched again."""

    def done(self, download: Download) -> None:
        """One file is complete and verified."""


class NoProgress:
    """Watches nothing."""

    def begin(self, files: int, size: int | None) -> None:
        """Do nothing."""

    def advance(self, size: int) -> None:
        """Do nothing."""

    def done(self, download: Download) -> None:
        """Do nothing."""


class FileProblem(Exception):  # noqa: N818 - a verdict on one file; FetchError is what the caller gets
    """Why one file cannot be had, in one line without secrets, and what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Stopped(Exception):  # noqa: N818 - no error: somebody else failed, or the user had enough
    """Raised in a thread that must not go on."""


def fetch(  # noqa: PLR0913
    downloads: Sequence[Download],
    cache: DownloadCache,
    *,
    credentials: Credentials,
    progress: FetchProgress | None = None,
    trust: Trust | None = None,
    workers: int = 8,
    sleep: Callable[[float], object] | None = None,
) -> list[Fetched]:
    """Fetch *downloads* in parallel, and give them in the same order; the same file is transferred once.

    Raises one FetchError for all files that cannot be had, after the others have been fetched; BundleError
    as soon as the cache cannot be written. What has arrived is kept, also of files cut short, and the next
    call goes on from there. *sleep* waits between tries (seconds); by default it ends early when the work is
    stopped.
    """
    unique = {_identity(download): download for download in downloads}
    watch = _Watch(progress or NoProgress())
    sizes = [download.size for download in unique.values()]
    watch.begin(len(unique), None if None in sizes else sum(size or 0 for size in sizes))
    outcomes: dict[_Identity, Fetched | FileProblem] = _look_up(unique, cache, watch, workers)
    missing = {
        identity: download for identity, download in unique.items() if identity not in outcomes
    }
    if missing:
        from offline_bundle.builder.fetch.transfer import Transfer  # noqa: PLC0415 - slow to import

        with Transfer(
            cache, credentials, advance=watch.advance, connections=workers, trust=trust, sleep=sleep
        ) as transfer:
            outcomes.update(_transfer(missing, transfer, watch, workers))
    problems = [outcome for outcome in outcomes.values() if isinstance(outcome, FileProblem)]
    if problems:
        raise _error(problems, len(unique))
    fetched = (outcomes[_identity(download)] for download in downloads)
    return [outcome for outcome in fetched if isinstance(outcome, Fetched)]


def warm_up() -> None:
    """Load requests, the trusted certificates and the inventories' library: well spent while a resolver runs."""
    from offline_bundle.builder.fetch.http import trusted_certificates  # noqa: PLC0415 - slow to import

    with suppress(BundleError):  # certificates that cannot be read: who needs them will say so
        trusted_certificates()
    import offline_bundle.wheelhouse.derived.report.report  # noqa: PLC0415 - the same
    import offline_bundle.wheelhouse.derived.sbom  # noqa: F401, PLC0415 - the same


class _Watch:
    """Passes progress on, one call at a time."""

    def __init__(self, progress: FetchProgress) -> None:
        self._progress = progress
        self._lock = threading.Lock()

    def begin(self, files: int, size: int | None) -> None:
        self._progress.begin(files, size)

    def advance(self, size: int) -> None:
        with self._lock:
            self._progress.advance(size)

    def done(self, download: Download) -> None:
        with self._lock:
            self._progress.done(download)


_Identity = tuple[str, tuple[tuple[str, str], ...], int | None]


def _identity(download: Download) -> _Identity:
    """Two downloads with the same sha256 are one; without one, those of the same URL are."""
    place = "" if "sha256" in download.hashes else download.url
    return place, tuple(sorted(download.hashes.items())), download.size


def _look_up(
    downloads: Mapping[_Identity, Download], cache: DownloadCache, watch: _Watch, workers: int
) -> dict[_Identity, Fetched | FileProblem]:
    """Find what is in the cache; reading it all again takes a while, hence the threads."""

    def look_up(download: Download) -> Fetched | None:
        sha256 = download.hashes.get("sha256")
        path = cache.get(sha256, download.size) if sha256 else None
        if not path or not sha256:
            return None
        found = Fetched(path, sha256, path.stat().st_size, from_cache=True)
        watch.advance(found.size)
        watch.done(download)
        return found

    results = _in_parallel(look_up, downloads, workers)
    return {identity: found for identity, found in results.items() if found}


def _transfer(
    downloads: Mapping[_Identity, Download], transfer: Transfer, watch: _Watch, workers: int
) -> dict[_Identity, Fetched | FileProblem]:
    """Transfer *downloads*, the largest first, so that none is left over to run alone in the end."""

    def attempt(download: Download) -> Fetched | FileProblem:
        try:
            fetched = transfer.run(download)
        except FileProblem as problem:
            return problem
        watch.done(download)
        return fetched

    largest_first = dict(sorted(downloads.items(), key=lambda item: -(item[1].size or 0)))
    return _in_parallel(attempt, largest_first, workers, interrupt=transfer.interrupt)


def _in_parallel(
    function: Callable[[_Item], _Result],
    items: Mapping[_Identity, _Item],
    workers: int,
    *,
    interrupt: Callable[[], None] = lambda: None,
) -> dict[_Identity, _Result]:
    """Apply *function* to all *items* in threads; the first exception, or Ctrl-C, ends them and is raised.

    *interrupt* makes running calls of *function* end early. The threads are daemons: one that hangs in a
    system call all the same is left behind.
    """
    waiting = deque(items.items())
    results: dict[_Identity, _Result] = {}
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            while True:
                try:
                    identity, item = waiting.popleft()
                except IndexError:
                    break
                results[identity] = function(item)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            ended.put(error)
        else:
            ended.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            failure = ended.get()
            if failure:
                raise failure
    finally:
        waiting.clear()
        interrupt()
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return results


def _error(problems: Sequence[FileProblem], files: int) -> FetchError:
    count = f"{len(problems)} of {files} files" if files > 1 else "the file"
    hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
    again = "what has arrived is kept: run again to go on"
    return FetchError(
        f"{count} could not be fetched",
        hint="; ".join([*hints, again]),
        problems=sorted(str(problem) for problem in problems),
    )
