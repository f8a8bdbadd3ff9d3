"""The parts of an archive as one range of bytes."""

import os
import re

from ..disk.files import CHUNK_SIZE, digest_of, open_named, read_at
from ..parallel import parallel_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Optional

PART_NAME = re.compile(r"(?P<archive>.+\.tar)\.(?P<number>[0-9]{3,6})", re.DOTALL)


class Part:
    """One open file of an archive: the whole of it, or a part."""

    def __init__(
        self, descriptor: int, path: str, size: int, *, sha256: "Optional[str]" = None
    ) -> None:
        self.descriptor = descriptor
        self.path = path
        self.size = size
        self.name = os.path.basename(path)
        self.sha256 = sha256
        """As the list of parts has it; None without a list."""

    @classmethod
    def open(cls, path: str, sha256: "Optional[str]" = None) -> "Part":
        """Open a file that the user names."""
        descriptor = open_named(path)
        return cls(descriptor, path, os.fstat(descriptor).st_size, sha256=sha256)

    def digest(self) -> str:
        """Return the sha256 of its content."""
        return digest_of(MultipartReader(self.name, [self]).chunks(0, self.size))


class MultipartReader:
    """The bytes of one archive, in one part or several. Several threads may read."""

    def __init__(self, name: str, parts: "Sequence[Part]") -> None:
        self.name = name
        self.parts = list(parts)
        self.size = sum(part.size for part in self.parts)

    def close(self) -> None:
        """Close all parts."""
        for part in self.parts:
            os.close(part.descriptor)

    def spans(self, offset: int, count: int) -> "Iterator[tuple[Part, int, int]]":
        """Yield part, offset and length for each piece of *count* bytes at *offset*."""
        for part in self.parts:
            if offset >= part.size:
                offset -= part.size
                continue
            length = min(count, part.size - offset)
            if length <= 0:
                return
            yield part, offset, length
            offset, count = 0, count - length

    def read(self, offset: int, count: int) -> bytes:
        """Read *count* bytes at *offset*, fewer at the end."""
        return b"".join(bytes(chunk) for chunk in self.chunks(offset, count))

    def chunks(self, offset: int, count: int) -> "Iterator[memoryview]":
        """Read *count* bytes at *offset* in chunks. A chunk is valid until the next one."""
        buffer = memoryview(bytearray(max(1, min(CHUNK_SIZE, count))))
        for part, start, length in self.spans(offset, count):
            position, end = start, start + length
            while position < end:
                wanted = buffer[: min(end - position, len(buffer))]
                read = read_at(part.descriptor, wanted, position)
                if not read:
                    return
                yield buffer[:read]
                position += read

    def damaged_parts(self) -> "set[str]":
        """Return the names of the parts that do not match the list of parts."""
        listed = [part for part in self.parts if part.sha256]
        digests = parallel_map(Part.digest, listed)
        return {part.name for part, digest in digests if digest != part.sha256}

    def missing_after(self, size: int) -> "list[str]":
        """Return the parts that are short, or else those missing at the end for *size* bytes."""
        match = PART_NAME.fullmatch(self.parts[-1].name)
        if not match or self.size > size:
            return []
        whole, width = self.parts[0].size, len(match["number"])
        short = [part.name for part in self.parts if part.size < whole]
        return short or [
            f"{match['archive']}.{number:0{width}}"
            for number in range(len(self.parts) + 1, -(-size // whole) + 1)
        ]
