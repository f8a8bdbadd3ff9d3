"""An update is one rename for the nodes that start jobs meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from tests.support.distributions import make_wheel
from tests.support.pipeline_cases import TARGET, Factory, factory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["factory"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a Linux node")

BODY = "import importlib.metadata\nprint(importlib.metadata.version('leaf'))\n"


def start(factory: Factory, cache: Path) -> str:
    """Start the script on a node with an empty cache; return the version that it found."""
    script = factory.bundle / "scripts/job.py"
    command = [sys.executable, factory.bundle / "run.py", script]
    variables = {
        **os.environ,
        "OFFLINE_BUNDLE_CACHE": str(cache),
        "OFFLINE_BUNDLE_UV": find_uv_bin(),
    }
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def locked_version(factory: Factory, cache: Path) -> str:
    """Return the version of the lock that the environment in *cache* was made from."""
    [marker] = cache.glob("environments/*/complete.json")
    facts = json.loads(marker.read_text())
    return {lock: version for version, lock in factory_locks(factory).items()}[facts["lock"]]


def factory_locks(factory: Factory) -> dict[str, str]:
    """Return version -> lock of all bundles that were seen so far."""
    lock = read_manifest(factory.bundle).scripts["job"].locks[TARGET]
    locks: dict[str, str] = factory.__dict__.setdefault("locks", {})
    locks[lock.packages["leaf"].version] = lock.lock
    return locks


@pytest.mark.slow
def test_every_start_during_a_slow_update_gets_the_old_or_the_new_bundle_whole(
    factory: Factory, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "leaf")
    script = factory.script("leaf", body=BODY)
    factory.build(script)
    factory_locks(factory)
    make_wheel(packages, "leaf", "2.0")
    replace_file = SafeFolder.replace

    def replace_slowly(folder: SafeFolder, source: str, target: str) -> None:
        time.sleep(0.5)
        replace_file(folder, source, target)

    monkeypatch.setattr(SafeFolder, "replace", replace_slowly)
    update = threading.Thread(target=factory.build, args=(script,))
    update.start()
    versions = []
    while update.is_alive():
        cache = tmp_path / f"cache-{len(versions)}"
        versions.append(start(factory, cache))
        assert locked_version(factory, cache) == versions[-1]
    update.join()
    assert len(versions) > 3, "starts in between"
    assert versions == sorted(versions), versions
    assert start(factory, tmp_path / "last") == "2.0"
    raise_for_problems(verify(factory.bundle))
