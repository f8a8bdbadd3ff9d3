"""The end of a job's console output, for messages and pages."""

from __future__ import annotations

import os
from pathlib import Path

from offline_bundle.wheelhouse.runtime.disk.files import open_regular

_TAIL_BYTES = 8192


def console_tail(console: Path, lines: int) -> str:
    """Return the last *lines* of a console; empty if the job removed it.

    The file may be large and may contain any bytes.
    """
    try:
        with open_regular(console, follow_links=True) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            text = stream.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip("\n").split("\n")[-lines:])
