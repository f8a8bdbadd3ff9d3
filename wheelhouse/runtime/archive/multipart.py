"""The parts of an archive as one range of bytes."""

import os
import re

from ..files import CHUNK_SIZE, digest_of, open_given, read_at
from ..parallel import parallel_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Optional


PART_NAME = re.compile(r"(?P<archive>.+\.tar)\.(?P<number>[0-9]{3,6})", re.DOTALL)


class Part:
    """One file of an archive, open: the whole of it, or a part."""

    def __init__(self, descriptor: int, path: str, size: int) -> None:
        self.descriptor = descriptor
        self.path = path
        self.size = size
        self.name = os.path.basename(path)
        self.number = 0
        """From 1; 0 for a whole archive."""
        self.sha256: "Optional[str]" = None
        """What the list of parts says, where there is one."""
        self.target = -1
        """Another descriptor, to append to it while it is being written."""

    @classmethod
    def open(cls, path: str) -> "Part":
        """Open a file that the user names."""
        descriptor = open_given(path)
        return cls(descriptor, path, os.fstat(descriptor).st_size)

    def digest(self) -> str:
        """Return its sha256, in hex."""
        return digest_of(MultipartReader(self.name, [self]).chunks(0, self.size))


class MultipartReader:
    """The bytes of one archive, in one part or several; may be read by several threads."""

    def __init__(self, name: str, parts: "Sequence[Part]", index: "Optional[str]" = None) -> None:
        self.name = name
        self.index = index
        """Path of the list of parts."""
        self.store: "Optional[str]" = None
        """Where its good parts are kept when others must come again; None for nowhere."""
        self.parts = list(parts)
        self.size = sum(part.size for part in self.parts)

    def close(self) -> None:
        """Close all parts."""
        for part in self.parts:
            os.close(part.descriptor)

    def spans(self, offset: int, count: int) -> "Iterator[tuple[Part, int, int]]":
        """Find the parts, and the offsets and lengths in them, where *count* bytes at *offset* lie."""
        for part in self.parts:
            if offset >= part.size:
                offset -= part.size
                continue
            length = min(count, part.size - offset)
            if length <= 0:
                return
            yield part, offset, length
            offset, count = 0, count - length

    def stored(self, offset: int) -> int:
        """Tell where in the parts, one after the other, *offset* lies."""
        return offset

    def parts_at(self, offset: int, count: int) -> "set[str]":
        """Name the parts in which *count* bytes at *offset* lie."""
        return {part.name for part, _, _ in self.spans(offset, count)}

    def read(self, offset: int, count: int) -> bytes:
        """Read *count* bytes at *offset*: fewer at the end."""
        return b"".join(bytes(chunk) for chunk in self.chunks(offset, count))

    def chunks(self, offset: int, count: int) -> "Iterator[memoryview]":
        """Read *count* bytes at *offset* piece by piece; each piece is good until the next."""
        buffer = memoryview(bytearray(max(1, min(CHUNK_SIZE, count))))
        for part, start, length in self.spans(offset, count):
            place, end = start, start + length
            while place < end:
                read = read_at(part.descriptor, buffer[: min(end - place, len(buffer))], place)
                if not read:
                    return
                yield buffer[:read]
                place += read

    def bad_parts(self) -> "set[str]":
        """Name the parts that are not what the list of parts says."""
        listed = [part for part in self.parts if part.sha256]
        return {
            part.name for part, digest in parallel_map(Part.digest, listed) if digest != part.sha256
        }

    def missing_after(self, size: int) -> "list[str]":
        """Name the parts that are missing at the end, or too long, for all to have *size* bytes together."""
        match = PART_NAME.fullmatch(self.parts[-1].name)
        if not match or self.size > size:
            return []
        whole, width = self.parts[0].size, len(match["number"])
        short = [part.name for part in self.parts if part.size < whole]
        return short or [
            f"{match['archive']}.{n:0{width}}"
            for n in range(len(self.parts) + 1, -(-size // whole) + 1)
        ]
