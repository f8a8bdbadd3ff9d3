"""Failed preparations: check the room first, remove what is left, note why for waiting starts.

Of a hundred jobs that start at once, one prepares the environment. If it fails, the others fail
with the same error, instead of trying it one after another.
"""

import json
import os

from ...disk.files import check_space, write_atomic
from ...errors import BundleError
from ..os_errors import no_space
from .cache_cleanup import remove_unlocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

_UNPACKED = 2
"""Wheels take at least this multiple of their size when they are unpacked."""


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


def remember_failure(home: str, error: BundleError) -> None:
    """Note why the environment at *home* could not be made."""
    note = {"message": str(error), "hint": error.hint, "code": error.exit_code}
    try:
        write_atomic(_note(home), json.dumps(note).encode())
    except OSError:
        return  # the disk may be full: then each start finds that out by itself


def raise_failure_since(home: str, moment: float) -> None:
    """Raise the error of a preparation that failed after *moment*, in seconds since the epoch."""
    try:
        if os.path.getmtime(_note(home)) < moment:
            return
        with open(_note(home), "rb") as file:
            note = json.loads(file.read().decode())
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
