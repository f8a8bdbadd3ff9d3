"""Copy files into the staging folder of a bundle, at the least cost that the file system allows."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path

from offline_bundle.wheelhouse.runtime.names import MANIFEST

# linux/fs.h: clone a file's blocks instead of copying them (btrfs, XFS, bcachefs).
_FICLONE = 0x40049409


def link_or_copy(source: Path, destination: Path) -> None:
    """Make *destination* a reflink, hard link or copy of *source*.

    Hard links are made only to files without write permission, such as those of the download cache:
    a later change of one file would change both. A shared folder gets copies: its group and
    permissions are not those of the cache.
    """
    if _reflink(source, destination):
        return
    status, folder = source.stat(), destination.parent.stat()
    is_shared = folder.st_gid != status.st_gid or folder.st_mode & (stat.S_ISGID | stat.S_IWOTH)
    is_shared = is_shared or _has_default_acl(destination.parent)
    if not status.st_mode & 0o222 and not is_shared:
        with suppress(OSError):
            os.link(source, destination)
            return
    shutil.copyfile(source, destination)


def _has_default_acl(folder: Path) -> bool:
    """Return True where new files in *folder* get an access control list (acl(5))."""
    if sys.platform != "linux":
        return False
    with suppress(OSError):  # a file system without extended attributes
        return "system.posix_acl_default" in os.listxattr(folder)
    return False


def make_executable(path: Path) -> None:
    """Set the execute permissions of *path* wherever it is readable."""
    mode = path.stat().st_mode
    if mode & 0o111:
        return
    if path.stat().st_nlink > 1:  # a hard link: keep the mode of the cache's file
        copy = path.with_suffix(".copy")
        shutil.copyfile(path, copy)
        copy.replace(path)
        mode = path.stat().st_mode
    path.chmod(mode | ((mode & 0o444) >> 2))


def _reflink(source: Path, destination: Path) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - absent on Windows

    try:
        with source.open("rb") as reader, destination.open("wb") as writer:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError as error:
        destination.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise
        return False
    return True


def private_notes(directory: Path) -> list[str]:
    """Return a note where only this user can read the bundle at *directory*: jobs run as others."""
    if sys.platform == "win32" or (directory / MANIFEST).stat().st_mode & 0o044:
        return []
    return [f"only you can read {directory} (umask); for other users: chmod -R go+rX {directory}"]
