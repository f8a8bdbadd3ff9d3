"""The terminal picture of README shows the commands of docs/record.py and loads nothing."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def record() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record", ROOT / "docs" / "record.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words_of(picture: Path) -> str:
    """Return the text of the picture without markup."""
    lines = re.findall(r"<text [^>]*>(.*?)</text>", picture.read_text(encoding="utf-8"))
    return html.unescape("".join(lines)).replace("\xa0", " ")


def check(picture: Path, record: ModuleType) -> None:
    words = words_of(picture)
    offsets = [words.find(command) for command in record.COMMANDS]
    assert -1 not in offsets
    assert offsets == sorted(offsets)
    assert "Re = 69413" in words
    assert "url(http" not in picture.read_text(encoding="utf-8")


def test_picture_shows_the_commands_and_loads_nothing(record: ModuleType) -> None:
    check(record.PICTURE, record)


def test_final_lines_omit_what_a_progress_bar_overwrote(record: ModuleType) -> None:
    output = "one\r\nbar 10%\r\n\x1b[1A\x1b[2Kbar 90%\r\n\x1b[1A\x1b[2K\x1b[32mdone\x1b[0m\r\n"
    output += "half\rwhole\r\n"
    assert record.final_lines(output).splitlines() == ["one", "\x1b[32mdone\x1b[0m", "whole"]


@pytest.mark.registry
@pytest.mark.slow
def test_recording_again_gives_a_valid_picture(record: ModuleType, tmp_path: Path) -> None:
    assert record.main(tmp_path / "terminal.svg") == 0
    check(tmp_path / "terminal.svg", record)
