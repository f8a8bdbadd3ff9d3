"""`offline-bundle demo`: in short here, and from an installed wheel where the index may be asked."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from tests.support.demo_cases import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [made] = folder.glob("*.whl")
    return made


def test_the_script_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert (
            archive.read("offline_bundle/runner/examples/eval.py")
            == (ROOT / "examples/python_uv/eval.py").read_bytes()
        )


@pytest.mark.registry
@pytest.mark.slow
def test_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """Its own environment, its own code: nothing of the clone is on the way."""
    python = tmp_path / "env/bin/python"
    subprocess.run(
        [find_uv(), "venv", "-q", "--python", sys.executable, tmp_path / "env"], check=True
    )
    command = [find_uv(), "pip", "install", "-q", "--python", python, f"{wheel}[embedded]"]
    subprocess.run(command, check=True)
    command = [tmp_path / "env/bin/offline-bundle", "demo", "-j", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("demo/plots/*/plot.png"))) == 2
