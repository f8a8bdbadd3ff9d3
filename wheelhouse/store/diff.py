"""What differs between two bundles, by their manifests alone. Pure.

for change in diff(read_manifest(old), read_manifest(new)).packages:
    print(change.kind, change.name, change.old_version, change.new_version, change.script, change.target)
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from offline_bundle.wheelhouse.runtime.manifest import BundledPackage

_V = TypeVar("_V")


@dataclass(frozen=True, kw_only=True)
class PackageChange:
    """One package of one script on one target."""

    script: str
    target: str
    name: str
    old_version: str | None
    """None for one that is added."""
    new_version: str | None
    """None for one that is removed."""
    old_wheel: str | None
    new_wheel: str | None
    old_size: int
    """Bytes of its wheel; 0 for one that is added."""
    new_size: int

    @property
    def kind(self) -> str:
        """`added`, `removed`, or `changed`: another version, or another wheel of the same."""
        if self.old_wheel is None:
            return "added"
        return "removed" if self.new_wheel is None else "changed"


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names that came, went, or stand for something else now."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, kw_only=True)
class BundleDiff:
    """All that differs; names and changes are sorted."""

    scripts: Names
    """Changed: other metadata, or another text."""
    targets: Names
    locks: Names
    """`SCRIPT/TARGET`; changed where packages are."""
    packages: tuple[PackageChange, ...]
    uv: Names
    """By platform; changed where the version is."""
    pythons: Names
    """Interpreters, by target; changed where the version or the archive is."""
    files: Names
    """Paths; changed where the digest is."""
    old_size: int
    """Bytes of all files of the old bundle."""
    new_size: int
    to_carry: int
    """Bytes of the files that the new bundle has and the old one lacks, by digest."""

    @property
    def is_empty(self) -> bool:
        """Whether both hold the same."""
        brought = self.uv or self.pythons or self.files
        return not (self.scripts or self.targets or self.locks or self.packages or brought)

    def to_json(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        packages = [{"kind": change.kind, **asdict(change)} for change in self.packages]
        return {"is_empty": self.is_empty, **asdict(self), "packages": packages}


def diff(old: Manifest, new: Manifest) -> BundleDiff:
    """Compare two manifests."""
    packages = tuple(_package_changes(old, new))
    old_locks, new_locks = _locks(old), _locks(new)
    touched = {f"{change.script}/{change.target}" for change in packages}
    known = {file.sha256 for file in old.files.values()}
    brought = {
        file.sha256: file.size or 0 for file in new.files.values() if file.sha256 not in known
    }
    return BundleDiff(
        scripts=_names(
            {
                name: (script.block, script.settings, _digest(old, script.path))
                for name, script in old.scripts.items()
            },
            {
                name: (script.block, script.settings, _digest(new, script.path))
                for name, script in new.scripts.items()
            },
        ),
        targets=_names(old.targets, new.targets),
        locks=_names(
            dict.fromkeys(old_locks, False),
            {key: key in touched and key in old_locks for key in new_locks},
        ),
        packages=packages,
        uv=_names(_uv_versions(old), _uv_versions(new)),
        pythons=_names(old.pythons, new.pythons),
        files=_names(_digests(old), _digests(new)),
        old_size=_size(old),
        new_size=_size(new),
        to_carry=sum(brought.values()),
    )


def load_manifest(place: Path) -> Manifest:
    """Read the manifest of a bundle, of an archive, or one by itself; raises InputError (2), IntegrityError (5)."""
    if place.is_dir():
        return read_manifest(place)
    with suppress(FileNotFoundError), place.open("rb") as file:
        if file.read(1) == b"{":
            return Manifest.from_json(place.read_bytes())
    from offline_bundle.wheelhouse.transport.archive import read_archive  # noqa: PLC0415 - two bundles need it not

    try:
        return Manifest.from_json(read_archive([place])[0])
    except InputError as error:
        hint = "name a bundle's folder, its bundle.json, or an archive"
        raise InputError(error.message, problems=error.problems, hint=hint) from error


def _package_changes(old: Manifest, new: Manifest) -> Iterator[PackageChange]:
    old_locks, new_locks = _locks(old), _locks(new)
    for key in sorted(old_locks.keys() | new_locks.keys()):
        before, after = old_locks.get(key, {}), new_locks.get(key, {})
        script, _, target = key.partition("/")
        for name in sorted(before.keys() | after.keys()):
            was, is_now = _chosen(old, before.get(name)), _chosen(new, after.get(name))
            if was != is_now:
                yield PackageChange(
                    script=script,
                    target=target,
                    name=name,
                    old_version=was.version,
                    new_version=is_now.version,
                    old_wheel=was.wheel,
                    new_wheel=is_now.wheel,
                    old_size=was.size,
                    new_size=is_now.size,
                )


class _Chosen(NamedTuple):
    """What a lock has of a package."""

    version: str | None = None
    wheel: str | None = None
    size: int = 0
    sha256: str | None = None


def _chosen(manifest: Manifest, package: BundledPackage | None) -> _Chosen:
    if package is None:
        return _Chosen()
    file = manifest.files[package.wheel]
    return _Chosen(package.version, package.wheel, file.size or 0, file.sha256)


def _locks(manifest: Manifest) -> dict[str, Mapping[str, BundledPackage]]:
    return {
        f"{script_name}/{target}": lock.packages
        for script_name, script in manifest.scripts.items()
        for target, lock in script.locks.items()
    }


def _names(old: Mapping[str, _V], new: Mapping[str, _V]) -> Names:
    return Names(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    )


def _digests(manifest: Manifest) -> dict[str, str | None]:
    return {path: file.sha256 for path, file in manifest.files.items()}


def _digest(manifest: Manifest, path: str) -> str | None:
    return manifest.files[path].sha256


def _uv_versions(manifest: Manifest) -> dict[str, str]:
    return {platform: uv.version for platform, uv in manifest.uv.items()}


def _size(manifest: Manifest) -> int:
    return sum(file.size or 0 for file in manifest.files.values())
