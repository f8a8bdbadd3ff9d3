"""Advisory file locks between processes."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, Self, Union

    PathLike = Union[str, os.PathLike[str]]


class FileLock:
    """An advisory lock between processes, on a file that is created if need be and never removed.

    It is held until `release()` or the end of the process. A child that inherits `descriptor` keeps
    it. The descriptor is open for writing because flock on NFSv4 requires it. Windows only has
    exclusive locks: there, a shared lock waits for the exclusive one and then holds nothing.
    *opener* opens the file in another way and returns its descriptor.
    """

    def __init__(
        self,
        path: "PathLike",
        *,
        shared: bool = False,
        opener: "Optional[Callable[[str], int]]" = None,
    ) -> None:
        self.path = os.fspath(path)
        self.shared = shared
        self._opener = opener
        self.descriptor: Optional[int] = None

    def acquire(self, *, block: bool = True) -> bool:
        """Take the lock; without *block*, return False if another process holds it."""
        if self.descriptor is not None:
            raise RuntimeError(f"{self.path} is already locked by this object")
        if self._opener:
            descriptor = self._opener(self.path)
        else:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            lock_descriptor(descriptor, shared=self.shared, block=block)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, (BlockingIOError, PermissionError)):  # flock's and Windows' "held"
                return False
            raise
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock, if it is held."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> "Self":
        """Take the lock, waiting for it."""
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_descriptor(descriptor: int, *, shared: bool, block: bool) -> None:
    """Lock an open file; without *block*, raise an OSError if another process holds it."""
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
