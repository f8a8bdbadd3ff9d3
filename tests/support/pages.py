"""The commands of a page, and a shell that runs them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path


def shell_blocks(page: Path) -> list[str]:
    """Return the page's blocks of shell commands (fenced as `sh`), in order."""
    return re.findall(
        r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


_COMMAND = r"(?:build-offline-bundle|offline-bundle) (?:[^`\n]*\\\n)*[^`\n]*"


def own_commands(page: Path) -> list[list[str]]:
    """Return the words of each `offline-bundle` command of a page, after the program's name.

    They are in indented lines, in blocks, and in the text. What follows `--` is left out.
    """
    text = page.read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"^```(?:\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(rf"^ {{4}}({_COMMAND})$", text, re.MULTILINE)
    lines += re.findall(rf"^({_COMMAND})$", blocks, re.MULTILINE)
    lines += re.findall(rf"`({_COMMAND})`", text)
    lines = [re.sub(r"\s# .*|>>.*|\s{3,}[a-z].*|\\(?=[\n|])|…", "", line) for line in lines]
    words = [shlex.split(line.partition(" -- ")[0]) for line in lines]
    return [["build", *rest] if name.startswith("build-") else rest for name, *rest in words]


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
