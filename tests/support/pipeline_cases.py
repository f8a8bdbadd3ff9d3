"""Shared by the unit and integration tests: From scripts to a bundle and back: the whole build,
against an index on loopback.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.model import NoProgress
from offline_bundle.builder.inputs.targets import host_platform
from offline_bundle.builder.model import BuildReport, BuildRequest
from offline_bundle.builder.pipeline import build
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, read_manifest
from tests.support.distributions import make_wheel, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.wheelhouse.runtime.errors import BundleError
    from tests.support.index_server import IndexServer


HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


CP = f"cp{HERE.replace('.', '')}"
TARGET = f"{CP}-{host_platform()}"


class Silence(NoProgress):
    def step(self, text: str) -> None:
        pass


class Factory:
    """Builds into one folder, from one index."""

    def __init__(self, folder: Path, index: IndexServer) -> None:
        self.folder = folder
        self.index = index
        self.bundle = folder / "bundle"

    def script(self, *dependencies: str, name: str = "job", tool: str = "", body: str = "") -> Path:
        header = [
            f'requires-python = "=={HERE}.*"',
            f"dependencies = {list(dependencies)!r}",
            *tool.splitlines(),
        ]
        path = self.folder / f"{name}.py"
        path.write_text(
            "# /// script\n"
            + "".join(f"# {line}".rstrip() + "\n" for line in header)
            + f"# ///\n{body}"
        )
        return path

    def build(self, *scripts: Path, allow: tuple[str, ...] = (), **changes: object) -> BuildReport:
        options = ResolveOptions(default_index=self.index.url, allow_build=frozenset(allow))
        values = {"scripts": scripts, "output": self.bundle, "options": options, **changes}
        return build(BuildRequest(**values), find_uv(), Silence())  # type: ignore[arg-type]

    def fails(self, kind: type[BundleError], *scripts: Path, **changes: object) -> str:
        with pytest.raises(kind) as caught:
            self.build(*scripts, **changes)  # type: ignore[arg-type]
        return f"{caught.value}\n{caught.value.hint}"

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.bundle)


@pytest.fixture
def factory(tmp_path: Path, index: IndexServer) -> Factory:
    return Factory(tmp_path, index)


def snapshot(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Path -> digest, inode and time of every file but the writer's."""
    return {
        path.relative_to(folder).as_posix(): (
            sha256_of(path),
            path.stat().st_ino,
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".writer" not in path.parts
    }


def digests(folder: Path) -> dict[str, str]:
    return {path: digest for path, (digest, _, _) in snapshot(folder).items()}


def make_uv_wheel(folder: Path, version: str) -> None:
    """A wheel such as uv's own: the executable lies among its scripts."""
    files = {f"uv-{version}.data/scripts/uv": f"#!/bin/sh\necho uv {version}\n"}
    make_wheel(
        folder,
        "uv",
        version,
        tag="py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64",
        files=files,
    )
