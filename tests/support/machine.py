"""Interpreters of this machine; without them, tests are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pyenv_interpreter(minor: str) -> str:
    """A CPython of *minor*, of pyenv's; the test is skipped where there is none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = next(
        (str(path) for path in sorted(root.glob(f"versions/{minor}.*/bin/python{minor}"))), None
    )
    return found or pytest.skip(f"pyenv has no Python {minor}")
