"""Read a SquashFS 4.0 image with zlib-compressed blocks, without any program or kernel module.

    unpack("image.squashfs", "folder")

The image is untrusted: every offset, size and count is checked before use, and names cannot leave
the folder. Only folders and regular files are accepted, as `build --format image` makes them.
Format: https://dr-emann.github.io/squashfs/squashfs.html
"""

import io
import os
import struct
import threading
import zlib

from .disk.files import CHUNK_SIZE, check_space, create_file, open_regular, read_at
from .errors import IntegrityError
from .parallel import parallel_map
from .text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn, TypeVar

    _Value = TypeVar("_Value")

LARGEST_CONTENT = 256 * 1024**3
"""Bytes that an image may unpack to."""
_MAGIC = 0x73717368
_ZLIB = 1
_METADATA_SIZE = 8192
_SMALLEST_BLOCK, _LARGEST_BLOCK = 4096, 1024 * 1024
_MOST_ENTRIES = 10_000_000
_MOST_FOLDERS_DEEP = 100
_NO_FRAGMENT = 0xFFFFFFFF
_STORED_METADATA, _STORED_DATA = 1 << 15, 1 << 24
_FOLDER, _FILE, _LONG_FOLDER, _LONG_FILE = 1, 2, 8, 9
_KEPT_BLOCKS = 64
_SUPERBLOCK = struct.Struct("<5I6H8Q")


class _Folder:
    """An inode of a folder: where its entries are."""

    def __init__(self, block: int, offset: int, size: int) -> None:
        self.block = block
        self.offset = offset
        self.size = size


class _File:
    """An inode of a file: where its data is."""

    def __init__(self, start: int, size: int, fragment: int, offset: int) -> None:
        self.start = start
        self.size = size
        self.fragment = fragment
        self.offset = offset
        self.is_executable = False
        self.blocks: tuple[int, ...] = ()


def unpack(path: str, folder: str, largest: int = LARGEST_CONTENT) -> None:
    """Unpack the image at *path* into *folder*, which must not exist yet.

    Raises IntegrityError for anything but a well-formed image of at most *largest* bytes, and
    OSError, such as for a full disk. What was written by then is left.
    """
    with open_regular(path) as file:
        try:
            _Unpacking(_Image(file.fileno()), largest).unpack(folder)
        except (struct.error, zlib.error) as error:
            _refuse(f"it is corrupt: {error}")


def _refuse(reason: str) -> "NoReturn":
    message = f"not an image that can be read: {reason}"
    raise IntegrityError(message, hint="copy the bundle again, or build it again")


class _Unpacking:
    """One call of `unpack`: what was written so far counts against the limits."""

    def __init__(self, image: "_Image", largest: int) -> None:
        self._image = image
        self._largest = largest
        self._size = 0
        self._entries = 0
        self._seen: set[int] = set()

    def unpack(self, folder: str) -> None:
        """Write everything; large files in other threads, because zlib releases the GIL."""
        parallel_map(self._write, self._files(folder), lambda item: item[0].size)

    def _files(self, folder: str) -> "Iterator[tuple[_File, str]]":
        """Make the folders; yield each file and where to write it."""
        root = self._image.inode(self._image.root)
        if not isinstance(root, _Folder):
            _refuse("its root is not a folder")
        waiting = [(root, folder, 0)]
        while waiting:
            inode, path, depth = waiting.pop()
            if depth > _MOST_FOLDERS_DEEP:
                _refuse(f"more than {_MOST_FOLDERS_DEEP} folders are in one another")
            os.mkdir(path)
            for name, reference in self._image.entries(inode):
                inner, target = self._count(reference), os.path.join(path, name)
                if isinstance(inner, _Folder):
                    waiting.append((inner, target, depth + 1))
                else:
                    self._size += inner.size
                    if self._size > self._largest:
                        _refuse(f"it unpacks to more than {self._largest} bytes")
                    yield inner, target

    def _count(self, reference: int) -> "_Folder | _File":
        """Return the inode of an entry."""
        self._entries += 1
        if self._entries > _MOST_ENTRIES:
            _refuse(f"it has more than {_MOST_ENTRIES} entries")
        inode = self._image.inode(reference)
        if isinstance(inode, _Folder):
            if reference in self._seen:
                _refuse("a folder is in two places")
            self._seen.add(reference)
        return inode

    def _write(self, item: "tuple[_File, str]") -> None:
        inode, path = item
        if inode.size > self._image.block_size:
            check_space(os.path.dirname(path), inode.size)
        file = create_file(path, is_executable=inode.is_executable)
        with io.BufferedWriter(file, max(1, min(inode.size, CHUNK_SIZE))) as stream:
            stream.writelines(self._image.content(inode))


