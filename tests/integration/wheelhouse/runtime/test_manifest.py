from __future__ import annotations

import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    Manifest,
    render_checksums,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(
    not shutil.which("sha256sum"), reason="coreutils' sha256sum is the program under test"
)
def test_coreutils_accepts_the_checksums(tmp_path: Path) -> None:
    names = ["plain", "with space", "-dash", "ünïcode", "a+b!c", "sub/x"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_text(name)
    files = {
        n: BundledFile(sha256=hashlib.sha256(n.encode()).hexdigest(), size=len(n.encode()))
        for n in names
    }
    manifest = Manifest(created_by="x", timestamp="2026-01-01T00:00:00Z", files=files)
    (tmp_path / "bundle.json").write_bytes(manifest.to_json())
    (tmp_path / "SHA256SUMS").write_bytes(render_checksums(manifest, manifest.to_json()))
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "sub/x").write_text("y")
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 1
