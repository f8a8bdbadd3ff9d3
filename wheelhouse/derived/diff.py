"""The differences between two bundles, by their manifests alone. Pure.

for change in diff(read_manifest(old), read_manifest(new)).packages:
    print(change.kind, change.name, change.old_version, change.new_version)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeVar

from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledPackage,
    BundledScript,
    Manifest,
)
from offline_bundle.wheelhouse.runtime.python.requirements import canonical_requirement

_V = TypeVar("_V")


@dataclass(frozen=True, kw_only=True)
class PackageChange:
    """One package of one script on one target."""

    script: str
    target: str
    name: str
    old_version: str | None
    """None if it is added."""
    new_version: str | None
    """None if it is removed."""
    old_wheel: str | None
    new_wheel: str | None
    old_size: int
    """Bytes of its wheel; 0 if it is added."""
    new_size: int

    @property
    def kind(self) -> str:
        """`added`, `removed`, or `changed` (another version, or another wheel of the same)."""
        if self.old_wheel is None:
            return "added"
        return "removed" if self.new_wheel is None else "changed"


@dataclass(frozen=True, kw_only=True)
class GroupedChange:
    """The same change of a package in one or more locks; the files are counted once."""

    name: str
    kind: str
    before: str
    """Version; empty if it is added."""
    now: str
    growth: int
    """Bytes of its wheel, less those of the wheel before."""
    locks: tuple[str, ...]
    """`SCRIPT/TARGET`."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names that were added or removed, or whose meaning changed."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """True if there are any."""
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, kw_only=True)
class BundleDiff:
    """All differences; names and changes are sorted."""

    scripts: Names
    """Changed: the metadata or the text differs."""
    targets: Names
    locks: Names
    """`SCRIPT/TARGET`; changed if its packages are."""
    packages: tuple[PackageChange, ...]
    uv: Names
    """By platform; changed if the version is."""
    pythons: Names
    """Interpreters, by target; changed if the version or the archive is."""
    files: Names
    """Paths; changed if the digest is."""
    old_size: int
    """Bytes of all files of the old bundle."""
    new_size: int
    to_carry: int
    """Bytes of the added and changed files: those that `pack --since` writes."""

    @property
    def is_empty(self) -> bool:
        """True if both have the same contents."""
        parts = (self.scripts, self.targets, self.locks, self.packages)
        return not any((*parts, self.uv, self.pythons, self.files))

    @property
    def grouped_packages(self) -> list[GroupedChange]:
        """The changed packages, each change once; sorted by name."""
        groups: dict[tuple[str, str, str, str, int], list[str]] = defaultdict(list)
        for change in sorted(self.packages, key=lambda one: (one.name, one.script, one.target)):
            versions = change.old_version or "", change.new_version or ""
            growth = change.new_size - change.old_size
            lock = f"{change.script}/{change.target}"
            groups[change.name, change.kind, *versions, growth].append(lock)
        return [
            GroupedChange(
                name=name, kind=kind, before=before, now=now, growth=growth, locks=tuple(locks)
            )
            for (name, kind, before, now, growth), locks in groups.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        packages = [{"kind": change.kind, **asdict(change)} for change in self.packages]
        return {"is_empty": self.is_empty, **asdict(self), "packages": packages}


def metadata_changes(bundled: BundledScript, script: BundledScript) -> list[str]:
    """Return how the requirements of *script* differ from *bundled*; empty if they are equal."""
    before, now = (
        set(map(canonical_requirement, entry.dependencies)) for entry in (bundled, script)
    )
    changes = [f"now needs {text}" for text in sorted(now - before)]
    changes += [f"no longer needs {text}" for text in sorted(before - now)]
    if bundled.requires_python != script.requires_python:
        changes.append(
            f"requires-python was {bundled.requires_python}, is {script.requires_python}"
        )
    if bundled.settings != script.settings:
        changes.append("its [tool.uv] settings changed")
    return changes


def diff(old: Manifest, new: Manifest) -> BundleDiff:
    """Compare two manifests."""
    packages = tuple(_package_changes(old, new))
    old_locks, new_locks = _locks(old), _locks(new)
    changed_locks = {f"{change.script}/{change.target}" for change in packages} & old_locks.keys()
    files = _names(_digests(old), _digests(new))
    return BundleDiff(
        scripts=_names(_scripts(old), _scripts(new)),
        targets=_names(old.targets, new.targets),
        locks=_names(
            dict.fromkeys(old_locks, False), {lock: lock in changed_locks for lock in new_locks}
        ),
        packages=packages,
        uv=_names(_uv_versions(old), _uv_versions(new)),
        pythons=_names(old.pythons, new.pythons),
        files=files,
        old_size=old.size,
        new_size=new.size,
        to_carry=sum(new.files[path].size or 0 for path in (*files.added, *files.changed)),
    )


def _package_changes(old: Manifest, new: Manifest) -> Iterator[PackageChange]:
    old_locks, new_locks = _locks(old), _locks(new)
    for lock in sorted(old_locks.keys() | new_locks.keys()):
        old_packages, new_packages = old_locks.get(lock, {}), new_locks.get(lock, {})
        script, _, target = lock.partition("/")
        for name in sorted(old_packages.keys() | new_packages.keys()):
            before = _locked_wheel(old, old_packages.get(name))
            after = _locked_wheel(new, new_packages.get(name))
            if before != after:
                yield PackageChange(
                    script=script,
                    target=target,
                    name=name,
                    old_version=before.version,
                    new_version=after.version,
                    old_wheel=before.wheel,
                    new_wheel=after.wheel,
                    old_size=before.size,
                    new_size=after.size,
                )


class _LockedWheel(NamedTuple):
    """The wheel of a package in a lock; empty if the lock does not have the package."""

    version: str | None = None
    wheel: str | None = None
    size: int = 0
    sha256: str | None = None


def _locked_wheel(manifest: Manifest, package: BundledPackage | None) -> _LockedWheel:
    if package is None:
        return _LockedWheel()
    file = manifest.files[package.wheel]
    return _LockedWheel(package.version, package.wheel, file.size or 0, file.sha256)


def _locks(manifest: Manifest) -> dict[str, Mapping[str, BundledPackage]]:
    return {f"{script}/{target}": lock.packages for script, target, lock in manifest.locks()}


def _names(old: Mapping[str, _V], new: Mapping[str, _V]) -> Names:
    return Names(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    )


def _digests(manifest: Manifest) -> dict[str, str | None]:
    return {path: file.sha256 for path, file in manifest.files.items()}


def _scripts(manifest: Manifest) -> dict[str, tuple[str | None, ...]]:
    return {
        name: (script.block, script.settings, manifest.files[script.path].sha256)
        for name, script in manifest.scripts.items()
    }


def _uv_versions(manifest: Manifest) -> dict[str, str]:
    return {platform: uv.version for platform, uv in manifest.uv.items()}
