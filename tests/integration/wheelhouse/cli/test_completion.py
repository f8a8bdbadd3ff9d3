"""Shell completion: in real shells on a terminal, and without needless imports."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

from tests.support.completion_cases import bundle
from tests.support.programs import find, require

__all__ = ["bundle"]


pytestmark = pytest.mark.measured


PROGRAMS = Path(sys.executable).parent


def test_commands_are_completed_without_imports() -> None:
    code = (
        "import sys, offline_bundle.cli\n"
        "from click.shell_completion import ShellComplete\n"
        "complete = ShellComplete(offline_bundle.cli.cli, {}, 'offline-bundle', '_X')\n"
        "print([item.value for item in complete.get_completions([], 'ver')])\n"
        "heavy = ('offline_bundle.builder', 'offline_bundle.runner', 'rich', 'requests')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['verify']\n[]\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_for_both_programs(shell: str) -> None:
    done = subprocess.run(
        [PROGRAMS / "offline-bundle", "completion", shell],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_OFFLINE_BUNDLE_COMPLETE=" in done.stdout
    assert "_BUILD_OFFLINE_BUNDLE_COMPLETE=" in done.stdout
    if find(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


SHELLS = {
    "bash": (
        ["bash", "--rcfile", "rc", "-i"],
        (
            "PS1='> '; bind 'set enable-bracketed-paste off'\n"
            'eval "$(offline-bundle completion bash)"\necho ready\n'
        ),
    ),
    "zsh": (
        ["zsh", "-i"],
        (
            "offline-bundle completion zsh >made; . ./made; PS1='> '; "
            "unset zle_bracketed_paste\necho ready\n"
        ),
    ),
    "fish": (
        ["fish", "--no-config", "-i", "-C", "source rc"],
        "offline-bundle completion fish | source\necho ready\n",
    ),
}


"""How each shell is started interactively, and what it reads then; zsh without `compinit`."""


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_in_a_real_shell(shell: str, bundle: Path, tmp_path: Path) -> None:
    if shell != "bash":  # part of every system that has make
        require(shell)
    command, startup = SHELLS[shell]
    (tmp_path / "rc").write_text(startup)
    (tmp_path / ".zshrc").symlink_to("rc")
    with Terminal(command, tmp_path) as terminal:
        terminal.wait_for("ready")
        terminal.type("offline-bundle prun\t")
        terminal.wait_for("offline-bundle prune")
        terminal.type(f"{bundle.name[:2]}\t")
        terminal.wait_for(f"prune {bundle.name}")
        terminal.type(" --drop-sc\t")
        terminal.wait_for("--drop-script")
        terminal.type("st\t")
        terminal.wait_for("--drop-script study")
        terminal.type("\x15build-offline-bundle mi\t")
        terminal.wait_for("build-offline-bundle mine.py")


class Terminal:
    """An interactive shell on a terminal of its own, at home in *home*."""

    def __init__(self, command: list[str], home: Path) -> None:
        self._written = ""
        path = f"{PROGRAMS}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": path,
            "TERM": "dumb",
            "HOME": str(home),
            "ZDOTDIR": str(home),
        }
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.execvpe(command[0], command, environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._terminal)
        os.waitpid(self._process, 0)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until the terminal shows *text*, blanks apart; fails after a minute."""
        until = time.monotonic() + 60
        while text not in self._shown():
            assert time.monotonic() < until, self._written
            if select.select([self._terminal], [], [], 1)[0]:
                self._written += os.read(self._terminal, 4096).decode(errors="replace")

    def _shown(self) -> str:
        return " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\x07]|.\x08", "", self._written).split())
