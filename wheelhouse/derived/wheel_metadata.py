"""The METADATA of wheels: extracted from the file, and parsed. The only reader.

    content = metadata_of_wheel(Path("numpy-2.0-....whl"))
    parse_metadata(content).requires_dist
    read_metadata(content).licence                          # "BSD-3-Clause"

METADATA is untrusted: it may be malformed, long or false. Texts for display are cut and printable.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import getaddresses
from functools import lru_cache
from pathlib import Path

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest, Source
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.text import one_line

_LARGEST_METADATA = 32 * 1024 * 1024
_LONGEST_LICENCE_NAME = 64
_LICENCE_CLASSIFIER = "License :: "
_EXPRESSION = re.compile(r"[A-Za-z0-9.+() :-]+")
_URL = re.compile(r"https?://[!#-;=?-Z_a-z~]{1,500}")
_URL_LABELS = ("homepage", "source", "repository", "source code", "documentation")
_HINT = "fetch the wheel again; if its index serves this file, report it to the project"
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
"""What zipfile raises for damage; RuntimeError for encrypted members and unknown compression."""


@dataclass(frozen=True)
class WheelMetadata:
    """The fields of one METADATA that are used here."""

    name: str
    version: str
    requires_python: str | None = None
    requires_dist: tuple[str, ...] = ()
    summary: str = ""
    licence: str = ""
    """An SPDX expression if the package has one, else another licence text, else empty."""
    is_expression: bool = False
    """True if `licence` comes from `License-Expression` (PEP 639)."""
    authors: tuple[tuple[str, str], ...] = ()
    """Name and address of each author, else of each maintainer; either may be empty."""
    homepage: str = ""
    """An http(s) URL, or empty."""


def metadata_of_wheel(path: Path, filename: str | None = None) -> bytes:
    """Return the METADATA of a wheel, byte for byte; *filename* is its name if *path* has another.

    Verbatim, because pip refuses a PEP 658 sibling that differs from the wheel's own. Raises
    IntegrityError for an unreadable wheel, or if its only `.dist-info` folder has another name.
    """
    filename = filename or path.name
    try:
        with zipfile.ZipFile(path) as archive:
            member = _metadata_member(filename, archive)
            return archive.read(member)
    except _BROKEN_ZIP as error:
        raise IntegrityError(f"{filename}: not a readable wheel: {error}", hint=_HINT) from error


def parse_metadata(content: bytes, *, where: str = "METADATA") -> WheelMetadata:
    """Parse METADATA; raises IntegrityError, naming *where*, if name or version is missing."""
    metadata = read_metadata(content)
    if not metadata.name or not metadata.version:
        field = "version" if metadata.name else "name"
        raise IntegrityError(f"{where}: its metadata has no {field}", hint=_HINT)
    return metadata


def read_metadata(content: bytes) -> WheelMetadata:
    """Parse METADATA of any quality: fields that are missing or unreadable stay empty."""
    # After the headers comes the description: long, and not used.
    return _read_headers(content.replace(b"\r\n", b"\n").partition(b"\n\n")[0])


def read_all_metadata(
    manifest: Manifest, contents: Mapping[str, bytes]
) -> dict[str, WheelMetadata]:
    """Parse the METADATA of all wheels of a bundle; *contents* has it by the wheel's path."""
    return {path: read_metadata(contents.get(path, b"")) for path in wheel_paths(manifest)}


def wheel_name(path: str, file: BundledFile) -> str:
    """Return the normalized name of a wheel: from the manifest, else from its file name."""
    return str(canonicalize_name(file.name or path.rpartition("/")[2].partition("-")[0]))


def describe_source(source: Source | None) -> str:
    """Return where a wheel came from: an index, a repository, a folder or an address."""
    if source is None:
        return "unknown"
    if source.git:
        return f"git {source.git} at {(source.commit or 'an unknown commit')[:12]}"
    if source.path:
        return f"local {source.path}"
    return source.index or source.url or "unknown"


