"""What clusters for tests have in common: daemons in namespaces, and commands that reach into them.

Their processes end with the process that keeps the namespaces open, also if a test is killed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

START_SECONDS = 60.0
# PATH at import: later, a test may put other programs in front.
SYSTEM_PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"


def require_root() -> None:
    """Skip the test for other users; fail it in CI."""
    if os.geteuid() != 0:
        reason = "only root can start the daemons of a cluster in namespaces of their own"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


class Cluster:
    """A supervisor process in namespaces, which ends when its standard input does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs in its environment to be a user of this cluster."""
        raise NotImplementedError

    def logs(self) -> Iterable[Path]:
        """The logs whose ends explain a failure."""
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        if self.process:
            assert self.process.stdin
            self.process.stdin.close()
            self.process.wait(30)

    def run(self, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the cluster; it may take so long."""
        return subprocess.run(
            command,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def ask(self, *command: str, seconds: float = 60) -> str:
        """Return the output of a command of the scheduler, which must succeed."""
        done = self.run(*command, seconds=seconds)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.tell()}"
        return done.stdout

    def tell(self) -> str:
        """The ends of the logs."""
        return "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in self.logs()
        )

    def start_supervisor(
        self,
        namespaces: Sequence[str],
        program: str,
        arguments: Sequence[str],
        variables: Mapping[str, str],
    ) -> int:
        """Start the shell *program* in new *namespaces*; return the process that keeps them."""
        options = [f"--{name}" for name in namespaces]
        command = ["unshare", *options, "--fork", "--kill-child", "--mount-proc", "--"]
        with (self.folder / "supervisor.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "sh", "-c", program, "supervisor", str(self.folder), *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **variables, "PATH": SYSTEM_PATH},
            )
        return self.process.pid

    def write_commands(self, folder: Path, names: Sequence[str], text: str) -> None:
        """Write a script for each command of this machine: *text* before its path and arguments."""
        for name in names:
            command = folder / name
            real = shutil.which(name, path=SYSTEM_PATH)
            command.write_text(f'#!/bin/sh\n{text.replace("REAL", str(real))} {real} "$@"\n')
            command.chmod(command.stat().st_mode | stat.S_IXUSR)
