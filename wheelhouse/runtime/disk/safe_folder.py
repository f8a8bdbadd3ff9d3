"""Access to the files below one folder, without following a link on the way.

    with SafeFolder("bundle") as folder:
        folder.make_folder("wheels")
        folder.replace(".writer/tmp/1", "wheels/a-1.0-py3-none-any.whl")

Other users may be able to write in the folder, and to replace a folder by a link at any moment. So
every path is resolved from an open descriptor, component by component. Windows has no such calls:
there the components are checked before each use.
"""

import errno
import os
import stat
from contextlib import contextmanager
from itertools import islice

from ..errors import IntegrityError
from ..parallel import parallel_map
from .files import NotRegularError, create_file, open_regular, safe_flags, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import FileIO
    from typing import Optional, Self, Union

    PathLike = Union[str, os.PathLike[str]]

_HAS_DIR_FD = {os.open, os.mkdir, os.unlink, os.rename, os.stat} <= os.supports_dir_fd
_FEW = 32
_LINK = frozenset((errno.ELOOP, errno.EMLINK, errno.ENOTDIR))
# What unlink answers where something else than a file of the bundle has the path.
_NO_FILE = _LINK | {errno.EISDIR, errno.ENAMETOOLONG}


class SafeFolder:
    """An open folder. Paths are relative to it, with `/`. A link or file in a path is an error."""

    def __init__(self, path: "PathLike") -> None:
        self.path = os.fspath(path)
        self._descriptor: Optional[int] = None
        if _HAS_DIR_FD:
            self._descriptor = os.open(self.path, os.O_RDONLY | safe_flags("O_DIRECTORY"))

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def full_path(self, path: str) -> str:
        """Return *path* with that of the folder before it, for messages."""
        return os.path.join(self.path, path)

    def open(self, path: str) -> "FileIO":
        """Open a regular file for reading. Raises OSError."""
        with self._parent(path) as (descriptor, name):
            return open_regular(name, dir_fd=descriptor)

    def read(self, path: str) -> "Optional[bytes]":
        """Return the content of a regular file; None if it does not exist or cannot be read."""
        try:
            with self.open(path) as file:
                return file.read()
        except OSError:
            return None

    def size(self, path: str) -> "Optional[int]":
        """Return the size of a regular file; None for anything else."""
        try:
            with self._parent(path) as (descriptor, name):
                state = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except OSError:
            return None
        return state.st_size if stat.S_ISREG(state.st_mode) else None

    def exists(self, path: str) -> bool:
        """Return whether anything, also a link or a folder, is at *path*."""
        try:
            with self._parent(path) as (descriptor, name):
                os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def names(self, path: str) -> "list[str]":
        """Return the sorted names in the folder at *path*; none where there is no such folder."""
        try:
            with self._folder(path) as descriptor:
                return sorted(
                    os.listdir(self.full_path(path) if descriptor is None else descriptor)
                )
        except OSError:
            return []

    def create(self, path: str, *, is_executable: bool = False) -> "FileIO":
        """Create a new file, for unbuffered writing; replace what is at *path*."""
        with self._parent(path) as (descriptor, name):
            try:
                return create_file(name, is_executable=is_executable, dir_fd=descriptor)
            except FileExistsError:
                os.unlink(name, dir_fd=descriptor)
                return create_file(name, is_executable=is_executable, dir_fd=descriptor)

    def write(self, path: str, content: bytes, *, durable: bool = False) -> None:
        """Write a file; flush it to the disk if *durable*."""
        with self.create(path) as file:
            write_all(file.fileno(), memoryview(content))
            if durable:
                os.fsync(file.fileno())

    def open_lock(self, path: str) -> int:
        """Open the lock file at *path*, new or not, and return its descriptor. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | safe_flags("O_NOFOLLOW", "O_NONBLOCK")
        with self._parent(path) as (parent, name):
            try:
                descriptor = os.open(name, flags, 0o600, dir_fd=parent)
            except OSError as error:
                if error.errno in _LINK:
                    raise NotRegularError(error.errno, "not a regular file", path) from error
                raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotRegularError(errno.EINVAL, "not a regular file", self.full_path(path))
        return descriptor

    def make_folder(self, path: str) -> None:
        """Create a folder and those above it. Raises IntegrityError for a link or file there."""
        parent = ""
        for component in path.split("/") if path else ():
            parent = f"{parent}/{component}" if parent else component
            try:
                with self._parent(parent) as (descriptor, name):
                    os.mkdir(name, dir_fd=descriptor)
            except FileExistsError:
                self._check_folder(parent)

    def replace(self, source: str, target: str) -> None:
        """Rename a file, also over an existing one."""
        with self._parent(source) as (source_fd, old), self._parent(target) as (target_fd, new):
            if source_fd is None:
                os.replace(old, new)
            else:
                os.replace(old, new, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def flush(self, path: str) -> None:
        """Write a file or folder to the disk, where the platform can."""
        with self._parent(path) as (parent, name):
            if parent is None:  # Windows flushes files only that are open for writing
                return
            descriptor = os.open(name or ".", os.O_RDONLY | safe_flags("O_NOFOLLOW"), dir_fd=parent)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EROFS, errno.ENOTSUP}:
                raise
        finally:
            os.close(descriptor)

    def flush_all(self, paths: "Sequence[str]") -> None:
        """Write all of *paths* to the disk."""
        # Measured with 4,000 files: one flush takes 0.2 s, one for each file 2 s.
        if len(paths) <= _FEW or not self.flush_file_system():
            parallel_map(self.flush, paths)

    def flush_file_system(self) -> bool:
        """Write everything to the disk; return False where that is not possible at once."""
        return self._descriptor is not None and _sync_fs(self._descriptor)

    def remove(self, path: str) -> None:
        """Remove a file, if it exists."""
        try:
            with self._parent(path) as (descriptor, name):
                os.unlink(name, dir_fd=descriptor)
        except FileNotFoundError:
            pass

    def remove_with_folders(self, path: str) -> None:
        """Remove a file and the folders that are empty then; nothing for a link or a folder."""
        try:
            self.remove(path)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            return
        folder = path.rpartition("/")[0]
        while folder and self.remove_folder(folder):
            folder = folder.rpartition("/")[0]

    def remove_folder(self, path: str) -> bool:
        """Remove an empty folder; return whether it was removed."""
        try:
            with self._parent(path) as (descriptor, name):
                os.rmdir(name, dir_fd=descriptor)
        except OSError:
            return False
        return True

    def remove_tree(self, path: str) -> None:
        """Remove a file, or a folder with all it contains, as far as possible."""
        try:
            self.remove(path)
        except OSError:
            for name in self.names(path):
                self.remove_tree(f"{path}/{name}")
            self.remove_folder(path)

    def _check_folder(self, path: str) -> None:
        try:
            with self._folder(path):
                return
        except OSError as error:
            if error.errno not in _LINK:
                raise
        raise IntegrityError(
            f"{self.full_path(path)} is a link or a file where the bundle has a folder",
            hint="find out why, and move it away; nothing was written through it",
        ) from None

    @contextmanager
    def _parent(self, path: str) -> "Iterator[tuple[Optional[int], str]]":
        """Open the folder that contains *path*; yield its descriptor and the last component."""
        folder, _, name = path.rpartition("/")
        try:
            with self._folder(folder) as descriptor:
                yield descriptor, self.full_path(path) if descriptor is None else name
        except OSError as error:
            error.filename = self.full_path(path)  # else it is the last component only
            raise

    @contextmanager
    def _folder(self, path: str) -> "Iterator[Optional[int]]":
        """Open the folder at *path*; yield its descriptor, None on Windows."""
        components = path.split("/") if path else []
        if self._descriptor is None:
            self._check_components(components)
            yield None
            return
        descriptor = os.dup(self._descriptor)
        try:
            for component in components:
                flags = os.O_RDONLY | safe_flags("O_DIRECTORY", "O_NOFOLLOW")
                inner = os.open(component, flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _check_components(self, components: "list[str]") -> None:
        path = self.path
        for component in components:
            path = os.path.join(path, component)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def flush_tree(path: "PathLike") -> None:
    """Write all files below the folder at *path* to the disk, so that they survive a power cut."""
    with SafeFolder(path) as folder:
        has_many = len(list(islice(_tree(path), _FEW + 1))) > _FEW
        if not (has_many and folder.flush_file_system()):
            folder.flush_all(list(_tree(path)))


def _tree(path: "PathLike") -> "Iterator[str]":
    """Yield the relative paths of the folder at *path* and all in it, without links."""
    yield ""
    for parent, names, files in os.walk(path):
        relative = os.path.relpath(parent, path)
        for name in [*names, *files]:
            if not os.path.islink(os.path.join(parent, name)):
                yield os.path.normpath(os.path.join(relative, name)).replace(os.sep, "/")


def _sync_fs(descriptor: int) -> bool:
    """Flush the file system of *descriptor*; return False if this Python cannot do that."""
    try:
        import ctypes

        syncfs = ctypes.CDLL(None, use_errno=True).syncfs  # Linux only
    except (ImportError, OSError, TypeError, AttributeError):
        return False
    if syncfs(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return True
