"""Read an advisory database: one file, a folder, or a zip file of OSV JSON or YAML.

    database = Database(Path("advisories.zip"))
    for advisory in database.read(): ...
    database.unreadable             # ["PYSEC-1.json: not valid JSON: ..."]

A file that is not an advisory is listed in `unreadable`; the others are still read. Advisories are
yielded one by one, so memory does not grow with the database.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from offline_bundle.wheelhouse.audit.osv.advisory import Advisory, AdvisoryError, decode_advisory
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError
from offline_bundle.wheelhouse.runtime.sizes import format_size

LARGEST_FILE = 16 * 1024 * 1024
"""Bytes of one advisory. The largest public ones have less than 1 MiB."""
LARGEST_TOTAL = 4 * 1024 * 1024 * 1024
"""Bytes of all files of a zip file together, unpacked."""
MOST_MEMBERS = 1_000_000
_SUFFIXES = (".json", ".yaml", ".yml")
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # encrypted, or an unknown compression
    ValueError,
)
_HINT = "name an OSV JSON or YAML file, a folder of them, or a zip file"


class Database:
    """An advisory database on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.advisories = 0
        """Advisories read so far."""
        self.unreadable: list[str] = []
        """`FILE: reason` of each file that is not an advisory, or cannot be read."""

    def read(self) -> Iterator[Advisory]:
        """Yield each advisory.

        Raises InputError if there is none, IntegrityError for a damaged zip file. Of one that is
        too large when unpacked, the rest is not read.
        """
        for name, content in self._files():
            try:
                advisory = decode_advisory(content, is_yaml=not name.lower().endswith(".json"))
            except AdvisoryError as error:
                self.unreadable.append(f"{name}: {error}")
                continue
            self.advisories += 1
            yield advisory
        if not self.advisories and not self.unreadable:
            raise InputError(f"{self._path} contains no advisories", hint=_HINT)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        if self._path.is_dir():
            yield from self._files_of_folder()
        elif not self._path.is_file():
            raise InputError(f"{self._path}: no such file or folder", hint=_HINT)
        elif self._path.suffix.lower() in _SUFFIXES:
            yield from self._file(self._path, self._path.name)
        elif zipfile.is_zipfile(self._path):
            yield from self._files_of_zip()
        else:
            raise InputError(f"{self._path} is not an advisory or a zip file", hint=_HINT)

    def _files_of_folder(self) -> Iterator[tuple[str, bytes]]:
        for path in sorted(self._path.rglob("*")):
            name = path.relative_to(self._path).as_posix()
            is_hidden = any(part.startswith(".") for part in name.split("/"))
            if path.suffix.lower() in _SUFFIXES and not is_hidden and path.is_file():
                yield from self._file(path, name)

    def _file(self, path: Path, name: str) -> Iterator[tuple[str, bytes]]:
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
        except OSError as error:
            self.unreadable.append(f"{name}: {error.strerror}")
            return
        if self._has_allowed_size(name, content):
            yield name, content

    def _files_of_zip(self) -> Iterator[tuple[str, bytes]]:
        try:
            archive = zipfile.ZipFile(self._path)
        except _BROKEN_ZIP as error:
            message = f"{self._path} is not a readable zip file: {error}"
            raise IntegrityError(message, hint="copy it again") from error
        with archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                raise IntegrityError(f"{self._path} has more than a million files", hint=_HINT)
            yield from self._members(archive, members)

    def _members(
        self, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]
    ) -> Iterator[tuple[str, bytes]]:
        total = 0
        for member in members:
            if not member.filename.lower().endswith(_SUFFIXES):
                continue
            try:
                # why not file_size: a zip bomb states a false one
                with archive.open(member) as file:
                    content = file.read(LARGEST_FILE + 1)
            except _BROKEN_ZIP as error:
                self.unreadable.append(f"{member.filename}: {error}")
                continue
            total += len(content)
            if total > LARGEST_TOTAL:
                limit = format_size(LARGEST_TOTAL)
                self.unreadable.append(
                    f"{self._path}: larger than {limit} when unpacked; the files from "
                    f"{member.filename} on were not read"
                )
                return
            if self._has_allowed_size(member.filename, content):
                yield member.filename, content

    def _has_allowed_size(self, name: str, content: bytes) -> bool:
        if len(content) > LARGEST_FILE:
            self.unreadable.append(f"{name}: larger than {format_size(LARGEST_FILE)}")
            return False
        return True
