from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(path: Path, seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path.read_text()


def wait_until_gone(process_id: int, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while is_running(process_id):
        assert time.monotonic() < deadline, f"process {process_id} is still there"
        time.sleep(0.02)
