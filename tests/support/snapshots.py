"""Snapshots: output that is compared with a committed file.

After an intended change, write the files again and review the difference:

    UPDATE_SNAPSHOTS=1 pytest tests/test_errors.py tests/test_snapshots.py
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "snapshots"


def check_snapshot(name: str, text: str) -> None:
    """Compare *text* with `tests/snapshots/NAME`; with UPDATE_SNAPSHOTS set, write it first."""
    path = FOLDER / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    difference = difflib.unified_diff(expected.splitlines(), text.splitlines(), n=1)
    assert list(difference) == []
