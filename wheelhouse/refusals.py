"""What the operating system or `unpack.py` refuses, as errors of ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from wheelhouse.errors import BundleError, InputError, IntegrityError, SignatureError
from wheelhouse.unpack import Refusal, first_problems, os_hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_CLASSES = {error.exit_code: error for error in (InputError, IntegrityError, SignatureError)}


def damaged(directory: Path, lost: Sequence[str]) -> IntegrityError:
    """The error for files (*lost*) of the bundle at *directory* that are needed, and cannot be brought back."""
    return IntegrityError(
        f"{directory} is damaged: {len(lost)} of its files are missing or changed",
        problems=first_problems(lost),
        hint=f"see `offline-bundle verify {directory}`; build its scripts again into a new folder",
    )


@contextmanager
def as_bundle_errors(directory: Path) -> Iterator[None]:
    """Turn what the operating system (exit 1) or `unpack` refuses into an error with a next step."""
    try:
        yield
    except Refusal as error:
        kind = _CLASSES.get(error.code, BundleError)
        raise kind(error.message, hint=error.hint, problems=error.problems) from error
    except OSError as error:
        place = error.filename or directory
        reason = error.strerror or str(error)
        raise BundleError(f"{place}: {reason}", hint=os_hint(error)) from error
