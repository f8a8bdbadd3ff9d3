"""Check the entries of the cache against the digests that they were made with."""

import gzip
import os
import zipfile
import zlib

from ...bundle.manifest import read_manifest
from ...disk.file_identity import read_regular
from ...disk.files import CHUNK_SIZE, has_digest, open_file_digest
from ...disk.safe_folder import SafeFolder
from ...errors import BundleError
from ...strict_json import parse_object
from ..prepare.contents import changed_files, changed_in_environment, changed_of_record
from ..warm_start import marker_path
from .entries import (
    BUILT_WHEEL,
    BUNDLE,
    BYTECODE,
    DOWNLOAD,
    ENVIRONMENT,
    INTERPRETER,
    PYTHON_ARCHIVE,
    UV,
    UV_CACHE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional

    from .entries import CacheEntry


def corrupt_file(entry: "CacheEntry") -> "Optional[str]":
    """Return the first file of *entry* that is missing or changed, or None.

    Entries that have no digests, such as launch records, are never reported.
    """
    check = _CHECKS.get(entry.kind)
    try:
        return next(check(entry.path), None) if check else None
    except (OSError, ValueError, TypeError, AttributeError, BundleError) as error:
        return f"{entry.path}: {error}"


def _check_environment(home: str) -> "Iterator[str]":
    if not os.path.exists(marker_path(home)):
        return  # being made, or left by a killed attempt: the next start removes it
    yield from changed_in_environment(home)


def _check_interpreter(folder: str) -> "Iterator[str]":
    marker = marker_path(folder)
    if os.path.exists(marker):
        yield from changed_files(folder, _read_json(marker).get("files", {}))


def _check_uv_cache(folder: str) -> "Iterator[str]":
    """Check the unpacked wheels in uv's cache against their own RECORD files."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            record = os.path.join(parent, name, "RECORD")
            if name.endswith(".dist-info") and os.path.isfile(record):
                yield from changed_of_record(record)


def _check_named_by_digest(path: str) -> "Iterator[str]":
    """Check a file whose name, or whose folder's name, is its sha256."""
    for file in _files(path, ""):
        if not has_digest(file, os.path.basename(path)):
            yield file


def _check_compressed(path: str) -> "Iterator[str]":
    for file in _files(path, ".tar.gz"):
        try:
            with gzip.open(file) as stream:
                while stream.read(CHUNK_SIZE):
                    pass
        except (OSError, EOFError, zlib.error):
            yield file


def _check_wheels(path: str) -> "Iterator[str]":
    for file in _files(path, ".whl"):
        try:
            with zipfile.ZipFile(file) as wheel:
                is_whole = wheel.testzip() is None
        except (OSError, zipfile.BadZipFile):
            is_whole = False
        if not is_whole:
            yield file


def _check_bundle(path: str) -> "Iterator[str]":
    manifest = read_manifest(path)
    with SafeFolder(path) as folder:
        for name, listed in manifest.files.items():
            if listed.sha256 is None:
                continue
            with folder.open(name) as file:
                is_whole = open_file_digest(file) == listed.sha256
            if not is_whole:
                yield folder.full_path(name)


def _files(path: str, suffix: str) -> "list[str]":
    names = os.listdir(path) if os.path.isdir(path) else [""]
    files = [os.path.join(path, name) if name else path for name in names]
    return [file for file in files if file.endswith(suffix)]


def _read_json(path: str) -> "dict[str, Any]":
    """Return the object in a JSON file; an empty one if an earlier version wrote no file."""
    if not os.path.exists(path):
        return {}
    return parse_object(read_regular(path), os.path.basename(path), hint="")


_CHECKS = {
    ENVIRONMENT: _check_environment,
    INTERPRETER: _check_interpreter,
    UV: _check_named_by_digest,
    UV_CACHE: _check_uv_cache,
    BUNDLE: _check_bundle,
    DOWNLOAD: _check_named_by_digest,
    BUILT_WHEEL: _check_wheels,
    BYTECODE: _check_compressed,
    PYTHON_ARCHIVE: _check_compressed,
}
