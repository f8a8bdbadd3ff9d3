"""File system errors of a cold start, with hints."""

import errno

from ..errors import BundleError


class NoSpaceError(BundleError):
    """The cache is full, exit code 1."""


def explain_os_error(error: OSError, cache: str) -> Exception:
    """Return a BundleError with a hint for a known problem of the cache, else *error* itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(cache)
    # Such as Lustre mounted without flock.
    if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
        return BundleError(
            f"files in the cache {cache} cannot be locked: {error.strerror}",
            hint="set OFFLINE_BUNDLE_CACHE to a folder on a local disk of this node",
        )
    if error.errno in (errno.EROFS, errno.EACCES) and str(error.filename).startswith(cache):
        return BundleError(
            f"{error.filename} cannot be written: {error.strerror}",
            hint="set OFFLINE_BUNDLE_CACHE to a folder that you can write",
        )
    return error


def no_space(cache: str, detail: str = "") -> NoSpaceError:
    """Return the error for a full cache."""
    hint = "remove old files there, or set OFFLINE_BUNDLE_CACHE to a folder with more room"
    problems = [detail] if detail else []
    return NoSpaceError(f"no space left in the cache {cache}", hint=hint, problems=problems)
