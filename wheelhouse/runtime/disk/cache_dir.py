"""The node's cache folder: where it may be, and whether it may be used. One rule for every program.

The launcher's warm start includes this module, so it imports nothing but `os` and `sys`.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

_FILE_TYPE, _FOLDER, _LINK = 0o170000, 0o040000, 0o120000
_STICKY, _WRITABLE_BY_OTHERS, _WRITABLE_BY_ALL = 0o1000, 0o022, 0o002


def cache_candidates() -> "list[str]":
    """Return the paths where the cache may be, the preferred one first.

    OFFLINE_BUNDLE_CACHE and no other; else XDG_CACHE_HOME/offline-bundle or
    ~/.cache/offline-bundle, and where that cannot be written TMPDIR/offline-bundle-UID.
    """
    chosen = os.environ.get("OFFLINE_BUNDLE_CACHE")
    if chosen:
        return [os.path.abspath(chosen)]
    home = os.environ.get("HOME") or os.environ.get("USERPROFILE")
    caches = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
    user = os.getuid() if sys.platform != "win32" else os.environ.get("USERNAME", "user")
    temporary = os.environ.get("TMPDIR") or os.environ.get("TEMP") or "/tmp"  # noqa: S108
    fallback = os.path.join(os.path.abspath(temporary), "offline-bundle-" + str(user))
    if os.path.isabs(caches):
        return [os.path.join(caches, "offline-bundle"), fallback]
    return [fallback]


def cache_fault(folder: str) -> "Optional[str]":  # noqa: PLR0911 - a list of checks
    """Return why *folder* must not be the cache of this user, or None when it may be.

    It must be a folder of this user that others can neither write nor replace. A symbolic link is
    accepted when this user or root owns it and others cannot replace it: on clusters,
    ~/.cache/offline-bundle often links to scratch. Raises OSError where there is no such folder.
    """
    if sys.platform == "win32":
        return None if os.path.isdir(folder) else "is not a folder"
    parent, link, status = os.stat(os.path.dirname(folder)), os.lstat(folder), os.stat(folder)
    user = os.getuid()
    is_shared = parent.st_mode & _WRITABLE_BY_ALL
    if link.st_mode & _FILE_TYPE == _LINK and (is_shared or link.st_uid not in (user, 0)):
        return "is a symbolic link that another user may have created"
    if is_shared and not parent.st_mode & _STICKY:
        return "is in a folder where any user may replace it (no sticky bit)"
    if status.st_mode & _FILE_TYPE != _FOLDER:
        return "is not a folder"
    if status.st_uid != user:
        return f"belongs to user {status.st_uid}, not to you (user {user})"
    if status.st_mode & _WRITABLE_BY_OTHERS:
        return "can be written by others"
    return None
