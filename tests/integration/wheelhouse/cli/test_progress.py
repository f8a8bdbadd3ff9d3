"""The progress display: lines in a log, a live line on a terminal, nothing when quiet."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

CODE = """
from offline_bundle.wheelhouse.cli.kit.progress import show_progress
with show_progress(is_quiet=False) as progress:
    progress.step("Resolving [bold]eval.py")
    progress.begin("Fetching", files=2, size=2048)
    progress.advance(1024)
    progress.file_done()
    progress.items("jobs", done=1, total=2, text="1 running")
"""


def test_terminal_has_one_live_line_that_is_removed() -> None:
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", CODE], stderr=terminal, env=environment) as done:
        os.close(terminal)
        output = b""
        try:
            while chunk := os.read(controller, 1 << 16):
                output += chunk
        except OSError:  # Linux reports EIO when the last writer has closed the terminal
            pass
    os.close(controller)
    assert done.returncode == 0
    assert b"1/2 jobs" in output
    assert output.rstrip().endswith(b"\x1b[2K")
