"""Shared by the unit and integration tests: Shell completion: in real shells on a terminal, and
without needless imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of two scripts, a script and another folder beside it, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "mine.py").touch()
    (tmp_path / "share.tar").touch()
    return make_bundle(
        tmp_path / "share", {"eval": BundleScript(), "study": BundleScript()}, python="3.12"
    )


"""How each shell is started interactively, and what it reads then; zsh without `compinit`."""