def is_wheel(path: str) -> bool:
    """Return whether *path* is that of a wheel in a bundle."""
    return path.startswith("wheels/") and path.endswith(".whl")


def wheel_paths(manifest: Manifest) -> list[str]:
    """Return the paths of all wheels in the bundle, sorted."""
    return sorted(filter(is_wheel, manifest.files))


@lru_cache(maxsize=4096)
def _read_headers(headers: bytes) -> WheelMetadata:
    # Cached: a build parses the metadata of the present bundle while the resolver runs, then again.
    raw, _ = parse_email(headers + b"\n")
    licence, is_expression = _licence(
        raw.get("license_expression") or "", raw.get("license") or "", raw.get("classifiers") or []
    )
    contacts = [raw.get("author") or "", raw.get("author_email") or ""]
    if not any(contacts):
        contacts = [raw.get("maintainer") or "", raw.get("maintainer_email") or ""]
    return WheelMetadata(
        name=raw.get("name") or "",
        version=raw.get("version") or "",
        requires_python=raw.get("requires_python"),
        requires_dist=tuple(raw.get("requires_dist") or ()),
        summary=one_line(raw.get("summary") or ""),
        licence=licence,
        is_expression=is_expression,
        authors=_authors(*contacts),
        homepage=_homepage(raw.get("home_page") or "", raw.get("project_urls") or {}),
    )


def _metadata_member(filename: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    name, version, _, _ = parse_wheel_filename(filename)
    tops = {
        member.filename.split("/", 1)[0] for member in archive.infolist() if "/" in member.filename
    }
    folders = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(folders) != 1:
        names = ", ".join(folders) or "none"
        raise IntegrityError(f"{filename}: expected one .dist-info folder, got {names}", hint=_HINT)
    folder_name, _, folder_version = folders[0].removesuffix(".dist-info").partition("-")
    if canonicalize_name(folder_name) != name or Version(folder_version) != version:
        raise IntegrityError(f"{filename}: has metadata of another wheel: {folders[0]}", hint=_HINT)
    path = f"{folders[0]}/METADATA"
    members = [member for member in archive.infolist() if member.filename == path]
    if len(members) != 1:
        raise IntegrityError(f"{filename}: expected one {path}, got {len(members)}", hint=_HINT)
    if members[0].file_size > _LARGEST_METADATA:
        raise IntegrityError(f"{filename}: {path} is larger than 32 MiB", hint=_HINT)
    return members[0]


def _licence(expression: str, text: str, classifiers: Iterable[str]) -> tuple[str, bool]:
    """Return the expression, else a short text, the classifiers, or a long text's first line."""
    if expression and _EXPRESSION.fullmatch(expression):
        return expression, True
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines and lines[0].upper() != "UNKNOWN" else ""
    if first and len(lines) == 1 and len(first) <= _LONGEST_LICENCE_NAME:
        return one_line(first), False
    names = [
        item.rpartition(" :: ")[2] for item in classifiers if item.startswith(_LICENCE_CLASSIFIER)
    ]
    names = [name for name in names if name != "OSI Approved"]
    return one_line(" or ".join(names) or first), False


def _authors(names: str, addresses: str) -> tuple[tuple[str, str], ...]:
    pairs = [(one_line(name), one_line(address)) for name, address in getaddresses([addresses])]
    pairs = [
        (name, address if "@" in address else "") for name, address in pairs if name or address
    ]
    if names and not any(name for name, _ in pairs):
        address = pairs[0][1] if len(pairs) == 1 else ""
        return ((one_line(names), address),)
    return tuple(pairs)


def _homepage(homepage: str, urls: Mapping[str, str]) -> str:
    by_label = {label.casefold(): url for label, url in urls.items()}
    candidates = [homepage, *(by_label[label] for label in _URL_LABELS if label in by_label)]
    return next((url for url in candidates if _URL.fullmatch(url)), "")
