"""Files: open safely, copy, hash, write atomically, flush."""

import errno
import os
import re
import stat

from ..errors import InputError
from ..names import LARGEST_HEADER_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Iterable, Iterator
    from io import FileIO
    from typing import Any, Optional, Union

    Progress = Optional[Callable[[int], None]]
    PathLike = Union[str, os.PathLike[str]]

CHUNK_SIZE = 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SEEK_LOCK: "dict[str, Any]" = {}
# What the kernel answers where it cannot copy between two files itself.
_NO_KERNEL_COPY = frozenset(
    (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM)
)
_NOT_A_FILE = frozenset((errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV))


class NotRegularError(OSError):
    """A symbolic link, folder, fifo or device is in the place of a file."""


def open_regular(
    path: "PathLike", *, dir_fd: "Optional[int]" = None, follow_links: bool = False
) -> "FileIO":
    """Open a regular file for reading, unbuffered; wait for no fifo. Raises NotRegularError."""
    flags = safe_flags("O_NONBLOCK") if follow_links else safe_flags("O_NOFOLLOW", "O_NONBLOCK")
    try:
        descriptor = os.open(path, os.O_RDONLY | flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise NotRegularError(error.errno, "not a regular file", os.fspath(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularError(errno.EINVAL, "not a regular file", os.fspath(path))
    return os.fdopen(descriptor, "rb", buffering=0)


def create_file(
    path: "PathLike", *, is_executable: bool = False, dir_fd: "Optional[int]" = None
) -> "FileIO":
    """Create a file that does not exist yet, for unbuffered writing."""
    mode = 0o777 if is_executable else 0o666
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | safe_flags()
    return os.fdopen(os.open(path, flags, mode, dir_fd=dir_fd), "wb", buffering=0)


def safe_flags(*names: str) -> int:
    """Return the open() flags with these *names*, as far as the platform has them."""
    flags = 0
    for name in (*names, "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    return flags


def open_named(path: str) -> int:
    """Open a file that the user names, perhaps through a link, but not a folder or a fifo."""
    hint = "name an archive, or all of its parts"
    try:
        descriptor = os.open(path, os.O_RDONLY | safe_flags("O_NONBLOCK"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is not a file", hint=hint)
    return descriptor


def read_named(path: str) -> bytes:
    """Read a small file that the user names."""
    with os.fdopen(open_named(path), "rb") as file:
        return file.read(LARGEST_HEADER_FILE)


def copy_range(source: int, offset: int, count: int, target: int) -> int:
    """Append *count* bytes of *source* at *offset* to *target*; return how many were copied.

    The kernel copies where it can. Fewer bytes are copied where *source* ends before.
    """
    copied = _copy_in_kernel(source, offset, count, target)
    buffer = memoryview(bytearray(max(1, min(count - copied, CHUNK_SIZE))))
    while copied < count:
        read = read_at(source, buffer[: min(count - copied, len(buffer))], offset + copied)
        if not read:
            break
        write_all(target, buffer[:read])
        copied += read
    return copied


def _copy_in_kernel(source: int, offset: int, count: int, target: int) -> int:
    copied = 0
    if not hasattr(os, "copy_file_range"):
        return copied
    try:
        while copied < count:
            step = os.copy_file_range(source, target, count - copied, offset + copied)
            if not step:
                break
            copied += step
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    return copied


def write_all(target: int, content: memoryview) -> None:
    """Write all of *content*, in as many calls as that takes."""
    while content:
        content = content[os.write(target, content) :]


def read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill *buffer* from *offset* on; return the bytes read. Threads may share *descriptor*."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    import threading  # Windows has no positioned read: one thread at a time

    with _SEEK_LOCK.setdefault("", threading.Lock()):
        os.lseek(descriptor, offset, os.SEEK_SET)
        content = os.read(descriptor, len(buffer))
    buffer[: len(content)] = content
    return len(content)


def is_digest(value: object) -> bool:
    """Return whether *value* is a sha256 of 64 lower-case hex digits."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def sha256_of(content: bytes) -> str:
    """Return the sha256 of *content*, in hex."""
    return new_sha256(content).hexdigest()


def file_digest(path: "PathLike", progress: "Progress" = None) -> str:
    """Return the sha256 of a regular file, in hex; *progress* receives the bytes read."""
    with open_regular(path) as file:
        return open_file_digest(file, progress)


def has_digest(path: "PathLike", sha256: "Optional[str]") -> bool:
    """Return whether there is a regular file with this digest that can be read."""
    try:
        return file_digest(path) == sha256
    except OSError:
        return False


def open_file_digest(file: "FileIO", progress: "Progress" = None) -> str:
    """Return the sha256 of an open file, from its position on."""
    return digest_of(_read_chunks(file), progress)


def digest_of(chunks: "Iterable[memoryview]", progress: "Progress" = None) -> str:
    """Return the sha256 of all *chunks* together, in hex."""
    digest = new_sha256()
    for chunk in chunks:
        digest.update(chunk)
        if progress:
            progress(len(chunk))
    return digest.hexdigest()


def new_sha256(content: bytes = b"") -> "hashlib._Hash":
    """Return a new hash object."""
    import hashlib  # reading a manifest on a warm start needs no OpenSSL

    return hashlib.sha256(content)


def _read_chunks(file: "FileIO") -> "Iterator[memoryview]":
    buffer = memoryview(bytearray(CHUNK_SIZE))
    while True:
        count = file.readinto(buffer)
        if not count:
            return
        yield buffer[:count]


def write_atomic(
    path: "PathLike", content: bytes, *, durable: bool = False, mode: int = 0o600
) -> None:
    """Write beside *path* and rename, so that readers see all of it or nothing.

    With *durable*, that holds after a power cut too.
    """
    path = os.fspath(path)
    # Random, because nodes that share a home share process numbers.
    partial = f"{path}.{os.urandom(6).hex()}.partial"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | safe_flags(), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        remove_file(partial)
        raise
    if durable:
        flush_folder(os.path.dirname(path) or ".")


def flush_folder(folder: str) -> None:
    """Make the renames in *folder* survive a power cut, where the platform can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot
        pass
    finally:
        os.close(descriptor)


def remove_file(path: str) -> None:
    """Remove a file, if it exists."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def free_space(folder: "PathLike") -> "Optional[int]":
    """Return the free bytes, or None where the system does not report them."""
    if not hasattr(os, "statvfs"):
        return None
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize if state.f_blocks else None


def check_space(folder: "PathLike", needed: int) -> None:
    """Raise OSError (ENOSPC) if *needed* bytes are more than the free space.

    Quotas and other writers are not considered: a write may still fail.
    """
    free = free_space(folder)
    if free is not None and needed > free:
        reason = f"{os.strerror(errno.ENOSPC)}: {needed:,} bytes are needed, {free:,} are free"
        raise OSError(errno.ENOSPC, reason, os.fspath(folder))


def disk_usage(folder: str) -> int:
    """Return the bytes that the files below *folder* take on disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            state = os.lstat(os.path.join(parent, name))
            total += getattr(state, "st_blocks", 0) * 512 or state.st_size
    return total
