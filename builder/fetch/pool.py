"""Fetch files into the download cache in parallel; each is verified before it gets its name.

    downloads = [Download(url=…, filename="numpy-….whl", hashes={"sha256": …}, size=16_000_000)]
    [numpy] = fetch(downloads, DownloadCache(cache_directory()), credentials=credentials)
    numpy.path                  # read-only, in the cache

This module is quick to import; the first download imports requests.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.model import (
    Download,
    DownloadError,
    Fetched,
    FetchProgress,
    NoProgress,
    TlsSettings,
)
from offline_bundle.wheelhouse.runtime.errors import FetchError

if TYPE_CHECKING:
    from offline_bundle.builder.fetch.cache import DownloadCache
    from offline_bundle.builder.fetch.transfer import Transfer

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_JOIN_SECONDS = 2.0
_LARGEST = 3
"""Files that are named before they are fetched."""


def fetch(  # noqa: PLR0913
    downloads: Sequence[Download],
    cache: DownloadCache,
    *,
    credentials: Credentials,
    progress: FetchProgress | None = None,
    tls: TlsSettings | None = None,
    workers: int = 8,
    sleep: Callable[[float], object] | None = None,
) -> list[Fetched]:
    """Fetch *downloads* in parallel, and return them in order; equal files are transferred once.

    Raises one FetchError for all failed files, after the others were fetched; BundleError as soon
    as the cache cannot be written. Partial files are kept and resumed by the next call. *sleep*
    waits between tries (seconds); by default it ends early on interruption.
    """
    unique = {_identity(download): download for download in downloads}
    outcomes: dict[_Identity, Fetched | DownloadError] = {}
    outcomes |= _find_cached(unique, cache, workers)
    missing = {key: download for key, download in unique.items() if key not in outcomes}
    if missing:
        from offline_bundle.builder.fetch.transfer import Transfer  # noqa: PLC0415 - slow to import

        shared = _SerializedProgress(progress or NoProgress())
        shared.begin(list(missing.values()))
        with Transfer(
            cache, credentials, advance=shared.advance, connections=workers, tls=tls, sleep=sleep
        ) as transfer:
            outcomes |= _transfer(missing, transfer, shared, workers)
    problems = [outcome for outcome in outcomes.values() if isinstance(outcome, DownloadError)]
    if problems:
        raise _error(problems, len(unique))
    fetched = (outcomes[_identity(download)] for download in downloads)
    return [outcome for outcome in fetched if isinstance(outcome, Fetched)]


class _SerializedProgress:
    """Passes progress on, one call at a time."""

    def __init__(self, progress: FetchProgress) -> None:
        self._progress = progress
        self._lock = threading.Lock()

    def begin(self, downloads: Sequence[Download]) -> None:
        sizes = [download.size for download in downloads]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        largest = sorted(downloads, key=lambda download: -(download.size or 0))[:_LARGEST]
        named = [(download.filename, download.size or 0) for download in largest]
        self._progress.begin(len(downloads), total, named)

    def advance(self, size: int) -> None:
        with self._lock:
            self._progress.advance(size)

    def done(self, download: Download) -> None:
        with self._lock:
            self._progress.done(download)


_Identity = tuple[str, tuple[tuple[str, str], ...], int | None]


def _identity(download: Download) -> _Identity:
    """Two downloads are equal with the same sha256; without one, with the same URL."""
    url = "" if "sha256" in download.hashes else download.url
    return url, tuple(sorted(download.hashes.items())), download.size


def _find_cached(
    downloads: Mapping[_Identity, Download], cache: DownloadCache, workers: int
) -> dict[_Identity, Fetched]:
    """Find files in the cache; in threads, because each is hashed."""

    def find(download: Download) -> Fetched | None:
        sha256 = download.hashes.get("sha256")
        path = cache.get(sha256, download.size) if sha256 else None
        if not path or not sha256:
            return None
        return Fetched(path, sha256, path.stat().st_size, from_cache=True)

    results = _in_parallel(find, downloads, workers)
    return {key: fetched for key, fetched in results.items() if fetched}


def _transfer(
    downloads: Mapping[_Identity, Download],
    transfer: Transfer,
    progress: _SerializedProgress,
    workers: int,
) -> dict[_Identity, Fetched | DownloadError]:
    """Transfer *downloads*, the largest first, so that no large one runs alone at the end."""

    def attempt(download: Download) -> Fetched | DownloadError:
        try:
            fetched = transfer.run(download)
        except DownloadError as error:
            return error
        progress.done(download)
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
    """Apply *function* to all *items* in threads; re-raise the first exception or Ctrl-C.

    *interrupt* makes running calls of *function* end early. The threads are daemons: one that hangs
    in a system call all the same is left behind.
    """
    waiting = deque(items.items())
    results: dict[_Identity, _Result] = {}
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            while waiting:
                try:
                    identity, item = waiting.popleft()
                except IndexError:  # another thread took the last one
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
        _join(threads, _JOIN_SECONDS)
    return results


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _error(problems: Sequence[DownloadError], files: int) -> FetchError:
    subject = f"{len(problems)} of {files} files" if files > 1 else "the file"
    hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
    return FetchError(
        f"{subject} could not be fetched",
        hint="; ".join([*hints, "run again to resume: received bytes are kept"]),
        problems=sorted(str(problem) for problem in problems),
    )
