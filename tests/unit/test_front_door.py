"""The front door: commands, exit codes and messages, mostly in processes of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from offline_bundle import __version__
from tests.support import command_line

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.front_door_cases import bundle, script

__all__ = ["bundle", "script"]


pytestmark = pytest.mark.measured


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_without_a_command_the_help_is_shown(words: list[str]) -> None:
    done = command_line.call(*words)
    assert done.code == 0
    assert done.out.startswith("Usage: offline-bundle")
    assert done.err == ""


def test_the_version_is_shown() -> None:
    assert command_line.call("-V").out == command_line.call("--version").out
    assert __version__ in command_line.call("-V").out


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["buid"], "did you mean build?"),
        (["verfy", "x"], "did you mean verify?"),
        (["verify", "x", "--quite"], "did you mean --quiet?"),
    ],
)
def test_unknown_words_get_a_suggestion(words: list[str], suggestion: str) -> None:
    done = command_line.call(*words)
    assert done.code == 2
    assert suggestion in done.err


@pytest.mark.parametrize("command", ["build", "run", "verify", "show"])
def test_every_command_explains_itself(command: str) -> None:
    assert command in command_line.call("--help").out
    assert "Usage:" in command_line.call(command, "--help").out


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["build"],
        ["build", "x.py"],
        ["build", "x.py", "-o", "b", "--nosuch"],
        ["build", "nosuch.py", "-o", "b"],
        ["build", "job.py", "-o", "b", "--python-version", "3"],
        ["build", "job.py", "-o", "b", "--python-platform", "beos"],
        ["build", "job.py", "-o", "b", "--constraint", "nosuch.txt"],
        ["build", "job.py", "-o", "b", "--no-uv", "--uv-version", "0.13.9"],
        ["build", "job.py", "-o", "job.py"],
        ["verify", "nosuch"],
        ["show", "nosuch"],
        ["show", "."],
    ],
)
def test_bad_usage_is_exit_2_in_words_and_in_json(
    tmp_path: Path, script: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(script.parent)
    plain = command_line.call(*words)
    assert plain.code == 2
    assert plain.err.strip()
    assert plain.out == ""
    assert "Traceback" not in plain.err
    told = command_line.call(*words, "--json")
    assert told.code == 2
    if "nosuch" not in words[:1]:
        error = json.loads(told.out)["error"]
        assert error["code"] == 2
        assert error["message"]
        assert set(error) == {"code", "message", "hint"}
    assert not (tmp_path / "b").exists()
