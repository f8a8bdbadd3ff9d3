"""Read the head of an archive, and derive every byte that is not content from its manifest."""

import re

from ..bundle.manifest import Manifest, render_checksums
from ..disk.files import is_digest, sha256_of
from ..errors import IntegrityError
from ..names import (
    CHECKSUMS,
    COPY_AGAIN_HINT,
    DELTA,
    FORMAT,
    LARGEST_HEADER_FILE,
    MANIFEST,
    SIGNATURE,
    WRITER,
)
from ..strict_json import parse_object
from .tar import BLOCK, END, Entry, header_digest, lay_out, render_header, tar_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn, Optional

    from ..bundle.manifest import BundledFile
    from .multipart import MultipartReader

_LARGEST_MANIFEST = 256 * 1024 * 1024
_OTHER_FORMATS = {
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zXZ\0": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"PK\x03\x04": "a ZIP file",
    b"7z\xbc\xaf": "a 7-Zip file",
}
_COMPRESSED_HEAD = f"PaxHeaders/{WRITER}/lists.tar.gz".encode()
_OCTAL_SIZE = re.compile(rb"[0-7]{11}\0")
_SIZE_FIELD = slice(124, 136)


class ArchiveHead:
    """The members before the files."""

    def __init__(
        self, document: bytes, manifest: Manifest, signature: "Optional[bytes]" = None
    ) -> None:
        self.document = document
        self.manifest = manifest
        self.digest = sha256_of(document)
        self.checksums = render_checksums(manifest, document)
        self.time = tar_time(manifest.timestamp)
        """Of every member, in seconds since 1970."""
        self.signature = signature
        self.delta: Optional[bytes] = None

    def contents(self) -> "dict[str, bytes]":
        """Return the content of each member, in the order of the archive."""
        optional = {SIGNATURE: self.signature, DELTA: self.delta}
        return {
            MANIFEST: self.document,
            CHECKSUMS: self.checksums,
            **{path: content for path, content in optional.items() if content is not None},
        }

    def entries(self) -> "list[Entry]":
        """Return their entries, laid out."""
        return lay_out([_head_entry(path, content) for path, content in self.contents().items()])


class ArchiveLayout:
    """The position of every member, derived from the head alone. Raises IntegrityError.

    Members, in this order: bundle.json, SHA256SUMS, bundle.json.sig and .writer/delta.json where
    they exist, then the files by path.
    """

    def __init__(self, head: ArchiveHead) -> None:
        files = head.manifest.files
        names = sorted(files.keys() - {CHECKSUMS})
        self.base: Optional[tuple[str, int]] = None
        """Digest and generation of the base's manifest in a difference; None for a whole bundle."""
        if head.delta is not None:
            base, generation, names = parse_delta(head.delta, names)
            self.base = (base, generation)
        self.included = frozenset(names)
        """Paths of the bundle's files in it, without SHA256SUMS."""
        self.entries = lay_out(
            [*head.entries(), *(_file_entry(name, files[name]) for name in names)]
        )
        self.size = self.entries[-1].end + END
        """Bytes from the first header to the end of the last part."""


class Archive(ArchiveLayout):
    """An archive that is open for reading."""

    def __init__(self, source: "MultipartReader", head: ArchiveHead) -> None:
        super().__init__(head)
        self.name = source.name
        self.source = source
        self.document = head.document
        """bundle.json, byte for byte."""
        self.signature = head.signature
        self.manifest = head.manifest
        self.digest = head.digest
        """Of bundle.json."""
        self.time = head.time

    def parts_with(self, entries: "Iterable[Entry]") -> "list[str]":
        """Return the names of the parts that contain any of *entries*."""
        spans = [self.source.spans(entry.start, entry.end - entry.start) for entry in entries]
        return sorted({part.name for pieces in spans for part, _, _ in pieces})


def read_archive_head(source: "MultipartReader") -> Archive:
    """Read and check the beginning of an archive. Raises IntegrityError if it is damaged."""
    document = _read_document(source)
    head = ArchiveHead(document, _parse_manifest(source, document))
    _check_leading(source, head)
    head.signature = _read_optional(source, SIGNATURE, head)
    head.delta = _read_optional(source, DELTA, head)
    return Archive(source, head)


