"""What `doctor` finds: one line for each check, with the cure where one is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from offline_bundle.wheelhouse.runtime.errors import BundleError

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    subject: str
    state: State
    text: str
    cure: str = ""
    """What to do; empty for `ok`."""


Check = tuple[str, "Callable[[], Iterable[Finding]]"]
"""The subject, and a function that yields findings; a BundleError of it is a problem."""


def run_checks(checks: Iterable[Check]) -> Iterator[Finding]:
    """Run *checks* one after the other; none stops those that follow."""
    for subject, check in checks:
        try:
            yield from check()
        except BundleError as error:
            yield problem(subject, error)
        except OSError as error:
            yield Finding(subject, "problem", str(error), "correct that and run it again")


def problem(subject: str, error: BundleError, state: State = "problem") -> Finding:
    """Return the finding of an error."""
    return Finding(subject, state, "; ".join(str(error).splitlines()), error.hint or "")
