"""Tables: one kind for all commands, on a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.cli.output import print_table
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

if TYPE_CHECKING:
    import pytest

TITLES = ("package", "size", "state", "in")
ROWS = [
    ("alpha", "1", ("done", "green"), "a " * 60 + "end"),
    ("[bold]b", "1000", ("lost", "red"), ""),
]
CODE = f"from offline_bundle.wheelhouse.cli.output import print_table; print_table({TITLES!r}, {ROWS!r}, numbers=['size'])"


def on_a_terminal(columns: int, **variables: str) -> str:
    """What the table is on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **variables}
    environment.pop("NO_COLOR", None) if "NO_COLOR" not in variables else None
    subprocess.run([sys.executable, "-c", CODE], stdout=theirs, env=environment, check=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            os.close(ours)
            return shown.decode().replace("\r\n", "\n")


def test_in_a_pipe_each_row_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TITLES, ROWS, numbers={"size"})
    assert capsys.readouterr().out.splitlines() == [
        "package  size  state  in",
        "alpha       1  done   " + "a " * 60 + "end",
        "[bold]b  1000  lost",
    ]


def test_on_a_terminal_rows_are_folded_and_coloured() -> None:
    shown = on_a_terminal(60)
    assert "\x1b[32mdone" in shown
    assert "\x1b[31mlost" in shown
    assert len(shown.splitlines()) > 3
    assert "end" in shown


def test_colours_can_be_refused() -> None:
    shown = on_a_terminal(200, NO_COLOR="1")
    assert "\x1b[3" not in shown
    assert "done" in shown


def test_an_empty_table_has_its_titles(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


def test_numbers_and_sizes() -> None:
    assert (count(1, "file"), count(1234, "file")) == ("1 file", "1,234 files")
    assert (format_size(999), format_size(1500), format_size(40_700_000)) == (
        "999 B",
        "1.5 kB",
        "40.7 MB",
    )