def _read_document(source: "MultipartReader") -> bytes:
    header = source.read(0, 3 * BLOCK)
    if header[: len(_COMPRESSED_HEAD)] == _COMPRESSED_HEAD:
        raise IntegrityError(
            f"{source.name} is a difference with a compressed head, as offline-bundle 0.1.0 wrote "
            "them before its first release; this version does not read it",
            hint="unpack it with the .unpack.py beside it, or pack it again with this version",
        )
    size = _declared_size(header)
    if header[:12] != b"bundle.json\0" or size is None:
        _raise_other_format(source, header)
        _raise_start(source, "it is not an archive of a bundle, or its beginning is damaged")
    if size > _LARGEST_MANIFEST:
        _raise_start(source, f"{MANIFEST} has {size} bytes there, more than {_LARGEST_MANIFEST}")
    document = source.read(BLOCK, size)
    if len(document) != size:
        _raise_start(source, f"it is cut off in {MANIFEST}")
    return document


def _parse_manifest(source: "MultipartReader", document: bytes) -> Manifest:
    try:
        manifest = Manifest.from_json(document)
    except IntegrityError as error:
        error.add_subject(source.name)
        raise
    if CHECKSUMS not in manifest.files:
        message = f"{source.name}: {MANIFEST} does not list {CHECKSUMS}"
        raise IntegrityError(message, hint=COPY_AGAIN_HINT)
    return manifest


def _check_leading(source: "MultipartReader", head: ArchiveHead) -> None:
    """Check the header of bundle.json, and the content of SHA256SUMS."""
    first, second = head.entries()
    if source.read(first.start, first.header_size) != first.header(head.time):
        _raise_start(source, f"the header of {MANIFEST} is not what `pack` writes")
    if source.read(second.offset, second.size) != head.checksums:
        raise IntegrityError(
            f"{source.name}: {MANIFEST} and {CHECKSUMS} do not match, or one of them is cut off",
            hint=COPY_AGAIN_HINT,
        )


def _read_optional(source: "MultipartReader", path: str, head: ArchiveHead) -> "Optional[bytes]":
    """Read the member *path* if it is next. Its digest is in its header, not in SHA256SUMS."""
    start = head.entries()[-1].end
    blocks = source.read(start, 3 * BLOCK)
    size = _declared_size(blocks[2 * BLOCK :])
    if blocks[:100] != render_header(path, 0, 0, comment="")[:100] or size is None:
        return None
    content = source.read(start + 3 * BLOCK, min(size, LARGEST_HEADER_FILE))
    if len(content) != size or blocks != _head_entry(path, content).header(head.time):
        raise IntegrityError(f"{source.name}: {path} is damaged", hint=COPY_AGAIN_HINT)
    return content


def _head_entry(path: str, content: bytes) -> Entry:
    comment = header_digest(content) if path in {SIGNATURE, DELTA} else None
    return Entry(path, sha256_of(content), len(content), comment=comment)


def _file_entry(path: str, file: "BundledFile") -> Entry:
    is_executable = path.startswith("uv/") or file.executable
    return Entry(path, file.sha256 or "", file.size or 0, is_executable=is_executable)


def _declared_size(header: bytes) -> "Optional[int]":
    field = header[_SIZE_FIELD]
    return int(field[:-1], 8) if _OCTAL_SIZE.fullmatch(field) else None


def _raise_start(source: "MultipartReader", problem: str) -> "NoReturn":
    raise IntegrityError(
        f"{source.name} does not begin with {MANIFEST}: {problem}", hint=COPY_AGAIN_HINT
    )


def _raise_other_format(source: "MultipartReader", header: bytes) -> None:
    """Raise IntegrityError for a file that another program compressed or packed."""
    for magic, name in _OTHER_FORMATS.items():
        if header.startswith(magic):
            raise IntegrityError(
                f"{source.name} is {name}, not an archive as `pack` writes it",
                hint="extract the archive from it first",
            )


def render_delta(base: str, generation: int, paths: "Iterable[str]") -> bytes:
    """Render the member that makes an archive a difference from the manifest with digest *base*."""
    import json

    document = {
        "format": FORMAT,
        "base": base,
        "base-generation": generation,
        "files": sorted(paths),
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")


def parse_delta(content: bytes, names: "Iterable[str]") -> "tuple[str, int, list[str]]":
    """Return digest and generation of the base, and the paths in the archive, all of *names*."""
    document = parse_object(content, DELTA)
    base, generation, files = (document.get(key) for key in ("base", "base-generation", "files"))
    paths = set(names)
    if (
        not (isinstance(base, str) and is_digest(base))
        or not (type(generation) is int and generation > 0)
        or not (
            isinstance(files, list)
            and all(isinstance(path, str) and path in paths for path in files)
        )
        or content != render_delta(base, generation, set(files))
    ):
        raise IntegrityError(f"{DELTA} does not describe a difference", hint=COPY_AGAIN_HINT)
    return base, generation, files
