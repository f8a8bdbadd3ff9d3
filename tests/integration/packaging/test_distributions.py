"""What a release publishes: `make package`, in a folder of the test's own."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_wheel_from_the_sdist_has_every_module(distributions: Path) -> None:
    """The folders of the package are links in a checkout, and real folders in the sdist."""
    [wheel] = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}
    expected = {
        f"offline_bundle/{path.relative_to(ROOT).as_posix()}"
        for room in ("builder", "runner", "wheelhouse")
        for path in (ROOT / room).rglob("*.py")
    }
    assert len(expected) > 100
    assert expected <= names


def test_sdist_contains_no_caches_and_each_module_once(distributions: Path) -> None:
    [sdist] = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert not [name for name in names if "__pycache__" in name or "_cache/" in name]
    for room in ("builder", "runner", "wheelhouse"):
        assert f"offline_bundle/{room}/__init__.py" in names
        assert not [name for name in names if name.startswith(f"{room}/")]


def test_metadata_and_long_description_are_accepted(distributions: Path) -> None:
    paths = [str(path) for path in sorted(distributions.iterdir())]
    command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
