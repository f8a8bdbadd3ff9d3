from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


HEADER = """\
# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2", "matplotlib"]
# ///
"""


def write(folder: Path, name: str, source: str = HEADER) -> Path:
    path = folder / name
    path.write_text(source, newline="")
    return path
