"""Failed jobs that failed for the same reason, as one group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from offline_bundle.runner.model import Failure

_EXIT_CODE = re.compile(r"evaluator: .*return code -?\d+|exit code -?\d+")
"""Lines that engines add after what the script printed: the exit code alone."""


@dataclass(frozen=True)
class FailureGroup:
    """Jobs with the same state and error."""

    state: str
    message: str
    """The last line of the script's own output; empty if there is none."""
    failures: tuple[Failure, ...]
    """At least one."""


def error_line(tail: str) -> str:
    """Return the line of a console with the reason of a failure: the last one of the script.

    If the script failed, what the evaluator misses afterwards is not the reason.
    """
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    codes = [line for line in lines if _EXIT_CODE.fullmatch(line)]
    added = ("evaluator: ", *codes) if codes else ()
    own = [line for line in lines if not line.startswith(added)]
    return (own or lines or [""])[-1]


def group_failures(failures: Sequence[Failure]) -> list[FailureGroup]:
    """Group failures by state and error, the largest group first."""
    groups: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.state, error_line(failure.tail)), []).append(failure)
    found = [FailureGroup(*key, tuple(members)) for key, members in groups.items()]
    return sorted(found, key=lambda group: -len(group.failures))
