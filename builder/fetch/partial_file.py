"""What has arrived of one download: bytes in a partial file, hashed as they come, checked in the end."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from offline_bundle.builder.fetch.cache import DownloadCache, Partial
    from offline_bundle.builder.fetch.pool import Download

ALGORITHMS = frozenset(
    name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")
)
"""The digests that can be checked here."""


class Mismatch(Exception):  # noqa: N818 - a verdict on the bytes, not yet on the file
    """What came is not what was promised."""


class Arrival:
    """Goes on with what *partial* holds of *download*; *advance* is told each number of bytes.

    Sections are those of RFC 9110.
    """

    def __init__(
        self,
        download: Download,
        cache: DownloadCache,
        partial: Partial,
        advance: Callable[[int], None],
    ) -> None:
        self.download = download
        self.size = 0
        self._cache = cache
        self._partial = partial
        self._advance = advance
        self._hashers = _hashers(download.hashes)
        for block in partial.read():
            self._count(block)
        self.is_resumed = self.size > 0
        """Whether some of these bytes came with an earlier answer than the others."""

    @property
    def is_complete(self) -> bool:
        """Whether all that was promised is here, as far as its size goes."""
        return self.size > 0 and self.size == self.download.size

    def append(self, block: bytes) -> None:
        """Write and hash *block*; Mismatch as soon as there is more than was promised."""
        promised = self.download.size
        if promised is not None and self.size + len(block) > promised:
            raise Mismatch(f"expected {promised} bytes, got more")
        self._cache.append(self._partial, block)
        self._count(block)

    def restart(self) -> None:
        """Forget what has arrived."""
        if self.size:
            self._advance(-self.size)
            self._hashers = _hashers(self.download.hashes)
        self.size = 0
        self.is_resumed = False
        self._partial.empty()

    def drop_what_cannot_be_resumed(self) -> None:
        """Restart where going on could mix two files unnoticed, or where there is too much already."""
        is_certain = bool(self.download.hashes) or self._partial.validator is not None
        is_too_much = self.download.size is not None and self.size > self.download.size
        if self.size and (is_too_much or not is_certain):
            self.restart()

    def range_headers(self) -> dict[str, str]:
        """Ask for the rest, on condition that the file is still the same one (13.1.5 and 14.2)."""
        if not self.size:
            return {}
        condition = {"If-Range": self._partial.validator} if self._partial.validator else {}
        return {"Range": f"bytes={self.size}-", **condition}

    def is_continued_by(self, headers: Mapping[str, str]) -> bool:
        """Whether a response 206 brings the rest that was asked for, of a file of the right size (14.4)."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if not match or int(match[1]) != self.size:
            return False
        return self.download.size is None or match[2] in {"*", str(self.download.size)}

    def remember(self, headers: Mapping[str, str]) -> None:
        """Keep what the server knows this version of the file by; a weak ETag does not serve (13.1.5)."""
        tag = headers.get("ETag", "")
        self._partial.validator = tag if tag.startswith('"') else headers.get("Last-Modified")

    def digest(self, algorithm: str = "sha256") -> str:
        """Give the digest of all that has arrived."""
        return self._hashers[algorithm].hexdigest()

    def verify(self) -> None:
        """Compare with the size and with every digest that was promised; Mismatch says what differs."""
        promised = self.download.size
        wrong = (
            [] if promised in {None, self.size} else [f"expected {promised} bytes, got {self.size}"]
        )
        for algorithm in sorted(self.download.hashes.keys() & ALGORITHMS):
            expected, got = self.download.hashes[algorithm], self.digest(algorithm)
            if got != expected:
                wrong.append(f"{algorithm} does not match: expected {expected}, got {got}")
        if wrong:
            raise Mismatch("; ".join(wrong))

    def _count(self, block: bytes) -> None:
        for hasher in self._hashers.values():
            hasher.update(block)
        self.size += len(block)
        self._advance(len(block))


def _hashers(hashes: Mapping[str, str]) -> dict[str, hashlib._Hash]:
    names = sorted({"sha256", *(hashes.keys() & ALGORITHMS)})
    return {name: hashlib.new(name, usedforsecurity=False) for name in names}
