"""A resumable download: appends to a partial file and verifies size and hashes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping

from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.model import Download, HashMismatchError
from offline_bundle.builder.fetch.partial_file import PartialFile
from offline_bundle.wheelhouse.runtime.sizes import format_size, parse_size

ALGORITHMS = frozenset(
    name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")
)
"""Supported digest algorithms."""
# A server could fill the disk with the body of a file whose size no lock or index declares.
_LIMIT, _LIMIT_VARIABLE = "16G", "OFFLINE_BUNDLE_DOWNLOAD_MAX"


class PartialDownload:
    """Resumes *download* from *partial*; calls *advance* with each number of bytes.

    Section numbers are those of RFC 9110.
    """

    def __init__(
        self,
        download: Download,
        cache: DownloadCache,
        partial: PartialFile,
        advance: Callable[[int], None],
    ) -> None:
        self.download = download
        self.size = 0
        self._cache = cache
        self._partial = partial
        self._advance = advance
        self._hashers = _hashers(download.hashes)
        self._limit = download.size or parse_size(os.environ.get(_LIMIT_VARIABLE) or _LIMIT)
        for block in partial.read():
            self._count(block)
        self.is_resumed = self.size > 0
        """Whether the bytes come from more than one response."""

    @property
    def is_complete(self) -> bool:
        """Whether the promised size is reached."""
        return self.size > 0 and self.size == self.download.size

    def append(self, block: bytes) -> None:
        """Write and hash *block*; raise HashMismatchError above the promised or largest size."""
        if self.size + len(block) > self._limit:
            raise self._too_large()
        self._cache.append(self._partial, block)
        self._count(block)

    def check_length(self, length: int) -> None:
        """Raise HashMismatchError for a body of *length* bytes in all that is not the promised."""
        if self.download.size not in {None, length}:
            raise HashMismatchError(f"expected {self.download.size} bytes, got {length}")
        if length > self._limit:
            raise self._too_large()

    def _too_large(self) -> HashMismatchError:
        if self.download.size is not None:
            return HashMismatchError(f"expected {self.download.size} bytes, got more")
        return HashMismatchError(
            f"no size is declared, and the body has more than {format_size(self._limit)}; "
            f"set {_LIMIT_VARIABLE} to allow it"
        )

    def restart(self) -> None:
        """Drop all bytes."""
        if self.size:
            self._advance(-self.size)
            self._hashers = _hashers(self.download.hashes)
        self.size = 0
        self.is_resumed = False
        self._partial.clear()

    def restart_if_unsafe(self) -> None:
        """Restart where resuming could mix two files undetected, or where bytes are too many."""
        is_verifiable = bool(self.download.hashes) or self._partial.validator is not None
        is_too_large = self.download.size is not None and self.size > self.download.size
        if self.size and (is_too_large or not is_verifiable):
            self.restart()

    def range_headers(self) -> dict[str, str]:
        """Request the missing bytes, if the file is still the same one (13.1.5 and 14.2)."""
        if not self.size:
            return {}
        condition = {"If-Range": self._partial.validator} if self._partial.validator else {}
        return {"Range": f"bytes={self.size}-", **condition}

    def is_continued_by(self, headers: Mapping[str, str]) -> bool:
        """Return whether a response 206 has the requested range of a file of this size (14.4)."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if not match or int(match[1]) != self.size:
            return False
        return self.download.size is None or match[2] in {"*", str(self.download.size)}

    def save_validator(self, headers: Mapping[str, str]) -> None:
        """Keep the server's identifier of this version; a weak ETag is not enough (13.1.5)."""
        tag = headers.get("ETag", "")
        self._partial.validator = tag if tag.startswith('"') else headers.get("Last-Modified")

    def digest(self, algorithm: str = "sha256") -> str:
        """Return the digest of all bytes so far."""
        return self._hashers[algorithm].hexdigest()

    def verify(self) -> None:
        """Compare size and digests with the promised ones; raise HashMismatchError."""
        promised = self.download.size
        problems = (
            [] if promised in {None, self.size} else [f"expected {promised} bytes, got {self.size}"]
        )
        for algorithm in sorted(self.download.hashes.keys() & ALGORITHMS):
            expected, actual = self.download.hashes[algorithm], self.digest(algorithm)
            if actual != expected:
                problems.append(f"{algorithm} does not match: expected {expected}, got {actual}")
        if problems:
            raise HashMismatchError("; ".join(problems))

    def _count(self, block: bytes) -> None:
        for hasher in self._hashers.values():
            hasher.update(block)
        self.size += len(block)
        self._advance(len(block))


def _hashers(hashes: Mapping[str, str]) -> dict[str, hashlib._Hash]:
    names = sorted({"sha256", *(hashes.keys() & ALGORITHMS)})
    return {name: hashlib.new(name, usedforsecurity=False) for name in names}
