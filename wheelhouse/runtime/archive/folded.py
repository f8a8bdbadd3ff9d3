"""The compressed head of a difference."""

import re
import sys

from ..errors import BundleError, IntegrityError
from ..names import COPY_AGAIN_HINT, LARGEST_LISTS, LISTS, REPORT, SBOM
from .multipart import MultipartReader
from .tar import BLOCK, END, Entry, header_digest, render_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn, Optional


class CompressedHead:
    """What the first member of a difference holds, unfolded."""

    def __init__(self, content: bytes, end: int, time: int) -> None:
        self.content = content
        """A tar, without the zeros at its end."""
        self.end = end
        """Where that member ends in the archive."""
        self.time = time
        """What its header says, in seconds since 1970."""


def goes_in_head(path: str) -> bool:
    """Whether the file at *path* changes with every package, however few of them change."""
    return path in (REPORT, SBOM) or path.startswith("locks/")


def read_compressed_head(volume: "MultipartReader") -> "Optional[CompressedHead]":
    """Unfold the first member of a difference; None where another one stands. Raises Refusal for a damaged one."""
    start = 3 * BLOCK
    blocks = volume.read(0, start)
    if blocks[:100] != render_header(LISTS, 0, 0, comment="")[:100]:
        return None
    fields = re.fullmatch(rb"([0-7]{11})\0([0-7]{11})\0", blocks[2 * BLOCK + 124 : 2 * BLOCK + 148])
    if not fields:
        damaged_head(volume.name, "its header is not what `pack` writes")
    size, time = int(fields[1], 8), int(fields[2], 8)
    content = volume.read(start, min(size, 2 * LARGEST_LISTS))
    entry = Entry(LISTS, "", size, comment=header_digest(content))
    if len(content) != size or blocks != entry.header(time):
        damaged_head(volume.name, "it is cut off, or its sha256 is not what its header says")
    if volume.read(start + size, entry.end - start - size).strip(b"\0"):
        damaged_head(volume.name, "the padding after it is not zero")
    return CompressedHead(_unfold(volume.name, content), entry.end, time)


def _unfold(name: str, content: bytes) -> bytes:
    """Inflate a tar that is one gzip stream and nothing more, up to its end."""
    try:
        import zlib
    except ImportError:
        raise BundleError(
            f"{sys.executable} has no zlib, which a difference needs", hint="use another Python"
        ) from None
    inflater = zlib.decompressobj(wbits=31)
    try:
        tar = inflater.decompress(content, LARGEST_LISTS + END + 1)
    except zlib.error as error:
        damaged_head(name, str(error))
    if not inflater.eof or inflater.unused_data or tar[-END:] != bytes(END):
        damaged_head(name, f"it is not one tar of at most {LARGEST_LISTS} bytes")
    return tar[:-END]


def damaged_head(name: str, what: str) -> "NoReturn":
    """Raise for a difference that does not begin as it should."""
    raise IntegrityError(f"{name}: {LISTS} is damaged: {what}", hint=COPY_AGAIN_HINT)


class ExpandedReader(MultipartReader):
    """A difference as it would be without its first member, but with the members that this holds in its place."""

    def __init__(self, volume: MultipartReader, lists: CompressedHead) -> None:
        super().__init__(volume.name, volume.parts, volume.index)
        self._volume = volume
        self._lists = lists
        self._shift = len(lists.content) - lists.end
        self.size += self._shift

    def stored(self, offset: int) -> int:
        """Tell where it lies in the parts: that is not known of what is folded."""
        return max(self._lists.end, offset - self._shift)

    def parts_at(self, offset: int, count: int) -> "set[str]":
        """Name the parts of the first member for what is folded."""
        folded = (
            self._volume.parts_at(0, self._lists.end)
            if offset < len(self._lists.content)
            else set()
        )
        start = self.stored(offset)
        return folded | self._volume.parts_at(start, self.stored(offset + count) - start)

    def chunks(self, offset: int, count: int) -> "Iterator[memoryview]":
        """Read what is folded from memory, and the rest from the parts."""
        folded = memoryview(self._lists.content)[offset : offset + count]
        if folded:
            yield folded
        yield from self._volume.chunks(self.stored(offset + len(folded)), count - len(folded))

    def missing_after(self, size: int) -> "list[str]":
        """Name the parts that are missing at the end, or too long."""
        return self._volume.missing_after(self.stored(size))
