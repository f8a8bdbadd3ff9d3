"""Text output: tables on a terminal and in a pipe, sizes, untrusted text."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from tests.support.output_cases import ROWS, TITLES

CODE = (
    "from offline_bundle.wheelhouse.cli.kit.output import print_table; "
    f"print_table({TITLES!r}, {ROWS!r}, numbers=['size'])"
)


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


def test_table_on_a_terminal_is_wrapped_and_coloured() -> None:
    shown = on_a_terminal(60)
    assert "\x1b[32mdone" in shown
    assert "\x1b[31mlost" in shown
    assert len(shown.splitlines()) > 3
    assert "end" in shown


def test_no_color_is_respected() -> None:
    shown = on_a_terminal(200, NO_COLOR="1")
    assert "\x1b[3" not in shown
    assert "done" in shown
