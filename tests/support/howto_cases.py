"""The commands of how-to pages, as they are written, with an index on loopback.

Only folders that a test may not use are replaced: /shared, /media, and ~ by another home.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here
from tests.support.distributions import make_wheel
from tests.support.pages import type_in
from tests.support.pipeline_cases import make_uv_wheel

if TYPE_CHECKING:
    import subprocess

    from tests.support.index_server import IndexServer

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
COMMAND = re.compile(
    r"^ {4}((?:build-offline-bundle|mkdir|offline-bundle|uv|sha256sum|python3) (?:.*\\\n)*.*)$",
    re.MULTILINE,
)
HEADER = "# /// script\n# dependencies = [{}]\n# ///\n"


@pytest.fixture
def place(
    tmp_path: Path, packages: Path, index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with what the pages start from."""
    for name in ("numpy", "matplotlib", "nbclient", "ipykernel"):
        make_wheel(packages, name)
    make_uv_wheel(packages, uv_version_here())
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OFFLINE_BUNDLE_NO_CONFIG", "1")
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv())
    for name in ("shared", "media", "work", "home/.ssh"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "work"


def commands(page: str) -> list[str]:
    """Return the command lines of a page, without their comments."""
    text = (HOW_TO / page).read_text(encoding="utf-8")
    return [re.sub(r"\s+# .*", "", line) for line in COMMAND.findall(text)]


def tops(place: Path) -> Path:
    """The folder that stands for the root of the file system."""
    return place.parent


def run(line: str, place: Path) -> subprocess.CompletedProcess[str]:
    for name in ("shared", "media"):
        line = line.replace(f" /{name}/", f" {tops(place)}/{name}/")
    done = type_in([line], place)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done
