"""Unit tests start no process: an attempt fails the test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_STARTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system"})
_running: list[str] = []


def _check_event(event: str, _: tuple[object, ...]) -> None:
    if event in _STARTS and _running:
        raise RuntimeError(f"{_running[-1]} starts a process: move it to tests/integration")


sys.addaudithook(_check_event)


@pytest.fixture(autouse=True)
def no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test, or a fixture that it uses, which starts a process."""
    _running.append(request.node.nodeid)
    yield
    _running.pop()
