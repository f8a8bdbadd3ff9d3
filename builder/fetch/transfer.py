"""Transfer of one file from its URL into the download cache, with retries and resumption.

One loop counts all tries of a file, also those for a body that was cut: `urllib3.util.Retry` ends
where the headers have arrived, and its pauses cannot be interrupted.
Slow to import (requests); `offline_bundle.builder.fetch.pool` imports it for the first download.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
from urllib3.exceptions import HTTPError

from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.http import IndexSession
from offline_bundle.builder.fetch.model import (
    Cancelled,
    Download,
    DownloadError,
    Fetched,
    HashMismatchError,
    TlsSettings,
)
from offline_bundle.builder.fetch.partial_download import ALGORITHMS, PartialDownload
from offline_bundle.builder.fetch.responses import (
    RetryableError,
    check_response,
    classify_error,
    describe,
)
from offline_bundle.wheelhouse.runtime.text import without_logins

_TRIES = 5
_BLOCK = 1 << 18  # bytes; larger blocks gain nothing, smaller ones cost time
SLOWEST = 1000  # bytes per second, as in curl's example of --speed-limit
SPEED_WINDOW = 60.0  # seconds
_FIRST_PAUSE = 0.5  # seconds; doubled each time
_LONGEST_PAUSE = 60.0
_MISMATCH_HINT = (
    "the wrong file was not stored: build without --locked if the index has replaced it, "
    "else find out what changes files on the way"
)


class Transfer:
    """Transfers files into *cache*, from any number of threads, over one session.

    Calls *advance* with each number of bytes. After `interrupt`, every `run` soon raises Cancelled
    and keeps its bytes.
    """

    def __init__(  # noqa: PLR0913 - what one session needs
        self,
        cache: DownloadCache,
        credentials: Credentials,
        *,
        advance: Callable[[int], None],
        connections: int = 8,
        tls: TlsSettings | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._cache = cache
        self._credentials = credentials
        self._advance = advance
        self._session = IndexSession(credentials, connections, tls)
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._open: set[requests.Response] = set()
        self._unreachable: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def run(self, download: Download) -> Fetched:
        """Transfer and verify *download*.

        Raises DownloadError when it is not available, BundleError when the cache cannot be written.
        """
        _check_algorithms(download)
        path = _local_path(download.url)
        with self._cache.partial(_key(download)) as file:
            partial = PartialDownload(download, self._cache, file, self._advance)
            try:
                if path:
                    self._copy(path, partial)
                else:
                    self._download(partial)
            except HashMismatchError as mismatch:
                partial.restart()
                message = f"{describe(download)}: {mismatch}"
                raise DownloadError(message, _MISMATCH_HINT) from None
            stored = self._cache.store(file, partial.digest())
        return Fetched(stored, partial.digest(), partial.size, from_cache=False)

    def interrupt(self) -> None:
        """Make every call of `run` end soon. Bytes that sockets still deliver are dropped."""
        self._stop.set()
        for response in list(self._open):
            # it may end by itself at this moment
            with suppress(Exception):
                response.raw.shutdown()

    def _copy(self, path: Path, partial: PartialDownload) -> None:
        partial.restart()
        try:
            with path.open("rb") as file:
                self._receive(iter(lambda: file.read(_BLOCK), b""), partial)
        except OSError as error:
            reason = error.strerror or str(error)
            message = f"{partial.download.filename}: cannot read {path}: {reason}"
            raise DownloadError(message) from None
        partial.verify()

    def _download(self, partial: PartialDownload) -> None:
        """Request the file, up to five times, until it is complete and verified."""
        download = partial.download
        host = download.url.split("/")[2]
        for tries in range(1, _TRIES + 1):
            try:
                return self._try(partial)
            except RetryableError as error:
                self._check_stop()
                if tries == _TRIES or (error.is_unreachable and host in self._unreachable):
                    if error.is_unreachable:
                        self._unreachable.add(host)  # fail fast for other files on this host
                    suffix = f" ({tries} tries)" if tries > 1 else ""
                    message = f"{describe(download)}: {error}{suffix}"
                    raise DownloadError(message, error.hint) from None
                self._pause(tries, error.wait)
        raise AssertionError  # the last try has returned or raised

    def _try(self, partial: PartialDownload) -> None:
        self._check_stop()
        partial.restart_if_unsafe()
        try:
            if not partial.is_complete:
                self._request(partial)
            partial.verify()
        except HashMismatchError as mismatch:
            if not partial.is_resumed:
                raise
            partial.restart()  # the resumed bytes may be stale: retry from zero
            raise RetryableError(str(mismatch), wait=0) from None

    def _request(self, partial: PartialDownload) -> None:
        with self._response(partial) as response:
            expected = check_response(response, partial, self._credentials)
            self._receive(read_blocks(response), partial)
        if expected is not None and partial.size < expected:
            message = f"the connection was cut after {partial.size} of {expected} bytes"
            raise RetryableError(message)

    def _receive(self, blocks: Iterator[bytes], partial: PartialDownload) -> None:
        for block in blocks:
            self._check_stop()
            partial.append(block)

    @contextmanager
    def _response(self, partial: PartialDownload) -> Iterator[requests.Response]:
        """Send the request and yield the response; classify network errors."""
        url = partial.download.url
        try:
            with self._session.open_stream(url, partial.range_headers()) as response:
                self._open.add(response)
                try:
                    yield response
                finally:
                    self._open.discard(response)
        except (requests.RequestException, HTTPError) as error:
            self._check_stop()
            raise classify_error(error, partial, self._credentials) from None

    def _pause(self, tries: int, wait: float | None) -> None:
        """Wait as long as the server asks for, else longer each time, differently per thread."""
        if wait is None:
            wait = _FIRST_PAUSE * 2 ** (tries - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        if wait > 0:
            self._sleep(min(wait, _LONGEST_PAUSE))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Cancelled


def _check_algorithms(download: Download) -> None:
    if download.hashes and not download.hashes.keys() & ALGORITHMS:
        names = ", ".join(sorted(download.hashes))
        message = f"{describe(download)}: no digest of a kind that can be checked here: {names}"
        raise DownloadError(message)


def _key(download: Download) -> str:
    sha256 = download.hashes.get("sha256")
    return sha256 or "url-" + hashlib.sha256(without_logins(download.url).encode()).hexdigest()


def _local_path(url: str) -> Path | None:
    """Return the path of a file:// URL or plain path; None for a URL of the network."""
    if url.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(url).path))
    return None if "://" in url else Path(url)


def read_blocks(response: requests.Response, *, decode: bool = False) -> Iterator[bytes]:
    """Read the body. Files are not decoded: some servers send a .tar.gz as a gzip-encoded .tar.

    Raises RetryableError for a server that is slower than SLOWEST; each byte restarts its timeout.
    """
    started, size = time.monotonic(), 0
    while block := response.raw.read1(_BLOCK, decode_content=decode):
        yield block
        size += len(block)
        seconds = time.monotonic() - started
        if seconds < SPEED_WINDOW:
            continue
        if size < SLOWEST * seconds:
            raise RetryableError(f"slower than {SLOWEST} bytes/s", wait=0)
        started, size = time.monotonic(), 0
