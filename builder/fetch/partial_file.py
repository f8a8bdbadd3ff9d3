"""A partial file: the bytes of an unfinished download on disk, kept for the next run.

Beside it, `NAME.validator` holds the ETag or date that identifies this version of the file to the
server (RFC 9110, 13.1.5).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Self
from uuid import uuid4

from offline_bundle.wheelhouse.runtime.disk.locks import FileLock


class PartialFile:
    """The partial file at *path*, for one thread of one process; kept for the next run or not."""

    def __init__(self, path: Path, file: FileIO, *, keep: bool) -> None:
        self.path = path
        self._file = file
        self._keep = keep
        self._validator_path = path.with_name(f"{path.name}.validator")
        self.validator = self._read_validator()
        """Strong ETag or Last-Modified date of these bytes; written when the file is closed."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open and lock the file at *path*; a private one beside it where it cannot be locked.

        Another process may hold the lock, or the file system may not support locks.
        """
        lock = FileLock(path)
        with contextlib.suppress(OSError):  # a folder that cannot be written fails again below
            lock.acquire(block=False)
        if lock.descriptor is not None:
            # the lock belongs to the open file: the duplicate holds it
            file = os.fdopen(os.dup(lock.descriptor), "rb+", buffering=0)
            lock.release()
            # the previous owner may have stored the file between open and lock
            if _is_at(file, path):
                return cls(path, file, keep=True)
            file.close()
        private = path.with_name(f"{path.name}.{uuid4().hex}")
        return cls(private, private.open("xb+", buffering=0), keep=False)

    def read(self) -> Iterator[bytes]:
        """Read the file from start to end."""
        self._file.seek(0)
        return iter(lambda: self._file.read(1 << 20), b"")

    def append(self, data: bytes) -> None:
        """Write *data* at the end."""
        self._file.seek(0, os.SEEK_END)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def clear(self) -> None:
        """Drop all bytes and the validator."""
        self.validator = None
        self._file.truncate(0)

    def move_to(self, path: Path) -> None:
        """Rename the file to *path*, read-only."""
        os.fchmod(self._file.fileno(), 0o444)
        self.path.replace(path)
        self._write_validator(None)

    def close(self) -> None:
        """Close and unlock the file; keep it when another run can resume it."""
        with contextlib.suppress(OSError):
            if _is_at(self._file, self.path):
                keep = self._keep and os.fstat(self._file.fileno()).st_size > 0
                self._write_validator(self.validator if keep else None)
                if not keep:
                    self.path.unlink()
        self._file.close()

    def _read_validator(self) -> str | None:
        try:
            return self._validator_path.read_text(encoding="ascii") or None
        except (OSError, ValueError):
            return None

    def _write_validator(self, validator: str | None) -> None:
        # without a validator the next run asks less precisely
        with contextlib.suppress(OSError, ValueError):
            if validator:
                self._validator_path.write_text(validator, encoding="ascii")
            else:
                self._validator_path.unlink(missing_ok=True)


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
