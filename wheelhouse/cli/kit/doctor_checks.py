"""The checks of `doctor`: the result of each is one line, with the cure where one is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from offline_bundle.wheelhouse.runtime.errors import BundleError

State = Literal["ok", "warning", "problem"]


class CheckResult(NamedTuple):
    """The result of a check."""

    state: State
    text: str
    cure: str = ""
    """What to do; empty for `ok`."""


Check = tuple[str, Callable[[], CheckResult]]
"""The subject, and a function that checks it; a BundleError of it is a problem."""


def run_checks(checks: Iterable[Check]) -> Iterator[tuple[str, CheckResult]]:
    """Run *checks* one after the other; none stops those that follow."""
    for subject, check in checks:
        try:
            yield subject, check()
        except BundleError as error:
            yield subject, result_of(error)
        except OSError as error:
            yield subject, CheckResult("problem", str(error), "correct that and run it again")


def result_of(error: BundleError, state: State = "problem") -> CheckResult:
    """Return the result of a check that raised *error*."""
    return CheckResult(state, "; ".join(str(error).splitlines()), error.hint or "")
