from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from offline_bundle.wheelhouse.store.verify import verify

if TYPE_CHECKING:
    import random

ROOT = Path(__file__).parents[2]


OLD = {f"p{number}": "1.0" for number in range(16)}


NEW = {**dict.fromkeys(list(OLD)[:6], "2.0"), **{f"q{number}": "1.0" for number in range(6)}}


def is_whole(bundle: Path) -> bool:
    report = verify(bundle)
    return report.ok


_FORKS = """
for _ in sys.stdin:  # a process for each line, and this one waits for its end
    child = os.fork()
    if not child:
        break
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
else:
    sys.exit()
"""


class Victim:
    """A program to kill repeatedly: a new process each time, with its imports loaded once."""

    def __init__(self, imports: str, body: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import os, sys\n{imports}{_FORKS}{body}",
                *map(str, arguments),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def kill_at_random(self, chance: random.Random, *, within: float = 0.2) -> None:
        """Start it, and kill it some moments later."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        time.sleep(chance.random() * within)
        os.kill(child, signal.SIGKILL)
        assert int(self._process.stdout.readline()) == signal.SIGKILL
