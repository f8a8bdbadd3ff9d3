"""Record what README shows of a terminal: real commands, their real output, as docs/terminal.svg. `make recording`.

The script is built, shown, verified, packed, unpacked and run with the network cut, in a folder of its own. Times and
sizes are those of the run; the rest is the same each time.
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
    "offline-bundle run pipe_flow.py --bundle share --sealed",
)


def main(picture: Path = PICTURE) -> int:
    """Run the commands in order; the exit code is that of the first that fails."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory(prefix="recording-") as folder:
        shutil.copy(SCRIPT, folder)
        for command in COMMANDS:
            code, shown = run(command, Path(folder))
            if code:
                sys.stderr.write(shown)
                return code
            console.print(Text.assemble(("$ ", "green"), (command, "bold")))
            console.print(Text.from_ansi(final_lines(shown)))
    drawn = console.export_svg(title="offline-bundle", theme=MONOKAI, unique_id="recording")
    picture.write_text(without_fonts(drawn), encoding="utf-8")
    return 0


def without_fonts(drawn: str) -> str:
    """Leave out fonts from elsewhere: those who look at it may have no network, and each system has a monospace one."""
    return re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)


def run(command: str, folder: Path) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and all that it wrote there."""
    programs = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
        "COLUMNS": str(COLUMNS),
        "TERM": "xterm-256color",
        "OFFLINE_BUNDLE_CACHE": str(folder / ".cache"),
    }
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        while chunk := read(ours):
            shown += chunk
    os.close(ours)
    return process.returncode, shown.decode()


def read(terminal: int) -> bytes:
    """Read what is there; nothing once the other side is closed, which Linux tells as an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def final_lines(shown: str) -> str:
    """What stays on the screen: without lines that a progress bar wrote over, and without its cursor's moves."""
    kept: list[str] = []
    for line in shown.replace("\r\n", "\n").split("\n"):
        ups = len(re.findall(r"\x1b\[1A", line))
        if ups:
            del kept[len(kept) - ups :]
        kept.append(re.sub(r"\x1b\[\??[0-9;]*[A-LN-Za-ln-z]", "", line).rpartition("\r")[2])
    return "\n".join(kept).rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
