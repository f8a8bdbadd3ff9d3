"""Checks of a wheel beyond its METADATA: uv on a node must be able to install it.

uv rejects such wheels where nothing can be done about it any more, and verification of digests and
signatures passes. Each check follows the wheel specification or uv's unpacking of ZIP files:
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import configparser
import csv
import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.text import printable

_HINT = "pin another version, or publish a correct wheel of it on an index of yours"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_METHOD_NAMES = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA"}
_ENCRYPTED, _SIZES_FOLLOW = 0x1, 0x8
_HEADER_SIZE = 30
_IN_EXTRA_FIELD = 0xFFFFFFFF
_END_RECORD = b"PK\x05\x06"
_END_RECORD_SIZE = 22
_LONGEST_COMMENT = 0xFFFF
_BLOCK = 1 << 20
_LARGEST_FILE = 64 * 1024 * 1024
_RECORD_FIELDS = 3
_LONGEST_NAME = 255
_UTF8_NAME = 0x800
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LARGEST_POINTER = 1024
_DATA_FOLDERS = {"purelib", "platlib", "headers", "scripts", "data"}
_ENTRY_POINT = re.compile(r"[\w.-]+\s*:\s*[\w.-]+(\s*\[[^],].*\])?")
# Names of scripts that would replace an environment's interpreter, or name a folder.
_RESERVED = re.compile(r"(?i:python(w|3(\.\d+t?)?)?|pypy(3(\.\d+)?)?|graalpy)(\.exe)?|\.\.?")
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
)


def check_wheel(path: Path, filename: str, metadata: WheelMetadata, *, is_new: bool = True) -> None:
    """Raise FetchError (exit 4) where an installer would reject the wheel; all reasons are named.

    *filename* is its name where *path* has another; *metadata* is its parsed METADATA. The content
    is read only where it *is_new*.
    """
    problems = [*_name_problems(filename, metadata)]
    try:
        with zipfile.ZipFile(path) as archive:
            problems += _zip_problems(archive)
            problems += _metadata_problems(archive)
            problems += _checksum_problems(archive) if is_new else []
    except _BROKEN as error:
        problems.append(f"not a readable ZIP file: {error}")
    if problems:
        raise FetchError(
            f"{filename}: this wheel cannot be installed", problems=problems, hint=_HINT
        )


def check_no_lfs_pointers(wheel: Path) -> None:
    """Raise FetchError (exit 4) where a built wheel has Git LFS pointers in place of files.

    See https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
    """
    with zipfile.ZipFile(wheel) as archive:
        small = [info for info in archive.infolist() if info.file_size <= _LARGEST_POINTER]
        names = [info.filename for info in small if archive.read(info).startswith(_LFS_POINTER)]
    if names:
        raise FetchError(
            f"{wheel.name} has Git LFS pointers in place of files",
            problems=[printable(name) for name in names],
            hint="add `lfs = true` to its source in [tool.uv.sources], or set UV_GIT_LFS=1; "
            "in a local folder, run `git lfs pull`",
        )


def _name_problems(filename: str, metadata: WheelMetadata) -> Iterator[str]:
    name, version, _, _ = parse_wheel_filename(filename)
    if canonicalize_name(metadata.name) != name:
        yield f"its METADATA has the name {printable(metadata.name)}"
    try:
        is_same = Version(metadata.version) == version
    except ValueError:  # InvalidVersion, or more digits than int() takes
        is_same = False
    if not is_same:
        yield f"its METADATA has the version {printable(metadata.version)}"


def _zip_problems(archive: zipfile.ZipFile) -> Iterator[str]:
    """Find what uv rejects while it unpacks the file."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = printable(entry.filename)
        if entry.compress_type not in _METHODS:
            method = _METHOD_NAMES.get(entry.compress_type, "an unknown method")
            yield f"{name} is compressed by {method}, only deflate is allowed"
        if entry.flag_bits & _ENCRYPTED:
            yield f"{name} is encrypted"
        if not _is_file_name(entry):
            yield f"{name} is not a valid file name"
            continue
        if _has_other_header(archive, entry):
            yield f"{name} has two headers that differ"
        other = entries.setdefault(_installed_path(entry.filename), entry)
        if other.is_dir() != entry.is_dir():
            yield f"{name} is both a file and a folder"
        elif other is not entry and not _has_same_content(archive, entry, other):
            yield f"{name} occurs twice with different content"
    files = {name for name, entry in entries.items() if not entry.is_dir()}
    folders = {parent for name in entries for parent in _parents(name)}
    yield from (
        f"{printable(name)} is both a file and a folder" for name in sorted(files & folders)
    )
    if min((entry.header_offset for entry in entries.values()), default=0) > 0:
        yield "it has bytes before the ZIP file"
    yield from _end_problems(archive)


def _is_file_name(entry: zipfile.ZipInfo) -> bool:
    """Return False where uv stops, or leaves the file out because it is outside the wheel."""
    name = entry.orig_filename
    if not entry.flag_bits & _UTF8_NAME and not name.isascii():
        return False
    parts = name.split("/")
    is_inside = not name.startswith("/") and ".." not in parts and parts[-1] != "."
    is_short = all(len(os.fsencode(part)) <= _LONGEST_NAME for part in parts)
    return bool(name) and is_inside and is_short and not re.search(r"[\0-\x1f\x7f]", name)


