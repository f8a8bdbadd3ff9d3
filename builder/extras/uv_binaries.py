"""The uv that a bundle brings for its nodes: the executable out of uv's own wheel, at a chosen version."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from offline_bundle.builder.resolve.model import Artifact
    from offline_bundle.wheelhouse.runtime.manifest import Manifest, Source

# Settings of a script that say where packages come from: uv itself is taken from there too.
_INDEX_SETTINGS = {
    "allow-insecure-host",
    "extra-index-url",
    "find-links",
    "index",
    "index-strategy",
    "index-url",
    "keyring-provider",
    "native-tls",
    "system-certs",
}


@dataclass(frozen=True)
class NodeUv:
    """The uv executable for the nodes of a platform."""

    platform: str
    version: str
    executable: bytes
    source: Source

    @property
    def bundle_path(self) -> str:
        """Where it lies in the bundle."""
        return f"uv/{self.platform}/uv{'.exe' if 'windows' in self.platform else ''}"


def lacking(
    targets: Iterable[Target],
    version: str | None,
    current: Manifest | None,
    *,
    is_default: bool,
    with_static: bool = False,
) -> list[Target]:
    """The platforms for which *current* does not hold uv of that version; none where *version* is None.

    A version that is only our default (*is_default*) does not replace the one that was once chosen for a bundle.
    glibc platforms share one uv, made for the oldest glibc that uv supports; *with_static* adds musl's, which
    is linked statically and needs nothing of a node but its kernel.
    """
    wanted = {}
    for target in targets if version else ():
        platforms = [platform_for(target)]
        platforms += (
            [f"{target.architecture}-unknown-linux-musl"]
            if with_static and target.system == "linux-gnu"
            else []
        )
        for platform in platforms:
            known = current.uv.get(platform) if current else None
            if known is None or (known.version != version and not is_default):
                wanted[platform] = Target(target.python, platform)
    return list(wanted.values())


def platform_for(target: Target) -> str:
    """The platform whose uv the nodes of *target* use; glibc platforms share one."""
    return (
        f"{target.architecture}-manylinux_2_17" if target.system == "linux-gnu" else target.platform
    )


def uv_requirement_script(version: str | None, scripts: Sequence[Script]) -> Script:
    """uv of *version* as if it were the one dependency of a script, with the indexes of *scripts*."""  # noqa: D403
    settings = {
        key: value
        for script in scripts
        for key, value in script.settings.items()
        if key in _INDEX_SETTINGS
    }
    return Script(
        path=scripts[0].path.with_name("uv"),
        name="uv",
        source=b"",
        block="",
        dependencies=(f"uv=={version}",),
        requires_python=None,
        metadata={"tool": {"uv": settings}},
    )


def unpack(platform: str, choice: Artifact, wheel: Path, source: Source) -> NodeUv:
    """The executable in uv's wheel at *wheel*."""
    suffix = ".exe" if "windows" in platform else ""
    with zipfile.ZipFile(wheel) as archive:
        executable = archive.read(f"uv-{choice.version}.data/scripts/uv{suffix}")
    return NodeUv(platform, choice.version or "", executable, source)
