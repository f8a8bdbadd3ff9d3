"""Failed preparations: check the room first, remove what is left, note why for waiting starts.

Of a hundred jobs that start at once, one prepares the environment. If it fails, the others fail
with the same error, instead of trying it one after another. If the disk was full, later starts fail
with that error, too, until there is more space or a minute has passed.
"""

import json
import os

from ...disk.file_identity import read_regular
from ...disk.files import check_space, free_space, write_atomic
from ...errors import BundleError
from ..os_errors import NoSpaceError, no_space
from .cache_cleanup import remove_unlocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from .plan import Plan

_UNPACKED = 2
"""Wheels take at least this multiple of their size when they are unpacked."""

_FULL_SECONDS = 60
"""How long a full disk is remembered: quotas change without a change of the free space."""

_NOISE = 1 << 24
"""Bytes by which other programs change the free space all the time."""


def check_room(plan: "Plan", cache: str) -> None:
    """Raise before anything is written if the environment does not fit in the cache."""
    try:
        check_space(cache, _needed(plan))
    except OSError as error:
        raise no_space(cache, str(error.strerror)) from None


def remove_rest(plan: "Plan", cache: str) -> None:
    """Remove what uv has unpacked if there is no room for another attempt."""
    try:
        check_space(cache, _needed(plan))
    except OSError:
        remove_unlocked(os.path.join(cache, "uv"))


def remember_failure(home: str, error: BundleError, free: "Optional[int]") -> None:
    """Note why the environment at *home* could not be made, with *free* bytes before it."""
    note = {"message": str(error), "hint": error.hint, "code": error.exit_code}
    if isinstance(error, NoSpaceError):
        note["free"] = free
    try:
        write_atomic(_note(home), json.dumps(note).encode())
    except OSError:
        return  # the disk may be full: then each start finds that out by itself


def raise_failure_since(home: str, moment: float) -> None:
    """Raise the error of a preparation that failed after *moment*, in seconds since the epoch.

    Or before it, if the disk was full, and still is.
    """
    try:
        failed = os.path.getmtime(_note(home))
        note = json.loads(read_regular(_note(home)))
        if failed < moment and not (
            moment - failed < _FULL_SECONDS
            and note.get("free") is not None
            and (free_space(os.path.dirname(home)) or 0) < note["free"] + _NOISE
        ):
            return
        error = BundleError(str(note["message"]), hint=note["hint"])
        error.exit_code = int(note["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    raise error


def _note(home: str) -> str:
    return home + ".failed"


def _needed(plan: "Plan") -> int:
    files = plan.bundle.manifest.files
    return _UNPACKED * sum(
        files[package.wheel].size or 0 for package in plan.lock.packages.values()
    )
