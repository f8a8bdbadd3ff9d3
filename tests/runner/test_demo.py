"""`offline-bundle demo`: in short here, and from an installed wheel where the index may be asked."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.cli import run_command_line
from offline_bundle.runner import demo
from offline_bundle.runner.cli.demo import demo_command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would be started; `submit` leaves three plots."""
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        words = command[command.index("offline_bundle") + 1 :]
        seen.append(words)
        if words[0] == "submit":
            for number in range(3):
                place = Path(words[-1]) / f"job-{number}"
                place.mkdir(parents=True)
                (place / "plot.png").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(demo, "no_network_command", lambda command: ["sealed", *command])
    monkeypatch.setattr("offline_bundle.runner.demo.subprocess.run", run)
    monkeypatch.setattr(demo, "find_interpreter", lambda _: "python3.12")
    return seen


def test_the_steps_in_order(
    steps: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo/plots/job-of-last-time").mkdir(parents=True)
    assert run_command_line(demo_command, ["-j", "3"], "demo") == 0
    assert [words[0] for words in steps] == ["build", "verify", "submit"]
    assert (tmp_path / "demo/eval.py").read_text() == (
        ROOT / "examples/python_uv/eval.py"
    ).read_text()
    said = capsys.readouterr().out
    assert "$ offline-bundle build demo/eval.py -o demo/bundle" in said
    assert "3 plots, made without a network" in said
    assert not (tmp_path / "demo/plots/job-of-last-time").exists()


def test_jobs_without_a_plot_are_told(
    steps: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(demo_command, ["-o", str(tmp_path / "d")], "demo") == 8
    assert "10 jobs wrote 3 plots" in capsys.readouterr().err
    assert len(steps) == 3


def test_a_step_that_fails_ends_it_with_its_exit_code(
    steps: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "offline_bundle.runner.demo.subprocess.run",
        lambda command, **_: subprocess.CompletedProcess(command, 4),
    )
    assert run_command_line(demo_command, [], "demo") == 4
    assert (
        "`offline-bundle build demo/eval.py -o demo/bundle` failed with exit code 4"
        in capsys.readouterr().err
    )
    assert steps == []


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_command_line(demo_command, ["-o", str(tmp_path / "file" / "d")], "demo") == 1
    assert f"cannot use {tmp_path}/file/d" in capsys.readouterr().err


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
