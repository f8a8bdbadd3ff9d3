from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from offline_bundle.wheelhouse.runtime.launcher.uv import uv_shim
from offline_bundle.wheelhouse.runtime.names import UV_SHIM
from tests.support.bundles import THIS_PYTHON, BundleScript, make_bundle
from tests.support.launcher_cases import Node

ROOT = Path(__file__).resolve().parents[4]
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


@pytest.mark.parametrize(
    "options",
    [
        ["run"],
        ["run", "--script"],
        ["-q", "run", "-s", "--offline", "--no-project", "--"],
        ["run", "--python", sys.executable, "--script"],
        ["run", "--frozen", f"--python={THIS_PYTHON}", "--script"],
        ["run", "-v", "--no-sync", "-n", "-p", THIS_PYTHON],
    ],
)
def test_options_of_first_lines_are_accepted(options: list[str], tmp_path: Path) -> None:
    node = Node(tmp_path)
    body = "import alpha, sys\nprint(sys.argv[1:])\n"
    make_bundle(node.bundle, {"eval": BundleScript(body=body)})
    done = run_shim(node, *options, node.script(), "-v", "--")
    assert (done.returncode, done.stdout) == (0, "['-v', '--']\n"), done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "use it as `uv run"),
        (["pip", "install", "x"], "use it as `uv run"),
        (["run", "--with", "x", "eval.py"], "use it as `uv run"),
        (["run", "--python"], "use it as `uv run"),
        (["run", "nowhere.py"], "nowhere.py cannot be read: No such file or directory"),
    ],
)
def test_everything_else_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    node = Node(tmp_path)
    make_bundle(node.bundle)
    done = run_shim(node, *words)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def run_shim(node: Node, *words: str | Path) -> subprocess.CompletedProcess[str]:
    shim = node.bundle / UV_SHIM
    shim.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(node.bundle / "runtime" / "launcher" / "uv" / "uv_shim.py", shim)
    command = [sys.executable, str(shim), *map(str, words)]
    return subprocess.run(command, env=node.environ(), capture_output=True, text=True, check=False)
