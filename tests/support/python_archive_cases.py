"""Shared by the unit and integration tests: Unpacking interpreters: real archives are extracted as
they are, hostile ones are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("untouched")
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder
