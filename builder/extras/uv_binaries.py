"""The uv for the nodes: the executable out of uv's own wheel, at a chosen version."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.resolve.model import Artifact
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, Source
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.names import DIGEST_LENGTH


@dataclass(frozen=True)
class NodeUv:
    """The uv executable for the nodes of a platform."""

    platform: str
    version: str
    executable: bytes
    source: Source

    @cached_property
    def bundle_path(self) -> str:
        """Path in the bundle: one path never has two contents."""
        digest = sha256_of(self.executable)[:DIGEST_LENGTH]
        return f"uv/{self.platform}/{digest}/uv{'.exe' if 'windows' in self.platform else ''}"


def missing(
    targets: Iterable[Target],
    version: str | None,
    current: Manifest | None,
    *,
    is_default: bool,
    with_static: bool = False,
) -> list[Target]:
    """Return the platforms for which *current* has no uv of that version.

    None for version None. A default version (*is_default*) does not replace the
    one in the bundle. glibc platforms share one uv, made for the oldest glibc that uv supports.
    *with_static* adds musl's: it is linked statically, and needs only the node's kernel.
    """
    platforms: dict[str, Target] = {}
    for target in targets if version else ():
        names = [platform_for(target)]
        if with_static and target.system == "linux-gnu":
            names.append(f"{target.architecture}-unknown-linux-musl")
        for name in names:
            bundled = current.uv.get(name) if current else None
            if bundled is None or (bundled.version != version and not is_default):
                platforms[name] = Target(target.python, name)
    return list(platforms.values())


def platform_for(target: Target) -> str:
    """Return the platform whose uv the nodes of *target* use; glibc platforms share one."""
    if target.system == "linux-gnu":
        return f"{target.architecture}-manylinux_2_17"
    return target.platform


def uv_requirement_script(version: str) -> Script:
    """Return a script that requires only uv of *version*.

    As for `uv tool install`, indexes come from the user: flags, variables, and the configuration of
    user and system. What a script or its project names must not decide which program nodes run.
    """
    return Script(
        path=Path("uv"),
        name="uv",
        source=b"",
        block="",
        dependencies=(f"uv=={version}",),
        requires_python=None,
        metadata={},
        has_project=False,
    )


def unpack(platform: str, artifact: Artifact, wheel: Path, source: Source) -> NodeUv:
    """Return the executable in uv's wheel at *wheel*."""
    suffix = ".exe" if "windows" in platform else ""
    with zipfile.ZipFile(wheel) as archive:
        executable = archive.read(f"uv-{artifact.version}.data/scripts/uv{suffix}")
    return NodeUv(platform, artifact.version or "", executable, source)
