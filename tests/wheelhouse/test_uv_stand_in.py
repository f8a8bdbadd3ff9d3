from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from offline_bundle.wheelhouse.runtime.launcher import uv_shim

ROOT = Path(__file__).resolve().parents[2]
HELD = f"""import sys
from {uv_shim.__name__} import link_environment
print(link_environment(sys.argv[1]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "home" / "env" / "bin").mkdir(parents=True)
    return tmp_path / "home"


def test_each_start_has_a_folder_of_its_own_until_its_script_ends(
    home: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HELD, str(home)]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as start:
        assert start.stdin
        assert start.stdout
        first = Path(start.stdout.readline().strip())
        assert (first / "env" / "bin").samefile(home / "env" / "bin")
        os.utime(first, (0, 0))

        second = Path(uv_shim.link_environment(str(home)))
        assert second != first
        assert first.is_dir()  # its script runs
        start.stdin.close()
    third = Path(uv_shim.link_environment(str(home)))
    assert {place.name for place in (tmp_path / "tmp").iterdir()} == {second.name, third.name}
    assert (home / "env" / "bin").is_dir()


def test_without_a_place_for_it_the_environment_itself_is_taken(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    assert uv_shim.link_environment(str(home)) == str(home)
