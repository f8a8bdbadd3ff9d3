"""The contents of a bundle as plain data, for the command `show` and its JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offline_bundle.wheelhouse.derived.wheel_metadata import is_wheel
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledLock, Manifest, Publisher
from offline_bundle.wheelhouse.runtime.names import DATA


@dataclass(frozen=True)
class ShownPackage:
    """One wheel of the bundle."""

    name: str
    version: str
    wheel: str
    size: int
    """Bytes."""
    needed_by: tuple[str, ...]
    """`SCRIPT/TARGET`; empty if no script needs it."""
    publisher: Publisher | None = None
    """The publisher that its attestation names; None without one."""
    attestation: str = "absent"
    """Its state: verified, wrong, absent, or not verified."""


@dataclass(frozen=True)
class ShownLock:
    """One script on one target."""

    script: str
    requires_python: str | None
    target: str
    python: str
    platform: str
    libc: str | None
    """The lowest libc version that its wheels run on."""
    packages: int
    size: int
    """Bytes of its wheels."""
    cache: str | None
    """The version of uv that finds all its wheels in `cache/`."""
    environment: str | None
    """Folder of its prepared environment."""
    image: str | None
    """Path of the SquashFS image of that environment."""


@dataclass(frozen=True)
class Contents:
    """The contents of a bundle."""

    created_by: str
    timestamp: str
    locks: tuple[ShownLock, ...]
    packages: tuple[ShownPackage, ...]
    uv: Mapping[str, str]
    """Platform -> version."""
    pythons: Mapping[str, str]
    """Target -> version of its interpreter in the bundle."""
    data: Mapping[str, int]
    """File or folder in `data/` -> size in bytes."""
    files: int
    size: int


def contents(manifest: Manifest, attestations: Mapping[str, str]) -> Contents:
    """Return the contents according to *manifest*; *attestations* are states by wheel."""
    packages = [
        ShownPackage(
            file.name or "",
            file.version or "",
            path,
            file.size or 0,
            file.needed_by,
            file.publisher,
            attestations.get(path, "absent"),
        )
        for path, file in manifest.files.items()
        if is_wheel(path)
    ]
    return Contents(
        created_by=manifest.created_by,
        timestamp=manifest.timestamp,
        locks=tuple(_shown_lock(manifest, *lock) for lock in manifest.locks()),
        packages=tuple(sorted(packages, key=lambda one: (one.name, one.wheel))),
        uv={platform: uv.version for platform, uv in sorted(manifest.uv.items())},
        pythons={target: python.version for target, python in sorted(manifest.pythons.items())},
        data=_data_sizes(manifest),
        files=len(manifest.files),
        size=manifest.size,
    )


def _data_sizes(manifest: Manifest) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for path, file in sorted(manifest.files.items()):
        if path.startswith(f"{DATA}/"):
            name = path.split("/")[1]
            sizes[name] = sizes.get(name, 0) + (file.size or 0)
    return sizes


def _shown_lock(
    manifest: Manifest, script_name: str, target_name: str, lock: BundledLock
) -> ShownLock:
    target = manifest.targets[target_name]
    return ShownLock(
        script=script_name,
        requires_python=manifest.scripts[script_name].requires_python,
        target=target_name,
        python=target.python,
        platform=target.platform,
        libc=lock.libc,
        packages=len(lock.packages),
        size=sum(manifest.files[package.wheel].size or 0 for package in lock.packages.values()),
        cache=lock.cache,
        environment=lock.environment,
        image=lock.image,
    )
