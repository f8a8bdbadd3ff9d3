"""Files: open safely, copy, hash, remove, write atomically."""

import errno
import os
import re
import stat

from .errors import InputError, IntegrityError
from .names import LARGEST_HEADER_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Iterable, Iterator
    from io import FileIO
    from typing import Any, Optional, Union

    Progress = Optional[Callable[[int], None]]
    PathLike = Union[str, os.PathLike[str]]


_DIGEST = re.compile(r"[0-9a-f]{64}")
CHUNK_SIZE = 1024 * 1024


_SEEKING: "dict[int, Any]" = {}


def check_space(folder: "PathLike", needed: int) -> None:
    """Raise OSError (ENOSPC) before anything is written where *needed* bytes do not fit into what is free.

    Quotas, and others who write meanwhile, are not known here: a write may still fail.
    """
    if not hasattr(os, "statvfs"):
        return
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if found.f_blocks and needed > free:
        reason = f"{os.strerror(errno.ENOSPC)}: {needed:,} bytes are needed, {free:,} are free"
        raise OSError(errno.ENOSPC, reason, os.fspath(folder))


def real_folder(directory: str, folder: str) -> str:
    """Make *folder* below *directory* and return it; raises Refusal where a link or a file is on the way there."""
    place = directory
    for name in folder.split("/") if folder else ():
        place = os.path.join(place, name)
        try:
            os.mkdir(place)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                hint = "find out who put it there, and move it away; nothing was written through it"
                raise IntegrityError(
                    f"{place} is a link or a file where the bundle has a folder", hint=hint
                ) from None
    return place


def flush_folder(folder: str) -> None:
    """Make the renames in *folder* survive a power cut, where the platform can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove_with_folders(directory: str, path: str) -> None:
    folder = os.path.dirname(path)
    place = directory
    for name in path.split("/")[:-1]:  # never through a link
        place = os.path.join(place, name)
        if not os.path.isdir(place) or os.path.islink(place):
            return
    remove_file(os.path.join(directory, path))
    while folder:
        try:
            os.rmdir(os.path.join(directory, folder))
        except OSError:  # others live there
            return
        folder = os.path.dirname(folder)


def remove_tree(folder: str) -> None:
    """Remove what an interrupted run left, if anything."""
    if os.path.lexists(folder):
        import shutil  # slow to import, and most often of no use

        shutil.rmtree(folder, ignore_errors=True)


class NotRegularError(OSError):
    """A symbolic link, folder, fifo or device lies where a file should."""


def open_regular(path: "PathLike") -> "FileIO":
    """Open a regular file, unbuffered; never follows a symbolic link there, never waits on a fifo."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV}:
            raise NotRegularError(error.errno, "not a regular file", os.fspath(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularError(errno.EINVAL, "not a regular file", os.fspath(path))
    return os.fdopen(descriptor, "rb", buffering=0)


def create_file(path: "PathLike", *, is_executable: bool = False) -> "FileIO":
    """Create a file that is not there yet, to be written unbuffered."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o777 if is_executable else 0o666), "wb", buffering=0)


def copy_range(source: int, offset: int, count: int, target: int) -> int:
    """Append *count* bytes of *source* at *offset* to *target*, inside the kernel where it can; return how many."""
    left = count
    if hasattr(os, "copy_file_range"):
        try:
            while left:
                copied = os.copy_file_range(source, target, left, offset)
                if not copied:
                    break
                offset, left = offset + copied, left - copied
        except OSError as error:
            if error.errno not in {
                errno.EXDEV,
                errno.EINVAL,
                errno.ENOSYS,
                errno.EOPNOTSUPP,
                errno.EBADF,
                errno.EPERM,
            }:
                raise
    buffer = memoryview(bytearray(max(1, min(left, CHUNK_SIZE))))
    while left:
        read = read_at(source, buffer[: min(left, len(buffer))], offset)
        if not read:
            break
        offset, left = offset + read, left - read
        write_all(target, buffer[:read])
    return count - left


def write_all(target: int, content: memoryview) -> None:
    while content:
        content = content[os.write(target, content) :]


def read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill *buffer* from *offset* on, as far as there is something; several threads may share the descriptor."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    import threading  # Windows has no positioned read: one thread at a time

    with _SEEKING.setdefault(0, threading.Lock()):
        os.lseek(descriptor, offset, os.SEEK_SET)
        content = os.read(descriptor, len(buffer))
    buffer[: len(content)] = content
    return len(content)


def file_digest(path: "PathLike", progress: "Progress" = None) -> str:
    """Return the sha256 of a regular file, in hex; *progress* is told the bytes as they are read."""
    with open_regular(path) as file:
        return digest_of(_read_chunks(file), progress)


def _read_chunks(file: "FileIO") -> "Iterator[memoryview]":
    buffer = memoryview(bytearray(CHUNK_SIZE))
    while True:
        count = file.readinto(buffer)
        if not count:
            return
        yield buffer[:count]


def digest_of(chunks: "Iterable[memoryview]", progress: "Progress" = None) -> str:
    digest = new_sha256()
    for chunk in chunks:
        digest.update(chunk)
        if progress:
            progress(len(chunk))
    return digest.hexdigest()


def is_digest(value: object) -> bool:
    """Return whether *value* is a sha256 of 64 lower-case hex digits."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def sha256_of(content: bytes) -> str:
    """Return the sha256 of *content*, in hex."""
    return new_sha256(content).hexdigest()


def new_sha256(content: bytes = b"") -> "hashlib._Hash":
    import hashlib  # reading a manifest on a warm start needs no OpenSSL

    return hashlib.sha256(content)


def regular_size(path: str) -> "Optional[int]":
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def read_whole(path: str) -> "Optional[bytes]":
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError:
        return None


def write_atomic(path: str, content: bytes, mode: int = 0o600) -> None:
    """Write beside *path* and rename: a reader sees all of it or nothing."""
    partial = (
        f"{path}.{os.urandom(6).hex()}.partial"  # nodes that share a home share process numbers
    )
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def disk_usage(folder: str) -> int:
    """Bytes on disk below *folder*."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            found = os.lstat(os.path.join(parent, name))
            total += getattr(found, "st_blocks", 0) * 512 or found.st_size
    return total


def read_given(path: str) -> bytes:
    with os.fdopen(open_given(path), "rb") as file:
        return file.read(LARGEST_HEADER_FILE)


def open_given(path: str) -> int:
    """Open a file that the user names, perhaps through a link; not a folder, not a fifo."""
    try:
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", hint="name an archive, or all of its parts"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is not a file", hint="name an archive, or all of its parts")
    return descriptor
