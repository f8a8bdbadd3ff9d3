"""Bundles before and after an update, and what must hold after a fault or a power cut."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uv import find_uv_bin

from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from tests.support.command_line import call, write_script
from tests.support.distributions import make_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REPLACED = ("SHA256SUMS", "report.html", "sbom.cdx.json", "simple/", "scripts/")
"""What an update replaces in place. The launcher reads only the scripts of these."""
OFFLINE_BUNDLE = [sys.executable, "-B", "-m", "offline_bundle"]


@dataclass(frozen=True)
class Update:
    """Two states of one bundle, as folders and as archives."""

    folder: Path
    index: str

    @property
    def old(self) -> Path:
        return self.folder / "old"

    @property
    def new(self) -> Path:
        return self.folder / "new"

    def build(self, bundle: Path) -> list[str]:
        """Return the command that makes *bundle* the new one."""
        flags = ["--no-uv", "--default-index", self.index]
        return [*OFFLINE_BUNDLE, "build", str(self.folder / "job.py"), "-o", str(bundle), *flags]

    def copy_of_old(self, target: Path) -> Path:
        shutil.copytree(self.old, target, symlinks=True)
        return target


def make_update(folder: Path, packages: Path, index: str) -> Update:
    """Build both states: the new one has another package, and as many files again."""
    update = Update(folder, index)
    files = {f"second/part_{number}.py": f"X = {number}\n" for number in range(40)}
    make_wheel(packages, "leaf")
    make_wheel(packages, "second", files=files)
    write_script(folder, "leaf", name="job")
    assert call(*update.build(update.old)[4:]).code == 0
    shutil.copytree(update.old, update.new)
    script = write_script(folder, "leaf", "second", name="job")
    script.write_text(script.read_text() + "import leaf, second; print('ran')\n")
    done = call(*update.build(update.new)[4:])
    assert done.code == 0, done.text
    for name in ("old", "new"):
        assert call("pack", folder / name, "-o", folder / f"{name}.tar").code == 0
    return update


def make_other(folder: Path, index: str) -> Path:
    """Return an archive of a bundle with another script, to be merged."""
    script = write_script(folder, "second", name="other")
    bundle, archive = folder / "bundle", folder / "new.tar"
    done = call("build", script, "-o", bundle, "--no-uv", "--default-index", index)
    assert done.code == 0, done.text
    assert call("pack", bundle, "-o", archive).code == 0
    return archive


def manifest_digest(bundle: Path) -> str:
    return sha256_of((bundle / "bundle.json").read_bytes())


def check_old_or_new(bundle: Path, *expected: Path) -> None:
    """The bundle must be one of *expected* to its readers."""
    [source] = [one for one in expected if manifest_digest(one) == manifest_digest(bundle)]
    done = call("verify", bundle, "--allow-pending")
    changed = re.findall(
        r"^  changed: (\S+) .*, written by an interrupted update\)$", done.err, re.MULTILINE
    )
    if changed:  # the fault was between renames of files that have the same path in both
        assert "an update of the bundle was interrupted" in done.err, done.text
        assert [path for path in changed if not path.startswith(REPLACED)] == []
    else:
        assert done.code == 0, done.text
    for script in (source / "scripts").iterdir():
        launch = [sys.executable, "-B", "-S", bundle / "run.py", script]
        ran = run_quietly(launch, OFFLINE_BUNDLE_CACHE=str(source.parent / "cache"))
        assert ran.returncode == 0, ran.stderr


def run_quietly(
    command: Sequence[str | Path], **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with uv at hand; its output must contain no traceback."""
    given = {**os.environ, "OFFLINE_BUNDLE_UV": find_uv_bin(), **variables}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done
