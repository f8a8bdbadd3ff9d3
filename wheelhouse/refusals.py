"""What the operating system or `unpack.py` refuses, as errors of ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from wheelhouse.errors import BundleError, InputError, IntegrityError, SignatureError
from wheelhouse.unpack import Refusal, os_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CLASSES = {error.exit_code: error for error in (InputError, IntegrityError, SignatureError)}


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
