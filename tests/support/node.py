"""A node of an air-gapped site: another user, a read-only share, and no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.machine import bubblewrap

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_NOBODY = 65534


class Node:
    """A user that can write to `folder` only; the rest of the machine is read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = python_for_everybody()
        self._wrap = [
            bubblewrap(),
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--unshare-net",
        ]
        if os.getuid() == 0:
            user = ["--reuid", f"{_NOBODY}", "--regid", f"{_NOBODY}", "--clear-groups"]
            self._wrap = ["setpriv", *user, *self._wrap]
            os.chown(folder, _NOBODY, _NOBODY)

    def give(self, path: Path) -> Path:
        """Make what lies at *path*, below the folder, the user's own."""
        for place in (path, *path.rglob("*")) if os.getuid() == 0 else ():
            os.chown(place, _NOBODY, _NOBODY, follow_symlinks=False)
        return path

    def run(
        self, *command: str | Path, expect: int = 0, **variables: str | Path
    ) -> subprocess.CompletedProcess[str]:
        """Run in a folder of the node, with *variables* and no other variable of this process."""
        job = Path(tempfile.mkdtemp(dir=self.folder))
        self.give(job)
        environment = {
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
        }
        environment |= {name: str(text) for name, text in variables.items()}
        done = subprocess.run(
            [
                *self._wrap,
                "--bind",
                str(self.folder),
                str(self.folder),
                "--chdir",
                str(job),
                *map(str, command),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done


@contextmanager
def site() -> Iterator[tuple[Path, Node]]:
    """A folder that every user can read, for the share, and a node beside it."""
    folder = Path(tempfile.mkdtemp(prefix="site-"))
    try:
        folder.chmod(0o755)
        (folder / "node").mkdir()
        (folder / "share").mkdir()
        yield folder / "share", Node(folder / "node")
    finally:
        shutil.rmtree(folder)


def python_for_everybody() -> str:
    """Return a Python of this minor version that another user can run too."""
    found = shutil.which(f"python{PYTHON}", path=os.defpath) if os.getuid() == 0 else sys.executable
    if not found and os.environ.get("CI"):
        pytest.fail(f"there is no python{PYTHON} for every user: install the system's")
    return found or pytest.skip(f"there is no python{PYTHON} that every user can run")
