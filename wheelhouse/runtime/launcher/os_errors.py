"""File system errors of a cold start, with advice."""

import errno

from ..errors import BundleError


def explain_os_error(error: OSError, cache: str) -> Exception:
    """Turn what a file system refuses into advice, where there is any."""

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(cache)
    if error.errno in (
        errno.ENOSYS,
        errno.ENOLCK,
        errno.EOPNOTSUPP,
    ):  # such as Lustre mounted without flock
        return BundleError(
            f"files in the cache {cache} cannot be locked: {error.strerror}",
            hint="set OFFLINE_BUNDLE_CACHE to a folder on a local disk of this node",
        )
    return error


def no_space(cache: str) -> BundleError:
    return BundleError(
        f"no space left in the cache {cache}",
        hint="remove what is not needed there, or set OFFLINE_BUNDLE_CACHE to a folder with more room",
    )
