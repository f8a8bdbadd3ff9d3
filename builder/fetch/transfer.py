"""One file from its URL into the download cache: tried again where that helps, gone on with where it was cut.

Slow to import, as `offline_bundle.builder.fetch.http` is; `offline_bundle.builder.fetch.pool` is the door to it.
"""

from __future__ import annotations

import hashlib
import random
import re
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from offline_bundle.builder.fetch.credentials import without_credentials
from offline_bundle.builder.fetch.http import Session
from offline_bundle.builder.fetch.partial_file import (
    ALGORITHMS,
    Arrival,
    Mismatch,
)
from offline_bundle.builder.fetch.pool import (
    Download,
    Fetched,
    FileProblem,
    Stopped,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from offline_bundle.builder.fetch.cache import DownloadCache
    from offline_bundle.builder.fetch.credentials import Credentials
    from offline_bundle.builder.fetch.tls import Trust

_TRIES = 5
_BLOCK = 1 << 18  # bytes; larger ones gain nothing, smaller ones cost
_FIRST_PAUSE = 0.5  # seconds; doubled each time
_LONGEST_PAUSE = 60.0
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}

_CERTIFICATE_HINT = "where a proxy or an index has a certificate of your own organisation, name that in SSL_CERT_FILE"
_GONE_HINT = "resolve anew, to leave out files that the index no longer has"
_MISMATCH_HINT = (
    "nothing of a wrong file was stored; resolve anew if the index has replaced it, "
    "else find out what changes files on the way"
)
_TIMEOUT_HINT = "UV_HTTP_TIMEOUT sets how many seconds to wait"


