"""The real uv of a version, as a program and as a wheel for nodes."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here
from tests.support.distributions import make_wheel


def uv_of(version: str, folder: Path) -> Path:
    if version == uv_version_here():
        return Path(find_uv())
    command = [
        find_uv(),
        "pip",
        "install",
        "--quiet",
        "--target",
        str(folder),
        "--python",
        sys.executable,
    ]
    subprocess.run([*command, "--no-deps", f"uv=={version}"], check=True)
    return folder / "bin" / "uv"


def make_real_uv_wheel(folder: Path, version: str, program: Path) -> None:
    """A wheel of the real uv."""
    wheel = make_wheel(folder, "uv", version, tag="py3-none-manylinux_2_17_x86_64")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.write(program, f"uv-{version}.data/scripts/uv")
