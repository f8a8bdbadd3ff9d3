"""Shared by the unit and integration tests: The execution script: its parts alone, and run on real
bundles against the `ansys.rep` of the embedded HPS.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.wheelhouse.runtime.bundle import manifest as manifest_module
from tests.support.bundles import read_manifest

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


@pytest.fixture
def run(module: ModuleType) -> Execute:
    """Execute with this context; return the parameter values after it."""

    def _run(**given: object) -> dict[str, Any]:
        from ansys.rep.evaluator.task_manager import Context

        document: dict[str, Any] = {
            name: {}
            for name in (
                "environment",
                "parameter_values",
                "resource_requirements",
                "execution_context",
            )
        }
        document |= {
            "input_files": [],
            "output_files": [],
            "output_parameters": [],
            "software": [],
            "expected_return_code": 0,
        }
        context = Context(document | given)
        module.OfflineBundleExecution(context).execute()
        return context.parameter_values

    return _run


def put(task: Path, **contents: str) -> list[dict[str, Any]]:
    """Write input files `NAME.py`; return them as HPS names them."""
    files = []
    for name, content in contents.items():
        path = task / f"{name}.py"
        path.write_text(content)
        files.append({"name": name, "path": str(path), "type": "text/plain", "monitor": False})
    return files


def list_checksums(bundle: Path) -> None:
    """Make the bundle one that can be packed: SHA256SUMS stands in its manifest."""
    document = read_manifest(bundle)
    document["files"]["SHA256SUMS"] = {}
    content = json.dumps(document).encode()
    (bundle / "bundle.json").write_bytes(content)
    manifest = manifest_module.read_manifest(bundle)
    (bundle / "SHA256SUMS").write_bytes(manifest_module.render_checksums(manifest, content))