class Transfer:
    """Transfers files into *cache*, from any number of threads at once, over one session.

    *advance* is told each number of bytes as it arrives. After `interrupt`, every call of `run` ends soon, by
    Stopped, and what it had is kept.
    """

    def __init__(  # noqa: PLR0913 - what one session needs
        self,
        cache: DownloadCache,
        credentials: Credentials,
        *,
        advance: Callable[[int], None],
        connections: int = 8,
        trust: Trust | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._cache = cache
        self._credentials = credentials
        self._advance = advance
        self._session = Session(credentials, connections, trust)
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._open: set[requests.Response] = set()
        self._unreachable: set[str] = set()

    def __enter__(self) -> Self:
        """Be closed in the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._session.close()

    def run(self, download: Download) -> Fetched:
        """Transfer and verify *download*.

        Raises FileProblem when it cannot be had, and BundleError when the cache cannot be written.
        """
        _check_algorithms(download)
        path = _local_path(download.url)
        with self._cache.partial(_key(download)) as partial:
            arrival = Arrival(download, self._cache, partial, self._advance)
            try:
                if path:
                    self._copy(path, arrival)
                else:
                    self._try(arrival)
            except Mismatch as mismatch:
                arrival.restart()
                raise FileProblem(f"{_named(download)}: {mismatch}", _MISMATCH_HINT) from None
            stored = self._cache.store(partial, arrival.digest())
        return Fetched(stored, arrival.digest(), arrival.size, from_cache=False)

    def interrupt(self) -> None:
        """Make every call of `run` end soon. What the sockets still give after they are shut is dropped."""
        self._stop.set()
        for response in list(self._open):
            with suppress(
                Exception
            ):  # it may be ending by itself just now; urllib3 < 2.3 cannot do this
                response.raw.shutdown()

    def _copy(self, path: Path, arrival: Arrival) -> None:
        arrival.restart()
        try:
            with path.open("rb") as file:
                self._receive(iter(lambda: file.read(_BLOCK), b""), arrival)
        except OSError as error:
            reason = error.strerror or str(error)
            raise FileProblem(
                f"{arrival.download.filename}: cannot read {path}: {reason}"
            ) from None
        arrival.verify()

    def _try(self, arrival: Arrival) -> None:
        """Request the file, up to five times, until it is complete and verified."""
        download = arrival.download
        host = download.url.split("/")[2]
        for tries in range(1, _TRIES + 1):
            try:
                return self._try_once(arrival)
            except _Again as again:
                self._check_stop()
                if tries == _TRIES or (again.is_unreachable and host in self._unreachable):
                    if again.is_unreachable:
                        self._unreachable.add(host)  # other files need not find that out as slowly
                    times = f" ({tries} tries)" if tries > 1 else ""
                    raise FileProblem(f"{_named(download)}: {again}{times}", again.hint) from None
                self._pause(tries, again.wait)
        raise AssertionError  # the last try has returned or raised

    def _try_once(self, arrival: Arrival) -> None:
        self._check_stop()
        arrival.drop_what_cannot_be_resumed()
        try:
            if not arrival.is_complete:
                self._request(arrival)
            arrival.verify()
        except Mismatch as mismatch:
            if not arrival.is_resumed:
                raise
            arrival.restart()  # the bytes from before may be to blame: the server gets a fair trial
            raise _Again(str(mismatch), wait=0) from None

    def _request(self, arrival: Arrival) -> None:
        with self._response(arrival) as response:
            expected = self._judge(response, arrival)
            self._receive(_blocks(response), arrival)
        if expected is not None and arrival.size < expected:
            raise _Again(f"the connection was cut after {arrival.size} of {expected} bytes")

    def _receive(self, blocks: Iterator[bytes], arrival: Arrival) -> None:
        for block in blocks:
            self._check_stop()
            arrival.append(block)

    @contextmanager
    def _response(self, arrival: Arrival) -> Iterator[requests.Response]:
        """Send the request and give the response; what goes wrong with the network becomes a verdict."""
        try:
            with self._session.open_stream(
                arrival.download.url, arrival.range_headers()
            ) as response:
                self._open.add(response)
                try:
                    yield response
                finally:
                    self._open.discard(response)
        except (requests.RequestException, HTTPError) as error:
            self._check_stop()
            raise self._verdict(error, arrival) from None

    def _judge(self, response: requests.Response, arrival: Arrival) -> int | None:
        """Look at status and headers before the body; give the size it must reach, where that is known."""
        status = response.status_code
        if status == HTTPStatus.PARTIAL_CONTENT and arrival.is_continued_by(response.headers):
            arrival.is_resumed = arrival.size > 0
        elif status in {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
            arrival.restart()
            raise _Again(f"HTTP {status}: not the range that was asked for", wait=0)
        elif status == HTTPStatus.OK:
            arrival.restart()
            arrival.remember(response.headers)
        else:
            raise self._refusal(response, arrival.download)
        length = response.headers.get("Content-Length", "")
        expected = arrival.size + int(length) if length.isdecimal() else None
        if expected is not None and arrival.download.size not in {None, expected}:
            raise Mismatch(f"expected {arrival.download.size} bytes, got {expected}")
        return expected

    def _refusal(self, response: requests.Response, download: Download) -> Exception:
        """Tell a status that may pass from one that will not."""
        status = response.status_code
        told = f"HTTP {status} {response.reason or ''}".rstrip()
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            return _Again(told, wait=_retry_after(response.headers))
        hint = None
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            were_sent = "Authorization" in response.request.headers
            told += ": the credentials were refused" if were_sent else ": credentials are needed"
            hint = self._credentials.advice(without_credentials(response.url))
        elif status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            hint = _GONE_HINT
        return FileProblem(f"{_named(download)}: {told}", hint)

    def _verdict(self, error: Exception, arrival: Arrival) -> Exception:
        """Tell a fault of the network, which may pass, from one that will not."""
        named = _named(arrival.download)
        causes = list(_causes(error))
        distrust = next(
            (cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None
        )
        if distrust:
            told = f"the server's certificate is not trusted: {distrust.verify_message}"
            return FileProblem(f"{named}: {told}", _CERTIFICATE_HINT)
        if isinstance(error, (ValueError, requests.TooManyRedirects)):
            return FileProblem(f"{named}: {self._credentials.redact(_without_query(str(error)))}")
        where = f" after {arrival.size} bytes" if arrival.size else ""
        is_unreachable = _any(causes, NewConnectionError, ConnectTimeoutError)
        if _any(causes, TimeoutError, HTTPTimeoutError) and not _any(causes, NewConnectionError):
            return _Again(f"timed out{where}", hint=_TIMEOUT_HINT, is_unreachable=is_unreachable)
        told = self._credentials.redact(_system_reason(causes) or "the connection was cut")
        return _Again(f"{told}{where}", is_unreachable=is_unreachable)

    def _pause(self, tries: int, wait: float | None) -> None:
        """Wait as long as the server asked for, else longer each time, and not all threads alike."""
        if wait is None:
            wait = _FIRST_PAUSE * 2 ** (tries - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        if wait > 0:
            self._sleep(min(wait, _LONGEST_PAUSE))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


class _Again(Exception):  # noqa: N818 - a verdict on one try
    """This try failed, another may not. *wait* is in seconds; None leaves it to us."""

    def __init__(
        self,
        message: str,
        *,
        wait: float | None = None,
        hint: str | None = None,
        is_unreachable: bool = False,
    ) -> None:
        super().__init__(message)
        self.wait = wait
        self.hint = hint
        self.is_unreachable = is_unreachable


def _check_algorithms(download: Download) -> None:
    if download.hashes and not download.hashes.keys() & ALGORITHMS:
        names = ", ".join(sorted(download.hashes))
        raise FileProblem(
            f"{_named(download)}: no digest of a kind that can be checked here: {names}"
        )


def _key(download: Download) -> str:
    sha256 = download.hashes.get("sha256")
    return sha256 or "url-" + hashlib.sha256(without_credentials(download.url).encode()).hexdigest()


def _local_path(url: str) -> Path | None:
    """Give the path that a file:// URL or a plain path means; None for what goes over the network."""
    if url.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(url).path))
    return None if "://" in url else Path(url)


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """Read the body undecoded: to some servers a .tar.gz is a gzip-encoded .tar, but not to its digest."""
    return iter(lambda: response.raw.read(_BLOCK, decode_content=False), b"")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, in seconds or as a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Unwrap what requests and urllib3 have wrapped, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = [
            getattr(error, "reason", None),
            *reversed(error.args),
            error.__cause__,
            error.__context__,
        ]
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)


def _any(causes: list[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in causes)


def _system_reason(causes: list[BaseException]) -> str | None:
    """Give what the system says at the bottom of it, e.g. "Connection refused"."""
    wrappers = (requests.RequestException, HTTPError)
    errors = [
        cause for cause in causes if isinstance(cause, OSError) and not isinstance(cause, wrappers)
    ]
    return (errors[-1].strerror or str(errors[-1])) if errors else None


def _named(download: Download) -> str:
    """Name the file and where it comes from; a query may be a signature, and is left out."""
    return f"{download.filename} from {_without_query(without_credentials(download.url))}"


def _without_query(text: str) -> str:
    return re.sub(r"[?#]\S*", "", text)
