"""Responses and network errors of downloads: final, or worth another try.

Slow to import (requests).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from http import HTTPStatus

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, InvalidHeader, NewConnectionError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError
from urllib3.util import Retry

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.model import Download, DownloadError
from offline_bundle.builder.fetch.partial_download import PartialDownload
from offline_bundle.wheelhouse.runtime.text import without_logins

_RETRYABLE = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}

_CERTIFICATE_HINT = (
    "set SSL_CERT_FILE to the certificate authority of your organisation, "
    "where a proxy or index has a certificate of it"
)
_GONE_HINT = "the index no longer has the file: build without --locked, or pin another version"
_TIMEOUT_HINT = "set UV_HTTP_TIMEOUT to more seconds"


class RetryableError(Exception):
    """This try failed, another may not. *wait* is in seconds; None: exponential back-off."""

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


def check_response(
    response: requests.Response, partial: PartialDownload, credentials: Credentials
) -> int | None:
    """Check status and headers before the body; return the final size, where known.

    Raises RetryableError, DownloadError, or HashMismatchError for another size than promised.
    """
    status = response.status_code
    if status == HTTPStatus.PARTIAL_CONTENT and partial.is_continued_by(response.headers):
        partial.is_resumed = partial.size > 0
    elif status in {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
        partial.restart()
        raise RetryableError(f"HTTP {status}: not the requested range", wait=0)
    elif status == HTTPStatus.OK:
        partial.restart()
        partial.save_validator(response.headers)
    else:
        raise _status_error(response, partial.download, credentials)
    length = response.headers.get("Content-Length", "")
    # int() refuses more than 4,300 digits
    expected = partial.size + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    if expected is not None:
        partial.check_length(expected)
    return expected


def classify_error(
    error: Exception, partial: PartialDownload, credentials: Credentials
) -> RetryableError | DownloadError:
    """Return a RetryableError for a network fault that may pass, else a DownloadError."""
    source = describe(partial.download)
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            message = f"the server's certificate is not trusted: {cause.verify_message}"
            return DownloadError(f"{source}: {message}", _CERTIFICATE_HINT)
    if isinstance(error, (ValueError, requests.TooManyRedirects)):
        return DownloadError(f"{source}: {credentials.redact(without_query(str(error)))}")
    received = f" after {partial.size} bytes" if partial.size else ""
    is_unreachable = _any(causes, NewConnectionError, ConnectTimeoutError)
    if _any(causes, TimeoutError, HTTPTimeoutError) and not _any(causes, NewConnectionError):
        return RetryableError(
            f"timed out{received}", hint=_TIMEOUT_HINT, is_unreachable=is_unreachable
        )
    reason = credentials.redact(_system_reason(causes) or "the connection was cut")
    return RetryableError(f"{reason}{received}", is_unreachable=is_unreachable)


def describe(download: Download) -> str:
    """Name the file and its origin without the query, which may be a signature."""
    return f"{download.filename} from {without_query(without_logins(download.url))}"


def without_query(text: str) -> str:
    """Remove the query and fragment of each URL in *text*."""
    return re.sub(r"[?#]\S*", "", text)


def _status_error(
    response: requests.Response, download: Download, credentials: Credentials
) -> RetryableError | DownloadError:
    status = response.status_code
    message = f"HTTP {status} {response.reason or ''}".rstrip()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _RETRYABLE:
        return RetryableError(message, wait=_retry_after(response))
    hint = None
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        were_sent = "Authorization" in response.request.headers
        message += ": the credentials were refused" if were_sent else ": credentials are needed"
        hint = credentials.advice(without_logins(response.url))
    elif status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        hint = _GONE_HINT
    return DownloadError(f"{describe(download)}: {message}", hint)


def _retry_after(response: requests.Response) -> float | None:
    """Read Retry-After, in seconds or as a date (RFC 9110, 10.2.3)."""
    try:
        return Retry().get_retry_after(response.raw)
    except InvalidHeader:
        return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Unwrap the exceptions of requests and urllib3, outermost first."""
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
    """Return the innermost message of the operating system, e.g. "Connection refused"."""
    wrappers = (requests.RequestException, HTTPError)
    errors = [
        cause for cause in causes if isinstance(cause, OSError) and not isinstance(cause, wrappers)
    ]
    return (errors[-1].strerror or str(errors[-1])) if errors else None
