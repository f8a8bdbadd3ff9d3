"""The progress display: lines in a log, a live line on a terminal, nothing when quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.cli.kit import progress as display
from offline_bundle.wheelhouse.cli.kit.progress import show_progress

if TYPE_CHECKING:
    import pytest


def test_quiet_display_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for options in ({"is_quiet": True}, {"is_quiet": False, "in_log": False}):
        with show_progress(**options) as progress:
            progress.step("Resolving")
            progress.begin("Fetching", files=1, size=10)
            progress.advance(10)
            progress.file_done()
            progress.items("jobs", done=1, total=1, text="done")
    assert capsys.readouterr() == ("", "")


def test_log_has_one_line_per_step(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(is_quiet=False) as progress:
        progress.step("Resolving eval.py")
        progress.begin("Fetching", files=2, size=2048)
        progress.advance(1024)
        progress.file_done()
        progress.begin("Packing bundle")
    assert capsys.readouterr() == (
        "",
        "Resolving eval.py …\nFetching 2 files, 2 KiB …\nPacking bundle …\n",
    )


def test_untrusted_text_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(is_quiet=False) as progress:
        progress.step("a\x1b[31m")
        progress.begin("b\x9b")
        progress.items("jobs", done=1, total=1, text="c\u202e")
    assert capsys.readouterr().err == "a\\x1b[31m …\nb\\x9b …\n1 of 1 jobs: c\\u202e\n"


def test_log_has_lines_during_long_transfers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "_SECONDS_BETWEEN_LINES", 0.0)
    with show_progress(is_quiet=False) as progress:
        progress.begin("Fetching", files=3)
        for _ in range(3):
            progress.advance(1024)
            progress.file_done()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["  1 KiB so far", "  2 KiB so far"]
    assert lines[1].endswith("2 files remaining")


def test_log_has_counts_of_items_when_they_change(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(is_quiet=False) as progress:
        for done in (0, 0, 1, 2, 2):
            progress.items("jobs", done=done, total=2, text=f"{2 - done} running")
    assert capsys.readouterr().err.splitlines() == [
        "0 of 2 jobs: 2 running",
        "2 of 2 jobs: 0 running",
    ]
