"""The shell commands of a page, and a shell that runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def shell_blocks(page: Path) -> list[str]:
    """Return the page's blocks of shell commands (fenced as `sh`), in order."""
    return re.findall(
        r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def type_in(blocks: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the blocks in one shell that stops at the first failure.

    The programs of this Python are on PATH.
    """
    programs = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
        **variables,
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
