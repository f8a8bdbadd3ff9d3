"""JSON documents over HTTP, of an index or of an OSV server.

The documents are small, and a build does not depend on a single one: a request is tried twice, and
a failure is a reason to report.
"""

from __future__ import annotations

import json
from http import HTTPStatus

import requests
from urllib3.exceptions import HTTPError

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.http import IndexSession
from offline_bundle.builder.fetch.model import TlsSettings
from offline_bundle.builder.fetch.responses import RetryableError
from offline_bundle.builder.fetch.transfer import read_blocks
from offline_bundle.wheelhouse.runtime.sizes import format_size
from offline_bundle.wheelhouse.runtime.text import without_logins

WORKERS = 8
"""Requests at the same time."""
_LARGEST = 32 * 1024 * 1024
_TRIES = 2
_REASONS = (
    (requests.exceptions.SSLError, "the server's certificate is not trusted"),
    (requests.Timeout, "timed out"),
    (requests.ConnectionError, "could not reach it"),
)


class NoAnswerError(Exception):
    """A server did not answer with a usable document; the text is the reason, without secrets."""


class JsonClient:
    """Requests documents with the credentials of their origin. Threads may share it."""

    def __init__(self, credentials: Credentials, tls: TlsSettings) -> None:
        self._session = IndexSession(credentials, WORKERS, tls)

    def get(self, url: str, accept: str = "application/json") -> object:
        """Return the document at *url*; raises NoAnswerError."""
        return _parse(self.read(url, accept), url)

    def post(self, url: str, document: object) -> object:
        """Return the answer to *document*; raises NoAnswerError."""
        return _parse(self.read(url, "application/json", json.dumps(document).encode()), url)

    def read(self, url: str, accept: str, body: bytes | None = None) -> bytes:
        """Return the bytes at *url*, or the answer to *body*; raises NoAnswerError."""
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/json"
        reason = ""
        for _ in range(_TRIES):
            try:
                with self._session.open_stream(url, headers, body) as response:
                    if response.status_code == HTTPStatus.OK:
                        return _read(response)
                    reason = f"HTTP {response.status_code}"
                    if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                        break
            except RetryableError as error:
                reason = str(error)
            except (requests.RequestException, HTTPError) as error:
                reason = next(
                    (text for kind, text in _REASONS if isinstance(error, kind)), "invalid answer"
                )
        raise NoAnswerError(f"{without_logins(url)}: {reason}")


def _read(response: requests.Response) -> bytes:
    content = bytearray()
    for block in read_blocks(response, decode=True):
        content += block
        if len(content) > _LARGEST:
            url = without_logins(response.url)
            raise NoAnswerError(f"{url}: larger than {format_size(_LARGEST)}")
    return bytes(content)


def _parse(content: bytes, url: str) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise NoAnswerError(f"{without_logins(url)}: not JSON") from None
