"""The download cache: verified files by digest, and partial files of unfinished downloads.

    ROOT/downloads/sha256/ab/abcdef…   complete files, read-only, verified at each use
    ROOT/downloads/partial/KEY         bytes received so far (`partial_file`)

Several builds may share one cache. The process that locks a partial file resumes it; another
process that fetches the same file at the same time downloads its own copy.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from offline_bundle.builder.fetch.partial_file import PartialFile
from offline_bundle.wheelhouse.runtime.disk.files import check_space, file_digest, is_digest
from offline_bundle.wheelhouse.runtime.errors import BundleError


class DownloadCache:
    """The downloads below *root*, addressed by sha256. Folders are created on the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = root / "downloads" / "sha256"
        self._partials = root / "downloads" / "partial"

    def get(self, sha256: str, size: int | None = None) -> Path | None:
        """Return the file with this digest, or None. It is hashed; a corrupt file is deleted."""
        path = self.path_of(sha256)
        try:
            if size in {None, path.stat().st_size} and file_digest(path) == sha256:
                return path
        except FileNotFoundError:
            return None
        except OSError:  # treat read errors as corruption
            pass
        with contextlib.suppress(OSError):  # a cache filled by another user may be read-only
            path.unlink()
        return None

    def path_of(self, sha256: str) -> Path:
        """Return where the complete file with this digest is kept."""
        if not is_digest(sha256):
            raise ValueError(sha256)
        return self._files / sha256[:2] / sha256

    def missing_bytes(self, sha256: str | None, size: int) -> int:
        """Return how many of a file's *size* bytes are not here yet, without reading the file."""
        if sha256 is None:
            return size
        if self.path_of(sha256).exists():
            return 0
        with contextlib.suppress(OSError):
            size -= (self._partials / sha256).stat().st_size
        return max(0, size)

    def check_space(self, needed: int) -> None:
        """Raise BundleError where *needed* more bytes do not fit."""
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)
            check_space(self.root, needed)

    @contextlib.contextmanager
    def partial(self, key: str) -> Iterator[PartialFile]:
        """Open the partial file of *key*: the file's sha256, else other letters and digits.

        Bytes that are not stored are kept for the next run. Raises BundleError when the cache
        cannot be written.
        """
        if not re.fullmatch(r"[0-9a-z-]+", key):
            raise ValueError(key)
        with self._writing():
            self._partials.mkdir(parents=True, exist_ok=True)
            partial = PartialFile.open(self._partials / key)
        with contextlib.closing(partial):
            yield partial

    def append(self, partial: PartialFile, data: bytes) -> None:
        """Append *data* to *partial*; raise BundleError when the disk is full."""
        with self._writing():
            partial.append(data)

    def store(self, partial: PartialFile, sha256: str) -> Path:
        """Turn *partial*, verified by the caller, into a complete file by one rename."""
        path = self.path_of(sha256)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.move_to(path)
        return path

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise BundleError(
                f"cannot write to the download cache {self.root}: {reason}",
                hint="free some space there, or set OFFLINE_BUNDLE_CACHE to another folder",
            ) from error
