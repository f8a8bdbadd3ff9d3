"""What a job said: the end of its console, for messages and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TAIL_BYTES = 8192


def tail_of(console: Path, lines: int) -> str:
    """Read the last *lines* of a console, which may be large, hold any bytes, or be gone by its job's doing."""
    try:
        with console.open("rb") as stream:
            stream.seek(max(0, console.stat().st_size - _TAIL_BYTES))
            last = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(last.rstrip("\n").split("\n")[-lines:])
