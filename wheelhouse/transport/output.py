"""The files of an archive while it is written: under temporary names until all are complete.

with open_output(Path("bundle.tar"), size, split_size, unpacker) as output:
    output.write(content)
    output.put_in_place()
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

from offline_bundle.wheelhouse.runtime.archive.multipart import MultipartReader, Part
from offline_bundle.wheelhouse.runtime.archive.tar import BLOCK
from offline_bundle.wheelhouse.runtime.disk.files import (
    check_space,
    copy_range,
    flush_folder,
    safe_flags,
    write_all,
)
from offline_bundle.wheelhouse.runtime.disk.locks import lock_descriptor
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.names import PART_INDEX
from offline_bundle.wheelhouse.runtime.parallel import parallel_map

_FAT32_LARGEST = 2**32 - 1  # bytes
_SMALLEST_PART = 64 * 1024
_MOST_COPIED = 1024 * 1024 * 1024  # in one system call


@contextmanager
def open_output(
    output: Path, size: int, split_size: int | None, unpacker: bytes
) -> Iterator[ArchiveOutput]:
    """Open the files of an archive of *size* bytes; remove those that do not get their names."""
    lengths = [size] if split_size is None else part_sizes(size, split_size)
    names = [output.name]
    if split_size is not None:
        width = max(3, len(str(len(lengths))))
        names = [f"{output.name}.{n:0{width}}" for n in range(1, len(lengths) + 1)]
    check_space(output.parent, size + len(unpacker))
    with ExitStack() as stack:
        parts = []
        for name, length in zip(names, lengths, strict=True):
            path = _partial(output.with_name(name))
            descriptor = _open_alone(path)
            stack.callback(path.unlink, missing_ok=True)
            stack.callback(os.close, descriptor)
            part = Part(descriptor, str(path), length)
            part.name = name
            parts.append(part)
        for path in (_unpacker_path(output), _index_path(output)):
            stack.callback(_partial(path).unlink, missing_ok=True)
        yield ArchiveOutput(output, parts, unpacker, is_split=split_size is not None)


class ArchiveOutput:
    """An archive that is being written, and can then be read back."""

    def __init__(
        self, path: Path, parts: Sequence[Part], unpacker: bytes, *, is_split: bool
    ) -> None:
        self._path = path
        self._is_split = is_split
        self._unpacker = unpacker
        self._position = 0
        self.reader = MultipartReader(path.name, parts)

    def write(self, content: bytes) -> None:
        """Append *content*."""
        view = memoryview(content)
        for part, _, length in self.reader.spans(self._position, len(content)):
            write_all(part.descriptor, view[:length])
            view = view[length:]
        self._position += len(content)

    def write_file(self, file: FileIO, size: int) -> int:
        """Append the first *size* bytes of *file*; return how many it has, if fewer."""
        copied = 0
        for part, _, length in self.reader.spans(self._position, size):
            end = copied + length
            while copied < end:
                step = min(end - copied, _MOST_COPIED)
                count = copy_range(file.fileno(), copied, step, part.descriptor)
                copied += count
                if count < step:
                    return copied
        self._position += size
        return copied

    def check_sizes(self) -> None:
        """Raise if the files on the medium do not have the bytes that were written."""
        for part in self.reader.parts:
            if os.fstat(part.descriptor).st_size != part.size:
                raise BundleError(
                    f"{self._path}: {part.name} has another size than was written",
                    hint="the medium is faulty: use another one",
                )

    def put_in_place(self) -> list[Path]:
        """Write list and unpacker, flush all to the medium, then rename; return the final paths.

        The archive, or the list of its parts, is renamed last.
        """
        script = _unpacker_path(self._path)
        files = [self._path.with_name(part.name) for part in self.reader.parts]
        renames = [(_partial(script), script)]
        _write_durable(_partial(script), self._unpacker)
        parallel_map(os.fsync, [part.descriptor for part in self.reader.parts])
        renames += [(_partial(file), file) for file in files]
        index = _index_path(self._path)
        replaced = _listed_parts(index) - {file.name for file in files}
        if self._is_split:
            _write_durable(_partial(index), self._render_index())
            renames.append((_partial(index), index))
            files.append(index)
        index.unlink(missing_ok=True)  # it must not list parts that are not there
        for partial, path in renames:
            partial.replace(path)
        for name in replaced:
            self._path.with_name(name).unlink(missing_ok=True)
        flush_folder(str(self._path.parent))
        return [*files, script]

    def _render_index(self) -> bytes:
        """Render the list of parts for `sha256sum -c`."""
        digests = dict(parallel_map(Part.digest, self.reader.parts))
        return "".join(f"{digests[part]}  {part.name}\n" for part in self.reader.parts).encode()


def part_sizes(size: int, split_size: int) -> list[int]:
    """Return the size of each part: whole blocks, and for 4G as much as a file on FAT32 holds."""
    if split_size < _SMALLEST_PART:
        raise InputError(
            f"parts of {split_size} bytes are too small", hint="make them 64k or larger"
        )
    length = (_FAT32_LARGEST if split_size == _FAT32_LARGEST + 1 else split_size) // BLOCK * BLOCK
    return [min(length, size - start) for start in range(0, size, length)]


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _unpacker_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.unpack.py")


def _index_path(output: Path) -> Path:
    return output.with_name(f"{output.name}{PART_INDEX}")


def _open_alone(path: Path) -> int:
    """Open an empty file. Raises BundleError if another `pack` is writing it."""
    flags = os.O_RDWR | os.O_CREAT | safe_flags("O_NOFOLLOW")
    descriptor = os.open(path, flags, 0o666)
    try:
        _lock(descriptor, path)
        if os.fstat(descriptor).st_size:  # truncating an empty file costs a flush on ext4
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    try:
        lock_descriptor(descriptor, shared=False, block=False)
    except (BlockingIOError, PermissionError) as error:  # POSIX and Windows
        raise BundleError(
            f"another `pack` is writing {path}", hint="wait for it, or name another file"
        ) from error
    except OSError:  # some media cannot lock
        pass


def _write_durable(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _listed_parts(index: Path) -> set[str]:
    """Return the names of the parts of an earlier archive with the same name."""
    try:
        lines = index.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    archive = re.escape(index.name.removesuffix(PART_INDEX))
    listed = re.compile(rf"[0-9a-f]{{64}}  ({archive}\.[0-9]{{3,6}})")
    return {match[1] for line in lines if (match := listed.fullmatch(line))}