def _has_other_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Return whether the header before the content differs: 4.3.7 of PKWARE's APPNOTE.TXT."""
    file = archive.fp
    if file is None:
        raise ValueError("closed")
    file.seek(entry.header_offset)
    flags, packed, size = struct.unpack("<6xH10xII4x", file.read(_HEADER_SIZE))
    is_elsewhere = flags & _SIZES_FOLLOW or _IN_EXTRA_FIELD in (packed, size)
    is_same_size = (packed, size) == (entry.compress_size, entry.file_size)
    return bool(flags & _ENCRYPTED) or not (is_elsewhere or is_same_size)


def _installed_path(name: str) -> str:
    """Return where installers place a member: two names may be the same place."""
    name = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", name)
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _has_same_content(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, other: zipfile.ZipInfo
) -> bool:
    """Compare two members. CRCs can be forged, so they are read where those are equal."""
    if (other.CRC, other.file_size) != (entry.CRC, entry.file_size):
        return False
    with archive.open(entry) as one, archive.open(other) as two:
        digests = [hashlib.file_digest(member, "sha256").digest() for member in (one, two)]  # type: ignore[arg-type]
    return digests[0] == digests[1]


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _end_problems(archive: zipfile.ZipFile) -> Iterator[str]:
    """Check the end record: 4.3.16 of PKWARE's APPNOTE.TXT."""
    file = archive.fp
    if file is None:
        raise ValueError("closed")
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_RECORD_SIZE - _LONGEST_COMMENT))
    tail = file.read()
    start = tail.rfind(_END_RECORD)
    if len(tail) != start + _END_RECORD_SIZE + len(archive.comment):
        yield "it has bytes after the end of the ZIP file"
    count = int.from_bytes(tail[start + 10 : start + 12], "little")
    if count not in {len(archive.infolist()), 0xFFFF}:
        yield f"it has {len(archive.infolist())} files, its end states {count}"


def _metadata_problems(archive: zipfile.ZipFile) -> Iterator[str]:
    """Check WHEEL, RECORD, entry points and the folders of `.data`."""
    names = archive.namelist()
    # not those of packages that the wheel has a copy of, as setuptools does
    tops = (name.partition("/")[0] for name in names)
    folder = next(top for top in tops if top.endswith(".dist-info"))
    texts: dict[str, str | None] = {}
    for name in ("WHEEL", "RECORD", "entry_points.txt"):
        try:
            texts[name] = _read_text(archive, f"{folder}/{name}")
        except UnicodeDecodeError:
            yield f"{folder}/{name} is not UTF-8"
            texts[name] = ""
    yield from _wheel_problems(folder, texts["WHEEL"])
    yield from _record_problems(folder, texts["RECORD"])
    yield from _entry_point_problems(folder, texts["entry_points.txt"])
    yield from _data_problems(names)


def _read_text(archive: zipfile.ZipFile, name: str) -> str | None:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        return None
    if entry.file_size > _LARGEST_FILE:
        raise ValueError(f"{name} is larger than {_LARGEST_FILE} bytes")
    return archive.read(entry).decode()


def _wheel_problems(folder: str, text: str | None) -> Iterator[str]:
    if text is None:
        yield f"{folder}/WHEEL is missing"
        return
    # not `.get()`, which takes the name in any case
    version = dict(HeaderParser().parsestr(text).items()).get("Wheel-Version", "")
    if not re.match(r"\s*(1\.|0\.1\b)", version):
        yield f"Wheel-Version must be 1.x, not {printable(version)}"


def _record_problems(folder: str, text: str | None) -> Iterator[str]:
    if text is None:
        yield f"{folder}/RECORD is missing"
        return
    try:
        rows = [*filter(None, csv.reader(text.splitlines()))]
    except csv.Error as error:
        yield f"{folder}/RECORD is invalid: {error}"
        return
    for row in rows:
        if len(row) != _RECORD_FIELDS:
            yield f"{folder}/RECORD has {len(row)} fields in a line, not {_RECORD_FIELDS}"
            return
        if not re.fullmatch(r"[0-9]{0,19}", row[2]):
            yield f"{folder}/RECORD has an invalid size: {printable(row[2])}"
            return


def _entry_point_problems(folder: str, text: str | None) -> Iterator[str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names differ by case
    try:
        parser.read_string(text or "")
    except configparser.Error:
        yield f"{folder}/entry_points.txt is invalid"
        return
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            is_name = "/" not in name and not _RESERVED.fullmatch(name)
            if not is_name or not _ENTRY_POINT.fullmatch(value.strip()):
                yield f"invalid entry point {printable(name)} = {printable(value)}"


def _data_problems(names: Iterable[str]) -> Iterator[str]:
    paths = [match[1] for name in names if (match := re.match(r"[^/]+\.data/(.+)", name))]
    for key in sorted({path.partition("/")[0] for path in paths} - _DATA_FOLDERS):
        yield f"unknown folder {printable(key)} in .data"
    if any(re.match(r"scripts/[^/]+/", path) for path in paths):
        yield "folder in .data/scripts"
    # uv takes what is installed as bin/NAME and bin/NAME.py as a script
    matches = [re.fullmatch(r"(?:scripts|data/bin)/([^/]+?)(?:\.py)?", path) for path in paths]
    scripts = sorted(match[1] for match in matches if match)
    yield from (f"reserved name in .data/scripts: {n}" for n in scripts if _RESERVED.fullmatch(n))


def _checksum_problems(archive: zipfile.ZipFile) -> Iterator[str]:
    """Compare checksums of members; the digest of an index may be that of a broken file.

    Compressed members are left out: to read them takes as long as the rest of a fast build.
    Compiling reads the modules anyway, and reports those.
    """
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            continue
        try:
            with archive.open(entry) as member:
                while member.read(_BLOCK):
                    pass
        except _BROKEN:
            yield f"{printable(entry.filename)} does not match its checksum"
