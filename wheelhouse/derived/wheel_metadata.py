"""The metadata inside a wheel, as it lies there."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from offline_bundle.wheelhouse.runtime.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.metadata import RawMetadata

_LARGEST_METADATA = 32 * 1024 * 1024
_HINT = "fetch the wheel again; if its index serves it so, report it to the project"
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
"""What zipfile raises for damage; RuntimeError for encrypted members and unknown compression."""


@dataclass(frozen=True)
class WheelMetadata:
    """What a wheel says of itself; texts as written, not yet parsed."""

    name: str
    version: str
    requires_python: str | None
    requires_dist: tuple[str, ...]


def metadata_of_wheel(path: Path, filename: str | None = None) -> bytes:
    """Return the METADATA of a wheel, byte for byte; *filename* is its name where *path* has another.

    Verbatim, because pip refuses a PEP 658 sibling that differs from the wheel's own. Raises IntegrityError
    when the file is no readable wheel, or its one `.dist-info` folder is not the one its file name promises.
    """
    filename = filename or path.name
    try:
        with zipfile.ZipFile(path) as archive:
            member = _metadata_member(filename, archive)
            return archive.read(member)
    except _BROKEN_ZIP as error:
        raise IntegrityError(f"{filename} is not a readable wheel: {error}", hint=_HINT) from error


def parse_metadata(content: bytes, *, where: str = "METADATA") -> WheelMetadata:
    """Read METADATA; *where* names it in the IntegrityError that is raised when it has no name or version."""
    # What follows the headers is the description: long, and of no use here.
    raw = _read_headers(content.replace(b"\r\n", b"\n").partition(b"\n\n")[0])
    name, version = raw.get("name"), raw.get("version")
    if not name or not version:
        raise IntegrityError(f"{where} lacks {'a name' if not name else 'a version'}", hint=_HINT)
    return WheelMetadata(
        name, version, raw.get("requires_python"), tuple(raw.get("requires_dist", ()))
    )


@lru_cache(maxsize=4096)
def _read_headers(headers: bytes) -> RawMetadata:
    """Read them once: a build reads those of the bundle while it waits for the resolver, and then asks again."""
    return parse_email(headers)[0]


def _metadata_member(filename: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    name, version, _, _ = parse_wheel_filename(filename)
    tops = {
        member.filename.split("/", 1)[0] for member in archive.infolist() if "/" in member.filename
    }
    folders = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(folders) != 1:
        found = ", ".join(folders) or "none"
        raise IntegrityError(
            f"{filename} must hold one .dist-info folder; found: {found}", hint=_HINT
        )
    folder_name, _, folder_version = folders[0].removesuffix(".dist-info").partition("-")
    if canonicalize_name(folder_name) != name or Version(folder_version) != version:
        raise IntegrityError(f"{filename} holds the metadata of another: {folders[0]}", hint=_HINT)
    wanted = f"{folders[0]}/METADATA"
    members = [member for member in archive.infolist() if member.filename == wanted]
    if len(members) != 1 or members[0].file_size > _LARGEST_METADATA:
        raise IntegrityError(f"{filename} must hold one {wanted} of sensible size", hint=_HINT)
    return members[0]
