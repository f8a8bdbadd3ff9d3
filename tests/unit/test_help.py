from __future__ import annotations

import pytest

from offline_bundle.builder.cli.build import build_command
from offline_bundle.cli import cli, run_command_line
from offline_bundle.runner.cli.submit import SECTIONS as SUBMIT_SECTIONS


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


def test_the_options_of_submit_are_in_sections(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(cli, ["submit", "--help"], "offline-bundle") == 0
    text = capsys.readouterr().out
    titles = ("Options", *dict.fromkeys(SUBMIT_SECTIONS.values()))
    sections = [text.index(f"\n{title}:\n") for title in titles]
    assert sections == sorted(sections)
    assert text.index("  --cores ") > sections[-1]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_options_of_build_are_in_sections(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """`-h` is known whichever program starts `build`; each option is in one section."""
    assert run_command_line(build_command, [option], "build-offline-bundle") == 0
    text = capsys.readouterr().out
    titles = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles[:3] == ["Options", "Nodes", "Scripts and data"]
    names = {name for parameter in build_command.params for name in parameter.opts}
    for name in (*(name for name in names if name.startswith("--")), "--help"):
        assert sum(f"{name} " in f"{line} " for line in text.splitlines() if "  -" in line) >= 1
    assert text.count("  -h, --help ") == 1
