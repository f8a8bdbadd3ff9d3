"""Create the node's cache folder, or refuse one that others may change."""

import os
import stat
import sys
from contextlib import suppress

from ..errors import BundleError
from .cache_dir import cache_candidates, cache_fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .files import PathLike

_OPEN_FOLDERS = ("built", "downloads", "uv", "uv-bin")
"""Folders of the cache that uv and builds create by the umask; the others get mode 0700."""


def cache_directory() -> str:
    """Return the cache folder, created with mode 0700 if need be.

    The candidates of `cache_candidates`, in order: one that cannot be written is passed over for
    the next. Raises BundleError for a folder that cannot be created, or that another user may
    change (`cache_fault`).
    """
    *preferred, last = cache_candidates()
    for folder in preferred:
        try:
            if os.access(private_directory(folder), os.W_OK | os.X_OK):
                return folder
        except OSError:
            continue  # a home that is missing, full or read-only: use the temporary folder
    try:
        return private_directory(last)
    except OSError as error:
        raise BundleError(
            f"the cache {last} cannot be created: {error.strerror}",
            hint="set OFFLINE_BUNDLE_CACHE to a folder that you can write",
        ) from error


def private_directory(folder: str) -> str:
    """Create *folder* with mode 0700, or check the existing one; return it.

    An existing one keeps its mode, as it may have other files: HOME, or a folder for all of a
    user's data. Where others may enter it, they may not enter the cache's own folders in it.
    Raises OSError if it cannot be created, BundleError if `cache_fault` finds something.
    """
    if os.pathsep in folder:
        message = f"the cache {folder} has {os.pathsep!r} in its path, which separates paths"
        raise BundleError(
            message, hint=f"set OFFLINE_BUNDLE_CACHE to a path without {os.pathsep!r}"
        )
    try:
        os.mkdir(folder, 0o700)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except FileExistsError:
        pass
    fault = cache_fault(folder)
    if fault:
        status = os.stat(folder)
        raise BundleError(
            f"the cache {folder} {fault}: not used "
            f"(owner {status.st_uid}, mode {status.st_mode & 0o7777:04o})",
            hint=_cache_hint(status),
        )
    if sys.platform != "win32" and os.stat(folder).st_mode & 0o077:
        for name in _OPEN_FOLDERS:
            make_private(os.path.join(folder, name))
    return folder


def make_private(folder: "PathLike") -> None:
    """Create *folder* with mode 0700, or let only the owner enter the existing one; not a link."""
    with suppress(OSError):  # in a read-only folder, nothing is created later either
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.islink(folder) and os.stat(folder).st_mode & 0o077:
                os.chmod(folder, 0o700)


def _cache_hint(status: os.stat_result) -> str:
    other = "set OFFLINE_BUNDLE_CACHE to a folder of your own with mode 0700"
    if sys.platform == "win32" or status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        return other
    if status.st_mode & 0o022:
        return f"remove it (or, if only you have written there: chmod go-w), or {other}"
    return f"let no other user replace it: chmod go-w or chmod +t the folder above, or {other}"
