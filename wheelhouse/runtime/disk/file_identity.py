"""What is at a path: a file and its identity, and the folders and links that lead there.

The launcher's warm start includes this module, so it imports nothing but `os`.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = 0o120000
_FILE_TYPE, _REGULAR_FILE = 0o170000, 0o100000
_SECOND = 1_000_000_000
_INVALID = 22
"""EINVAL, without the import of a module."""


def file_identity(path: str) -> str:
    """Return a text that is another one when the file was changed or replaced. Raises OSError.

    Device and inode identify a file, size and times its state. In an image, and on file
    systems that count whole seconds, times and inodes of two files can be equal: there the digest
    of the content is part of the text.
    """
    state = os.stat(path)
    times = (state.st_mtime_ns, state.st_ctime_ns)
    identity = repr((state.st_dev, state.st_ino, state.st_size, *times))
    if state.st_ctime_ns % _SECOND:
        return identity
    from hashlib import sha256  # slow to load, and seldom needed

    return f"{identity} {sha256(read_regular(path)).hexdigest()}"


def read_regular(path: str) -> bytes:
    """Return the content of a regular file. Raises OSError, also for a fifo, without waiting.

    `files.open_regular` has more choices; a warm start does not import that module.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        if os.fstat(file.fileno()).st_mode & _FILE_TYPE != _REGULAR_FILE:
            raise OSError(_INVALID, "not a regular file", path)
        return file.read()


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def is_present(path: str) -> bool:
    """Return whether there is anything at *path*, also if its folder cannot be searched."""
    try:
        return bool(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def path_steps(path: str) -> "Iterator[tuple[str, os.stat_result]]":
    """Yield each folder and link that an absolute path leads through, and what it names."""
    step, names = _root_and_names(path)
    yield step, os.lstat(step)
    while names:
        name = names.pop()
        if name in ("", os.curdir):
            continue
        above, step = step, os.path.dirname(step) if name == os.pardir else os.path.join(step, name)
        status = os.lstat(step)
        yield step, status
        if status.st_mode & _FILE_TYPE == LINK:
            target = os.readlink(step)
            root, inner = _root_and_names(target)
            step = root if os.path.isabs(target) else above
            names += inner


def _root_and_names(path: str) -> "tuple[str, list[str]]":
    """Return the root folder of a path, and the names below it, the last one first."""
    drive, names = os.path.splitdrive(path)
    return drive + os.sep, names.split(os.sep)[::-1]
