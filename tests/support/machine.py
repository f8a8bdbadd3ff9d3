"""What tests need of the machine, or are skipped for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def pyenv_interpreter(minor: str) -> str:
    """A CPython of *minor*, of pyenv's; the test is skipped where there is none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = next((str(path) for path in sorted(root.glob(f"versions/{minor}.*/bin/python{minor}"))), None)
    return found or pytest.skip(f"pyenv has no Python {minor}")


def bubblewrap() -> str:
    """The path of bwrap; the test is skipped where there is none (not in CI)."""
    found = shutil.which("bwrap")
    if not found and os.environ.get("CI"):
        pytest.fail("bubblewrap is not installed: `apt-get install bubblewrap`")
    return found or pytest.skip("bubblewrap is not installed")
