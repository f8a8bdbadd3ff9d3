"""Advisory file locks between processes."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, Self, Union

    PathLike = Union[str, os.PathLike[str]]


class FileLock:
    """An advisory lock between processes on the file at *path*, which is made if need be and never removed.

    It ends with `release()` or the process. A child that inherits `descriptor` keeps it: flock belongs to the
    open file. The descriptor is open for writing because flock on NFSv4 asks for that. Windows has exclusive
    locks only; there a shared lock waits for the exclusive one and then holds nothing.
    *opener* opens the file in another way and returns its descriptor.
    """

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        *,
        shared: bool = False,
        opener: "Optional[Callable[[str], int]]" = None,
    ) -> None:
        self.path = os.fspath(path)
        self.shared = shared
        self._opener = opener
        self.descriptor: "Optional[int]" = None

    def acquire(self, *, block: bool = True) -> bool:
        """Take the lock; without *block* return False where another process holds it. Raises OSError."""
        if self.descriptor is not None:
            raise RuntimeError(f"{self.path} is locked by this object already")
        if self._opener:
            descriptor = self._opener(self.path)
        else:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            lock_descriptor(descriptor, shared=self.shared, block=block)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(
                error, (BlockingIOError, PermissionError)
            ):  # flock's way and Windows' way to say: held
                return False
            raise
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock up; nothing happens where it is not held."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> "Self":
        """Wait for the lock."""
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock up."""
        self.release()


def lock_descriptor(descriptor: int, *, shared: bool, block: bool) -> None:
    if sys.platform != "win32":
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind if block else kind | fcntl.LOCK_NB)
        return
    import msvcrt

    while True:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if block else msvcrt.LK_NBLCK, 1)
            break
        except OSError:  # LK_LOCK gives up after ten seconds
            if not block:
                raise
    if shared:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
