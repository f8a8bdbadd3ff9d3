"""What an error must be like as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "s3cret-of-this-test"
DOCUMENTED = {1, 2, 3, 4, 5, 6, 7, 8, 9}


def faults_of(code: int, expected: int, said: str) -> Iterator[str]:
    """What is wrong with an error as it is shown."""
    if code != expected or code not in DOCUMENTED:
        yield f"exit {code}, not {expected}"
    lines = said.rstrip().splitlines()
    if not any(line.startswith("error: ") for line in lines):
        yield "no line says error:"
    has_hint = any(line.startswith("hint: ") for line in lines)
    if not has_hint and not all("; " in line for line in lines if line.startswith("  ")):
        yield "it does not say what to do next, neither in the end nor with each problem"
    if (
        any(line.startswith("error: ") for line in lines[1:])
        or sum(line.startswith("hint: ") for line in lines) > 1
    ):
        yield "more than one error, or one that does not come first"
    if any(line.startswith(("error: ", "hint: ")) and line.endswith((".", "!")) for line in lines):
        yield "a message ends with a full stop"
    if "Traceback" in said:
        yield "a traceback"
    if SECRET in said:
        yield "a secret"
