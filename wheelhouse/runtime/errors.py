"""The one hierarchy of errors: message, problems, hint, and the documented exit code.

Every error has what is wrong (`message`) and what to do next (`hint`). Several faults found in one
pass are collected in `problems`, one line each, and raised once. Commands render them; nothing else
prints errors.
"""

import errno
import sys
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from typing import Optional, Union

MOST_PROBLEMS = 20


class BundleError(Exception):
    """An error of the program or the machine, exit code 1. Base class of all other errors."""

    exit_code = 1

    def __init__(
        self, message: str, *, hint: "Optional[str]" = None, problems: "Sequence[str]" = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)

    def add_subject(self, subject: str) -> None:
        """Put *subject*, such as a file or folder, before the message."""
        self.message = f"{subject}: {self.message}"

    def __str__(self) -> str:
        """Message, then one indented line per problem."""
        return "\n".join([self.message, *(f"  {problem}" for problem in self.problems)])


class InputError(BundleError):
    """Bad usage or a bad script, exit code 2."""

    exit_code = 2


class ResolveError(BundleError):
    """A script cannot be resolved for a target, exit code 3."""

    exit_code = 3


class FetchError(BundleError):
    """A file could not be fetched or built, exit code 4."""

    exit_code = 4


class NoWheelError(ResolveError):
    """No file of some *packages* fits the target, exit code 3. Another Python may have one."""

    packages: "frozenset[str]" = frozenset()
    """Normalized names."""


class NotBuiltError(FetchError):
    """No wheel of some *packages* fits, and building from source is not allowed, exit code 4."""

    packages: "frozenset[str]" = frozenset()
    """Normalized names."""


class IntegrityError(BundleError):
    """A file does not match its digest, is missing, or is not in the manifest, exit code 5."""

    exit_code = 5


class SignatureError(BundleError):
    """A signature is missing, wrong, or not by an allowed signer, exit code 6.

    *kind* is one word: absent, wrong, modified, expired, early, revoked, not-allowed, other-signer,
    unchecked (ssh-keygen is missing or too old), or policy (the policy itself is faulty).
    """

    exit_code = 6

    def __init__(
        self,
        message: str,
        *,
        kind: str = "wrong",
        hint: "Optional[str]" = None,
        problems: "Sequence[str]" = (),
    ) -> None:
        super().__init__(message, hint=hint, problems=problems)
        self.kind = kind


class NotInBundleError(BundleError):
    """The bundle does not have what the script or the node needs, exit code 7."""

    exit_code = 7


class JobsFailedError(BundleError):
    """Jobs failed, exit code 8."""

    exit_code = 8


class OutOfDateError(BundleError):
    """The bundle is out of date, exit code 9."""

    exit_code = 9


class AuditError(BundleError):
    """A known vulnerability is open, or a rule of the site is broken, exit code 10."""

    exit_code = 10


def print_error(error: BundleError) -> int:
    """Print *error* and its hint on stderr; return its exit code."""
    from .text import printable_lines

    with suppress(OSError):  # stderr is full: the exit code remains
        print(f"error: {printable_lines(str(error))}", file=sys.stderr)
        if error.hint:
            print(f"hint: {printable_lines(error.hint)}", file=sys.stderr)
    return error.exit_code


def first_problems(problems: "Sequence[str]") -> "list[str]":
    """Return the first problems of a long list, and the number of those left out."""
    more = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
    return [*problems[:MOST_PROBLEMS], *more]


def corrupt_bundle(
    directory: "Union[str, os.PathLike[str]]", files: "Sequence[str]"
) -> IntegrityError:
    """Return the error for *files* of the bundle at *directory* that are missing or changed."""
    return IntegrityError(
        f"{directory} is damaged: {len(files)} of its files are missing or changed",
        problems=first_problems(files),
        hint=f"see `offline-bundle verify {directory}`; build its scripts again into a new folder",
    )


def os_hint(error: OSError) -> str:
    """Return what to do when the operating system refuses a write."""
    hints = {
        errno.ENOSPC: "free some space, or name another folder with -o",
        errno.EDQUOT: "your quota is used up: free some space, or name another folder with -o",
        errno.EROFS: "the file system is read-only: name another folder with -o",
        errno.EACCES: "you may not write there: name another folder with -o",
        errno.EPERM: "you may not write there: name another folder with -o",
    }
    default = "correct that and run the command again"
    return f"{hints.get(error.errno or 0, default)}; the bundle in place is unchanged"


@contextmanager
def translate_os_errors(directory: "Union[str, os.PathLike[str]]") -> "Iterator[None]":
    """Turn an OSError into a BundleError (exit code 1) that names the file and the next step."""
    try:
        yield
    except OSError as error:
        path = error.filename or directory
        reason = error.strerror or str(error)
        raise BundleError(f"{path}: {reason}", hint=os_hint(error)) from error
