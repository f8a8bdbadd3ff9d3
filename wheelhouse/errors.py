"""The one hierarchy of errors a user may meet; each class carries its documented exit code.

Every error says what is wrong (`message`), and what to do next (`hint`). Several faults found in one pass are
gathered into `problems`, one line each, and raised once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class BundleError(Exception):
    """An error of ours, or of the machine's: exit 1. The base of all others."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)

    def __str__(self) -> str:
        """Message, then one indented line per problem."""
        return "\n".join([self.message, *(f"  {problem}" for problem in self.problems)])


class InputError(BundleError):
    """Bad usage, or a bad script: exit 2."""

    exit_code = 2


class ResolveError(BundleError):
    """A script cannot be resolved for a target: exit 3."""

    exit_code = 3


class FetchError(BundleError):
    """A file could not be fetched or built: exit 4."""

    exit_code = 4


class NoWheelError(ResolveError):
    """No file of some *packages* fits the target: exit 3. Another Python may have one."""

    packages: frozenset[str] = frozenset()
    """Their normalised names."""


class NotBuiltError(FetchError):
    """The same, but there are sources, which are not allowed to be built: exit 4."""

    packages: frozenset[str] = frozenset()
    """The normalised names of all of them."""


class IntegrityError(BundleError):
    """Something does not match its digest, is missing, or is extra: exit 5."""

    exit_code = 5


class SignatureError(BundleError):
    """A signature is missing, wrong, or by nobody allowed: exit 6."""

    exit_code = 6


class NotInBundleError(BundleError):
    """The bundle does not hold what the script or the node needs: exit 7."""

    exit_code = 7


class JobsFailedError(BundleError):
    """Jobs failed: exit 8."""

    exit_code = 8


class OutOfDateError(BundleError):
    """The bundle is out of date: exit 9."""

    exit_code = 9
