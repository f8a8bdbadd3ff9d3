"""`offline-bundle demo`: in short here, and from an installed wheel where the index may be asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from offline_bundle.cli import run_command_line
from offline_bundle.runner import demo
from offline_bundle.runner.cli.demo import demo_command
from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.demo_cases import ROOT


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


def test_a_link_in_the_place_of_the_script_is_not_followed(
    steps: list[list[str]], tmp_path: Path
) -> None:
    """Another user may have made it, in a folder that was writable by all."""
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "eval.py").symlink_to(tmp_path / "mine")
    demo.demonstrate(tmp_path / "demo", jobs=3, echo=print)
    assert len(steps) == 3
    assert (tmp_path / "mine").read_text() == "kept"
    assert not (tmp_path / "demo" / "eval.py").is_symlink()


def test_a_folder_of_another_user_is_refused(
    steps: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() == 0:
        os.chown(tmp_path, 12345, -1)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 7)
    with pytest.raises(InputError, match="belongs to another user"):
        demo.demonstrate(tmp_path, jobs=3, echo=print)
    assert not steps
    assert not list(tmp_path.iterdir())
