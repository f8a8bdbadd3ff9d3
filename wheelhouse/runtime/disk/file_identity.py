"""The identity of a file: another one when the file was changed or replaced.

The launcher's warm start includes this module, so it imports nothing but `os`.
"""

import os

_SECOND = 1_000_000_000


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

    with open(path, "rb") as file:
        return f"{identity} {sha256(file.read()).hexdigest()}"
