"""Work done side by side, and its errors reported together."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from wheelhouse.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

_T = TypeVar("_T")


def gather(futures: Iterable[Future[_T]]) -> list[_T]:
    """All results, in order; where some failed with a BundleError, one error that says what each of them said."""
    waiting = list(futures)
    errors = [error for future in waiting if isinstance(error := future.exception(), BundleError)]
    if not errors:
        return [future.result() for future in waiting]
    if len(errors) == 1:
        raise errors[0]
    problems = [line for error in errors for line in (error.message, *(f"  {problem}" for problem in error.problems))]
    hints = dict.fromkeys(error.hint for error in errors if error.hint)
    kind = type(min(errors, key=lambda error: error.exit_code))
    raise kind(f"{len(errors)} of {len(waiting)} failed", problems=problems, hint="\n".join(hints) or None)
