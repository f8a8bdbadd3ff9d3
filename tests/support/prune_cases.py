from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.store.verify import verify
from tests.support.reviewed import LINUX, MAC, WINDOWS, Shelf

if TYPE_CHECKING:
    from pathlib import Path


NOW = timedelta()


LINUX_UV, MAC_UV = "x86_64-manylinux_2_17", "aarch64-apple-darwin"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two scripts, of which `study` alone needs scipy, and runs on a Mac too."""
    shelf = Shelf()
    numpy, scipy = shelf.wheel("numpy"), shelf.wheel("scipy", size=900)
    scripts = {
        "eval": {LINUX: [numpy], WINDOWS: [numpy]},
        "study": {LINUX: [numpy, scipy], MAC: [numpy, scipy]},
    }
    shelf.write(tmp_path / "bundle", shelf.manifest(scripts, uv=[LINUX_UV, MAC_UV]))
    return tmp_path / "bundle"


def files_of(bundle: Path) -> dict[str, bytes]:
    return {
        path.relative_to(bundle).as_posix(): path.read_bytes()
        for path in bundle.rglob("*")
        if path.is_file() and ".writer" not in path.parts
    }


def assert_whole(bundle: Path) -> None:
    report = verify(bundle)
    assert report.problems == ()
