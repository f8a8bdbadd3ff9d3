"""Record the terminal of README as docs/terminal.svg, from real commands: `make recording`.

The script is built, shown, packed, unpacked, verified and run without a network, in a temporary
folder. Times and sizes differ between runs; all other output is the same.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "terminal.svg"
COLUMNS = 104
SCRIPT = ROOT / "examples" / "pyansys" / "pipe_flow.py"
COMMANDS = (
    "head -4 pipe_flow.py",
    "build-offline-bundle pipe_flow.py -o bundle",
    "offline-bundle show bundle",
    "offline-bundle pack bundle -o bundle.tar",
    "offline-bundle unpack bundle.tar -o share",
    "offline-bundle verify share",
    "offline-bundle run pipe_flow.py --bundle share --no-network",
)


def main(picture: Path = PICTURE) -> int:
    """Run the commands in order. Return 0, or the exit code of the first command that fails."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory(prefix="recording-") as folder:
        shutil.copy(SCRIPT, folder)
        for command in COMMANDS:
            code, output = run(command, Path(folder))
            if code:
                sys.stderr.write(output)
                return code
            console.print(Text.assemble(("$ ", "green"), (command, "bold")))
            console.print(Text.from_ansi(final_lines(output)))
    drawing = console.export_svg(title="offline-bundle", theme=MONOKAI, unique_id="recording")
    picture.write_text(without_fonts(drawing), encoding="utf-8")
    return 0


def without_fonts(drawing: str) -> str:
    """Remove remote fonts: readers may have no network, and each system has a monospace font."""
    return re.sub(r"\s*@font-face \{.*?\}", "", drawing, flags=re.DOTALL)


def run(command: str, folder: Path) -> tuple[int, str]:
    """Run a command on a pseudo-terminal. Return its exit code and its output."""
    programs = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
        "COLUMNS": str(COLUMNS),
        "TERM": "xterm-256color",
        "OFFLINE_BUNDLE_CACHE": str(folder / ".cache"),
    }
    environment.pop("NO_COLOR", None)
    reader, terminal = pty.openpty()
    with subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        output = b""
        while chunk := read(reader):
            output += chunk
    os.close(reader)
    return process.returncode, output.decode()


def read(terminal: int) -> bytes:
    """Read the next bytes; none after the other end is closed, which Linux reports as an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def final_lines(output: str) -> str:
    """Return the lines that stay on the screen, without those that a progress bar overwrote."""
    lines: list[str] = []
    for line in output.replace("\r\n", "\n").split("\n"):
        ups = len(re.findall(r"\x1b\[1A", line))
        if ups:
            del lines[len(lines) - ups :]
        lines.append(re.sub(r"\x1b\[\??[0-9;]*[A-LN-Za-ln-z]", "", line).rpartition("\r")[2])
    return "\n".join(lines).rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
