from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.cli import cli, run_command_line

if TYPE_CHECKING:
    import pytest


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = run_command_line(cli, ["help", *words], "offline-bundle")
    output = capsys.readouterr()
    return code, output.out + output.err


def test_help_prints_the_manual_of_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = shown(capsys)
    assert code == 0
    for name in cli.list_commands(None):  # type: ignore[arg-type] - the context is not used
        assert f"Usage: offline-bundle {name} " in text
    assert "--strict-imports" in text


def test_help_prints_the_manual_of_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = shown(capsys, "prune")
    assert code == 0
    assert text.startswith("Usage: offline-bundle prune [OPTIONS] DIR\n")
    assert text.count("Usage: ") == 1


def test_help_suggests_a_name_for_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = shown(capsys, "prnue")
    assert code == 2
    assert "did you mean prune" in text