class _Image:
    """The structures of an open image."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._length = os.fstat(descriptor).st_size
        header = _SUPERBLOCK.unpack(self._read(0, _SUPERBLOCK.size))
        magic, _, _, self.block_size, self._fragment_count, compression, log = header[:7]
        major, minor, self.root, self._length_used = header[9:13]
        self._inodes, self._folders, self._fragments = header[15:18]
        if magic != _MAGIC or (major, minor) != (4, 0):
            _refuse("it is not SquashFS 4.0")
        if compression != _ZLIB:
            _refuse("its compression is not gzip")
        is_valid = _SMALLEST_BLOCK <= self.block_size <= _LARGEST_BLOCK
        if not is_valid or self.block_size != 1 << log:
            _refuse(f"its block size is {self.block_size}")
        if self._length_used > self._length:
            _refuse("it is cut short")
        self._metadata: _Cache[tuple[bytes, int]] = _Cache()
        self._fragment_data: _Cache[bytes] = _Cache()

    def inode(self, reference: int) -> "_Folder | _File":
        """Return the inode at a reference: position of its block, and offset in it."""
        stream = _Stream(self, self._inodes, reference >> 16, reference & 0xFFFF)
        kind, mode = stream.read("<2H12x")
        if kind == _FOLDER:
            block, _, size, offset, _ = stream.read("<2I2HI")
            return _Folder(block, offset, size)
        if kind == _LONG_FOLDER:
            _, size, block, _, _, offset, _ = stream.read("<4I2HI")
            return _Folder(block, offset, size)
        if kind == _FILE:
            start, fragment, offset, size = stream.read("<4I")
        elif kind == _LONG_FILE:
            start, size, _, _, fragment, offset, _ = stream.read("<3Q4I")
        else:
            _refuse("it has a link, device or other special file")
        file = _File(start, size, fragment, offset)
        file.is_executable = bool(mode & 0o111)
        count = size // self.block_size
        if fragment == _NO_FRAGMENT and size % self.block_size:
            count += 1
        if count * 4 > self._length:  # each block has a size of four bytes in the image
            _refuse("a file has more blocks than the image can hold")
        file.blocks = stream.read(f"<{count}I")
        return file

    def entries(self, folder: _Folder) -> "Iterator[tuple[str, int]]":
        """Yield name and inode reference of each entry of a folder."""
        stream = _Stream(self, self._folders, folder.block, folder.offset)
        end = folder.size - 3  # the size counts `.` and `..`, which are not stored
        names = set()
        while stream.count < end:
            count, block, _ = stream.read("<3I")
            for _ in range(min(count + 1, 256 + 1)):
                offset, _, _, length = stream.read("<4H")
                name = os.fsdecode(stream.take(length + 1))
                if name in {"", ".", ".."} or set(name) & {"/", "\\", "\0"} or name in names:
                    _refuse(f"the name {shown(name)} is not allowed")
                names.add(name)
                yield name, block << 16 | offset

    def content(self, file: _File) -> "Iterator[bytes]":
        """Yield the content of a file in pieces of at most the block size."""
        left, position = file.size, file.start
        for size in file.blocks:
            expected = min(left, self.block_size)
            data = bytes(expected)  # a block without data is a hole
            if size:
                data = self._block(position, size)
            if len(data) != expected:
                _refuse("a block has another length than its file")
            position += size & ~_STORED_DATA
            left -= expected
            yield data
        if left:
            data = self._fragment(file.fragment)[file.offset : file.offset + left]
            if len(data) != left:
                _refuse("a file is cut short")
            yield data

    def metadata(self, position: int) -> "tuple[bytes, int]":
        """Return the content of the metadata block at *position*, and the position after it."""
        known = self._metadata.get(position)
        if known is None:
            (header,) = struct.unpack("<H", self._read(position, 2))
            size = header & ~_STORED_METADATA
            data = self._read(position + 2, size)
            if not header & _STORED_METADATA:
                data = _inflate(data, _METADATA_SIZE)
            known = data, position + 2 + size
            self._metadata.add(position, known)
        return known

    def _fragment(self, number: int) -> bytes:
        """Return the block that holds the ends of several files."""
        if number >= self._fragment_count:
            _refuse("a fragment does not exist")
        known = self._fragment_data.get(number)
        if known is None:
            table, entry = divmod(number * 16, _METADATA_SIZE)
            (position,) = struct.unpack("<Q", self._read(self._fragments + table * 8, 8))
            data, _ = self.metadata(position)
            start, size, _ = struct.unpack("<Q2I", data[entry : entry + 16])
            known = self._block(start, size)
            self._fragment_data.add(number, known)
        return known

    def _block(self, position: int, size: int) -> bytes:
        data = self._read(position, size & ~_STORED_DATA)
        return data if size & _STORED_DATA else _inflate(data, self.block_size)

    def _read(self, position: int, size: int) -> bytes:
        if size > _LARGEST_BLOCK or position + size > self._length:
            _refuse("it is cut short")
        buffer = bytearray(size)
        if size and read_at(self._descriptor, memoryview(buffer), position) != size:
            _refuse("it is cut short")
        return bytes(buffer)


class _Cache(dict[int, "_Value"]):
    """The blocks that were read last. Threads may share it."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def add(self, key: int, value: "_Value") -> None:
        with self._lock:
            self[key] = value
            if len(self) > _KEPT_BLOCKS:
                del self[next(iter(self))]


class _Stream:
    """Reads on from a place in a table of metadata blocks."""

    def __init__(self, image: _Image, table: int, block: int, offset: int) -> None:
        self._image = image
        self._data, self._next = image.metadata(table + block)
        self._offset = offset
        self.count = 0
        """Bytes that were read."""

    def read(self, pattern: str) -> "tuple[int, ...]":
        """Return the next numbers."""
        return struct.unpack(pattern, self.take(struct.calcsize(pattern)))

    def take(self, size: int) -> bytes:
        """Return the next *size* bytes."""
        pieces = []
        self.count += size
        while size:
            piece = self._data[self._offset : self._offset + size]
            if not piece:
                if self._offset > len(self._data):
                    _refuse("an offset is outside of its block")
                self._data, self._next = self._image.metadata(self._next)
                self._offset = 0
                continue
            pieces.append(piece)
            self._offset += len(piece)
            size -= len(piece)
        return b"".join(pieces)


def _inflate(data: bytes, largest: int) -> bytes:
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(data, largest)
    if not decompressor.eof:
        _refuse("a block is cut short, or larger than a block")
    return content
