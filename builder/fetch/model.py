"""Downloads: what to fetch, what was fetched, TLS settings, progress and errors.

Imports nothing slow: the resolver and the command line use these types before any download starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Download:
    """One file to fetch."""

    url: str
    """https://, http:// or file://, or a plain path."""
    filename: str
    """Name in messages."""
    hashes: Mapping[str, str]
    """Algorithm to lower-case hex; empty where an index offers none."""
    size: int | None
    """Bytes, where known."""


@dataclass(frozen=True)
class Fetched:
    """One file, fetched and verified."""

    path: Path
    """In the cache, read-only."""
    sha256: str
    size: int
    from_cache: bool
    """True when no byte was transferred."""


@dataclass(frozen=True)
class TlsSettings:
    """uv's certificate settings, for the program's own downloads."""

    insecure_hosts: frozenset[str] = frozenset()
    """`HOST` or `HOST:PORT`, as for `--allow-insecure-host`: certificates are not verified."""
    use_system_certificates: bool = False
    """Use the certificate store of the machine (`system-certs`)."""

    def verifies(self, url: str) -> bool:
        """Return whether the certificate of the host in *url* is verified."""
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
        except ValueError:
            return True
        authority = f"[{host}]" if ":" in host else host
        return not self.insecure_hosts & {host, authority, f"{authority}:{port}"}


class FetchProgress(Protocol):
    """Receives download progress; called by one thread at a time, not always the same one."""

    def begin(self, files: int, size: int | None, largest: Sequence[tuple[str, int]]) -> None:
        """Start: number of distinct files, and their total size; None where a size is unknown.

        *largest* has name and size of the largest files, the largest first.
        """

    def advance(self, size: int) -> None:
        """Count *size* bytes as present; negative when counted bytes must be fetched again."""

    def done(self, download: Download) -> None:
        """Count one file as complete and verified."""


class NoProgress:
    """Ignores all progress."""

    def begin(self, files: int, size: int | None, largest: Sequence[tuple[str, int]]) -> None:
        """Do nothing."""

    def advance(self, size: int) -> None:
        """Do nothing."""

    def done(self, download: Download) -> None:
        """Do nothing."""


class DownloadError(Exception):
    """One file cannot be fetched: a line without secrets, and a hint. `fetch` collects them."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class HashMismatchError(Exception):
    """The received bytes differ from the promised size or digest."""


class Cancelled(Exception):  # noqa: N818 - not an error: another download failed, or Ctrl-C
    """Ends a thread that must not continue."""
