"""The end of a job's console output, for messages and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TAIL_BYTES = 8192


def console_tail(console: Path, lines: int) -> str:
    """Return the last *lines* of a console; empty if the job removed it.

    The file may be large and may contain any bytes.
    """
    try:
        with console.open("rb") as stream:
            stream.seek(max(0, console.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip("\n").split("\n")[-lines:])
