"""The end of a job's console output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.results.console import console_tail

if TYPE_CHECKING:
    from pathlib import Path

LOG = (
    "2026-01-01 10:00:00,717 INFO Start execution script of offline-bundle\n"
    "2026-01-01 10:00:00,730 DEBUG Run /usr/bin/python3 -S /share/run.py --bundle /share eval.py\n"
)
OWN = "2026-01-01 10:00:01,000 INFO mesh read\nKeyError: 'x'"


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        (LOG + OWN + "\n", OWN),
        (OWN, OWN),
        ("a\nb\nc\nd\ne\n", "c\nd\ne"),
        (LOG, ""),
        (LOG.splitlines()[0], LOG.splitlines()[0]),
        ("", ""),
    ],
)
def test_a_tail_begins_with_the_script(tmp_path: Path, text: str, tail: str) -> None:
    console = tmp_path / "console_output.txt"
    console.write_text(text)
    assert console_tail(console, 3) == tail


def test_a_console_that_is_gone_has_no_tail(tmp_path: Path) -> None:
    assert console_tail(tmp_path / "console_output.txt", 3) == ""
