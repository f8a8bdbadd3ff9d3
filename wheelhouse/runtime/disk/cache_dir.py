"""The node's cache folder: where it may be, and whether it may be used. One rule for every program.

The launcher's warm start includes this module, so it imports little.
"""

import os
import sys

from .file_identity import LINK, path_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

_FILE_TYPE, _FOLDER = 0o170000, 0o040000
_STICKY, _WRITABLE_BY_OTHERS, _WRITABLE_BY_GROUP, _WRITABLE_BY_ALL = 0o1000, 0o022, 0o020, 0o002


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

    It must be a folder of this user that others can neither write nor replace. So each folder and
    link that leads to it, from the root on, must belong to this user or to root, and others must
    not be able to write there, except in a folder with the sticky bit. On clusters,
    ~/.cache/offline-bundle often links to scratch: such a link is accepted. Raises OSError where
    there is no such folder.
    """
    if sys.platform == "win32":
        return None if os.path.isdir(folder) else "is not a folder"
    os.stat(folder)  # an OSError also for links that lead in a circle
    user, is_shared = os.getuid(), False
    trusted = (user, 0, os.stat(os.sep).st_uid)  # root's number where a namespace has no 0
    *above, (_, status) = path_steps(folder)
    for path, step in above:
        if step.st_mode & _FILE_TYPE == LINK:
            if is_shared or step.st_uid not in trusted:
                return f"is behind {path}, a symbolic link that another user may have created"
            continue
        is_shared = _is_shared(path, step)
        if step.st_uid not in trusted or (is_shared and not step.st_mode & _STICKY):
            return f"is in {path}, where another user may replace it"
    if status.st_mode & _FILE_TYPE != _FOLDER:
        return "is not a folder"
    if status.st_uid != user:
        return f"belongs to user {status.st_uid}, not to you (user {user})"
    if status.st_mode & _WRITABLE_BY_OTHERS:
        return "can be written by others"
    return None


def _is_shared(path: str, status: os.stat_result) -> bool:
    """Return whether others can write; not by the group that a user has alone, of equal number."""
    own = (0, os.getgid()) if os.getgid() == os.getuid() else (0,)
    is_group = status.st_mode & _WRITABLE_BY_GROUP and (
        status.st_gid not in own or _has_access_list(path)
    )
    return bool(status.st_mode & _WRITABLE_BY_ALL or is_group)


def _has_access_list(path: str) -> bool:
    """Return whether an access list names others: acl(5). Its rights are shown as the group's."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except (AttributeError, OSError):  # Linux only, and not on every file system
        return False
