"""Open an archive and check its head."""

import re

from ..errors import IntegrityError
from ..files import is_digest, sha256_of
from ..names import (
    CHECKSUMS,
    COPY_AGAIN_HINT,
    DELTA,
    FORMAT,
    LARGEST_HEADER_FILE,
    MANIFEST,
    SIGNATURE,
)
from ..strict_json import parse_object
from .file_table import read_table
from .folded import ExpandedReader, damaged_head, goes_in_head, read_compressed_head
from .tar import BLOCK, END, Entry, header_digest, lay_out, render_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn, Optional

    from .file_table import Table
    from .multipart import MultipartReader


_LARGEST_MANIFEST = 256 * 1024 * 1024


class Archive:
    """An archive, open for reading: what it must be to the byte, from its manifest.

    Its members, in this order: bundle.json, SHA256SUMS, then bundle.json.sig and .writer/delta.json where there are
    any, then the files by path. In a difference the first ones, inventories and locks are folded into one, and read
    as if they were not. Raises Refusal where the beginning is not that.
    """

    def __init__(self, volume: "MultipartReader") -> None:
        self.name = volume.name
        lists = read_compressed_head(volume)
        self.volume = ExpandedReader(volume, lists) if lists else volume
        self.document = self._read_document()
        """bundle.json, as it stands there."""
        self.table = read_table(self.document)
        self.digest = self.table.digest
        first = Entry(MANIFEST, self.digest, len(self.document))
        sums = self.table.checksums
        second = Entry(CHECKSUMS, sha256_of(sums), len(sums))
        self.entries = lay_out([first, second])
        if self._read_header(first) != first.header(self.table.time):
            self._refuse_start(f"the header of {MANIFEST} is not what `pack` writes")
        if lists and lists.time != self.table.time:
            damaged_head(self.name, "the time in its header is not the bundle's")
        if self.volume.read(second.offset, second.size) != sums:
            raise IntegrityError(
                f"{self.name}: {MANIFEST} and {CHECKSUMS} do not match, or one of them is cut off",
                hint=COPY_AGAIN_HINT,
            )
        self.signature = self._read_mark(SIGNATURE)
        delta = self._read_mark(DELTA)
        names = sorted(self.table.files.keys() - {CHECKSUMS})
        self.base: "Optional[tuple[str, int]]" = None
        """Digest and generation of the manifest that a difference is from; None for a whole bundle."""
        if delta is not None:
            base, generation, names = read_delta(delta, self.table)
            self.base = (base, generation)
        self.brought = frozenset(names)
        """Paths of the bundle's files that it holds, SHA256SUMS apart."""
        leading = len(self.entries)
        listed = [path for path in names if lists and goes_in_head(path)]
        names = [*listed, *(path for path in names if not (lists and goes_in_head(path)))]
        self.entries = lay_out([*self.entries, *map(self.table.entry, names)])
        if lists and (
            delta is None or self.entries[leading + len(listed) - 1].end != len(lists.content)
        ):
            damaged_head(self.name, "it does not hold what it should")
        self.size = self.entries[-1].end + END
        """What it must have, in bytes, to the end of the last part."""

    def parts_with(self, entries: "Iterable[Entry]") -> "list[str]":
        """Name the parts in which any of *entries* lie."""
        return sorted(
            {
                name
                for each in entries
                for name in self.volume.parts_at(each.start, each.end - each.start)
            }
        )

    def _read_document(self) -> bytes:
        header = self.volume.read(0, BLOCK)
        if header[:12] != b"bundle.json\0" or not re.fullmatch(rb"[0-7]{11}\0", header[124:136]):
            self._refuse_start("it is no archive of a bundle, or its beginning is damaged")
        size = int(header[124:135], 8)
        if size > _LARGEST_MANIFEST:
            self._refuse_start(f"{MANIFEST} has {size} bytes there, more than {_LARGEST_MANIFEST}")
        document = self.volume.read(BLOCK, size)
        if len(document) != size:
            self._refuse_start(f"it is cut off in {MANIFEST}")
        return document

    def _refuse_start(self, what: str) -> "NoReturn":
        raise IntegrityError(
            f"{self.name} does not begin with {MANIFEST}: {what}", hint=COPY_AGAIN_HINT
        )

    def _read_header(self, entry: Entry) -> bytes:
        return self.volume.read(entry.start, entry.header_size)

    def _read_mark(self, path: str) -> "Optional[bytes]":
        """Read the member *path* if it comes next: SHA256SUMS does not list it, so its header has its digest."""
        start = self.entries[-1].end
        blocks = self.volume.read(start, 3 * BLOCK)
        name = render_header(path, 0, 0, comment="")[:100]
        if blocks[:100] != name or not re.fullmatch(
            rb"[0-7]{11}\0", blocks[2 * BLOCK + 124 : 2 * BLOCK + 136]
        ):
            return None
        size = int(blocks[2 * BLOCK + 124 : 2 * BLOCK + 135], 8)
        content = self.volume.read(start + 3 * BLOCK, min(size, LARGEST_HEADER_FILE))
        entry = Entry(path, sha256_of(content), len(content), comment=header_digest(content))
        if entry.size != size or blocks != entry.header(self.table.time):
            raise IntegrityError(f"{self.name}: {path} is damaged", hint=COPY_AGAIN_HINT)
        self.entries = lay_out([*self.entries, entry])
        return content


def render_delta(base: str, generation: int, paths: "Iterable[str]") -> bytes:
    """Render the member that makes an archive a difference from the manifest with the digest *base*."""
    import json

    document = {
        "format": FORMAT,
        "base": base,
        "base-generation": generation,
        "files": sorted(paths),
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")


def read_delta(content: bytes, table: "Table") -> "tuple[str, int, list[str]]":
    """Return digest and generation of the base, and the paths the archive brings; raises Refusal."""
    document = parse_object(content, DELTA)
    base, generation, files = (document.get(key) for key in ("base", "base-generation", "files"))
    known = table.files.keys() - {CHECKSUMS}
    if (
        not (isinstance(base, str) and is_digest(base))
        or not (type(generation) is int and generation > 0)
        or not (
            isinstance(files, list)
            and all(isinstance(path, str) and path in known for path in files)
        )
        or content != render_delta(base, generation, set(files))
    ):
        raise IntegrityError(f"{DELTA} does not describe a difference", hint=COPY_AGAIN_HINT)
    return base, generation, files
