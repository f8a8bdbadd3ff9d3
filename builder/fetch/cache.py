"""Downloads that are kept: verified files by their digest, and the beginnings of those that were cut short.

    ROOT/downloads/sha256/ab/abcdef…   whole files, read-only, checked again each time one is used
    ROOT/downloads/partial/KEY         what has arrived so far of a file; beside it, KEY.validator: the ETag
                                       or date by which a server knows the same file again (RFC 9110, 13.1.5)

Any number of builds may share one cache. Who holds the lock on a partial file goes on with it; another
process that wants the same file at the same time downloads a copy of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from typing import TYPE_CHECKING
from uuid import uuid4

from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.files import check_space

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path


class DownloadCache:
    """The downloads under *root*, addressed by sha256. Folders are made when something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = root / "downloads" / "sha256"
        self._partials = root / "downloads" / "partial"

    def get(self, sha256: str, size: int | None = None) -> Path | None:
        """Give the file with this digest, or None. It is hashed again: one that has rotted is deleted."""
        path = self._path_of(sha256)
        try:
            with path.open("rb") as file:
                is_whole = size in {None, os.fstat(file.fileno()).st_size}
                if is_whole and hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return path
        except FileNotFoundError:
            return None
        except OSError:  # a bad sector is as good as a wrong digest
            pass
        with contextlib.suppress(OSError):  # a cache that somebody else fills may be read-only
            path.unlink()
        return None

    def lacking(self, sha256: str | None, size: int) -> int:
        """Tell how many of a file's *size* bytes are still to come, by what lies here, without reading it."""
        if sha256 is None:
            return size
        if self._path_of(sha256).exists():
            return 0
        with contextlib.suppress(OSError):
            size -= (self._partials / sha256).stat().st_size
        return max(0, size)

    def refuse_without_space(self, needed: int) -> None:
        """Raise BundleError where *needed* bytes do not fit beside what lies here."""
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)
            check_space(self.root, needed)

    @contextlib.contextmanager
    def partial(self, key: str) -> Iterator[Partial]:
        """Open what has arrived so far of the file *key*, for one thread of one process alone.

        *key* is the file's sha256 or, where that is not known, other letters and digits that stand for it.
        What is not stored in the end is kept for the next run. Raises BundleError when the cache cannot be
        written.
        """
        if not re.fullmatch(r"[0-9a-z-]+", key):
            raise ValueError(key)
        with self._writing():
            self._partials.mkdir(parents=True, exist_ok=True)
            partial = _lock(self._partials / key) or _own(self._partials / f"{key}.{uuid4().hex}")
        try:
            yield partial
        finally:
            partial.close()

    def append(self, partial: Partial, data: bytes) -> None:
        """Write *data* behind what *partial* holds; BundleError says when there is no room."""
        with self._writing():
            partial.append(data)

    def store(self, partial: Partial, sha256: str) -> Path:
        """Make a whole file out of *partial*, which the caller has verified, by one rename."""
        path = self._path_of(sha256)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.move_to(path)
        return path

    def _path_of(self, sha256: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(sha256)
        return self._files / sha256[:2] / sha256

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise BundleError(
                f"cannot write to the download cache {self.root}: {reason}",
                hint="free some space there, or set OFFLINE_BUNDLE_CACHE to a writable folder with room",
            ) from error


class Partial:
    """A file that is still arriving. `DownloadCache.partial` opens it."""

    def __init__(self, path: Path, file: FileIO, *, keep: bool) -> None:
        self.path = path
        self._file = file
        self._keep = keep
        self._validator_path = path.with_name(f"{path.name}.validator")
        self.validator = self._read_validator()
        """The strong ETag, or the Last-Modified date, of what is here; written when the file is closed."""

    def read(self) -> Iterator[bytes]:
        """Read what is here, from its start to its end."""
        self._file.seek(0)
        return iter(lambda: self._file.read(1 << 20), b"")

    def append(self, data: bytes) -> None:
        """Write *data* at the end."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def empty(self) -> None:
        """Forget what has arrived."""
        self.validator = None
        self._file.seek(0)
        self._file.truncate()

    def move_to(self, path: Path) -> None:
        """Rename the file to *path*, read-only."""
        os.fchmod(self._file.fileno(), 0o444)
        self.path.replace(path)
        self._write_validator(None)

    def close(self) -> None:
        """Let go of the file. It is kept when it holds something that another run may go on with."""
        with contextlib.suppress(OSError):
            if _is_at(self._file, self.path):
                is_of_use = self._keep and os.fstat(self._file.fileno()).st_size > 0
                self._write_validator(self.validator if is_of_use else None)
                if not is_of_use:
                    self.path.unlink()
        self._file.close()

    def _read_validator(self) -> str | None:
        try:
            return self._validator_path.read_text(encoding="ascii") or None
        except (OSError, ValueError):
            return None

    def _write_validator(self, validator: str | None) -> None:
        with contextlib.suppress(
            OSError, ValueError
        ):  # without one, the next run only asks less precisely
            if validator:
                self._validator_path.write_text(validator, encoding="ascii")
            else:
                self._validator_path.unlink(missing_ok=True)


def _lock(path: Path) -> Partial | None:
    """Open *path* and lock it; None when somebody else has it, or when the file system knows no locks."""
    file = path.open("ab+", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    if _is_at(file, path):
        return Partial(path, file, keep=True)
    file.close()  # between our opening and locking it, its owner stored it
    return None


def _own(path: Path) -> Partial:
    """Open a file that nobody else knows of."""
    return Partial(path, path.open("ab+", buffering=0), keep=False)


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
