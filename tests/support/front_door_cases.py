"""Shared by the unit and integration tests: The front door: commands, exit codes and messages,
mostly in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.distributions import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.index_server import IndexServer


HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


OFFLINE_BUNDLE = [sys.executable, "-m", "offline_bundle"]


def call(*words: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*OFFLINE_BUNDLE, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def write_script(folder: Path, *dependencies: str, name: str = "job") -> Path:
    path = folder / f"{name}.py"
    path.write_text(
        f'# /// script\n# requires-python = "=={HERE}"\n'
        f'# dependencies = {list(dependencies)!r}\n# ///\nprint("ran")\n'
    )
    return path


@pytest.fixture
def script(tmp_path: Path, packages: Path) -> Path:
    make_wheel(packages, "leaf")
    return write_script(tmp_path, "leaf")


@pytest.fixture
def bundle(tmp_path: Path, script: Path, index: IndexServer) -> Path:
    done = call("build", script, "-o", tmp_path / "bundle", "--default-index", index.url, "--no-uv")
    assert done.returncode == 0, done.stderr
    return tmp_path / "bundle"
