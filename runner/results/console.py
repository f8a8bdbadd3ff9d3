"""The end of a job's console output, for messages and pages."""

from __future__ import annotations

import os
import re
from pathlib import Path

from offline_bundle.wheelhouse.runtime.disk.files import open_regular

_TAIL_BYTES = 8192
_START = re.compile(r"(?m)^.* DEBUG Run .* --bundle .*\n")
"""The last line of the execution script's log before the script starts."""


def console_tail(console: Path, lines: int) -> str:
    """Return the last *lines* of a console, from the start of the script; empty if it is removed.

    The file may be large and may contain any bytes.
    """
    try:
        with open_regular(console, follow_links=True) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            text = stream.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
    text = _START.split(text)[-1]
    return "\n".join(text.rstrip("\n").split("\n")[-lines:])
