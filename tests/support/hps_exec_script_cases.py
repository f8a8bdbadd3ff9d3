"""Shared by the unit and integration tests: The execution script: its parts alone, and run on real
bundles against the `ansys.rep` of the embedded HPS.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    Execute = Callable[..., dict[str, Any]]


ROOT = Path(__file__).parents[2]


SCRIPT = ROOT / "runner" / "standalone" / "hps_exec_script.py"


SHIM = ROOT / "runner" / "hps_server" / "evaluation" / "shim"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SHIM))
    specification = importlib.util.spec_from_file_location("exec_script_under_test", SCRIPT)
    assert specification
    assert specification.loader
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    yield loaded
    for name in set(sys.modules) - before:
        if name.startswith("ansys.rep"):
            del sys.modules[name]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task's directory, with a cache of its own."""
    directory = tmp_path / "task"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return directory


def put(task: Path, **contents: str) -> list[dict[str, Any]]:
    """Write input files `NAME.py`; return them as HPS names them."""
    files = []
    for name, content in contents.items():
        path = task / f"{name}.py"
        path.write_text(content)
        files.append({"name": name, "path": str(path), "type": "text/plain", "monitor": False})
    return files
