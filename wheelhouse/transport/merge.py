"""Merge two bundles by their manifests: scripts and targets together, wheels shared. Pure.

    merged = merge(Side(current, digest), Side(incoming, other_digest))
    merge_history(merged.manifest, …), merged.pages

If both bundles have a script with different content, the incoming one is taken only if its bundle
descends from the manifests that the other came from (`BundledScript.origins`), or on request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.derived.complete import complete
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.manifest import Manifest
from offline_bundle.wheelhouse.runtime.names import MOST_ANCESTORS
from offline_bundle.wheelhouse.transport.merge_files import (
    creator_order,
    merge_caches,
    merge_files,
    merge_pythons,
    merge_uv,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from offline_bundle.wheelhouse.runtime.manifest import BundledLock, BundledScript

IMMUTABLE = ("wheels/", "python/")
"""Files in these folders never change under one name: jobs and caches rely on it."""


@dataclass(frozen=True)
class Side:
    """One of the two bundles: its manifest, and the digest of that."""

    manifest: Manifest
    digest: str


@dataclass(frozen=True)
class Merged:
    """Result of a merge."""

    manifest: Manifest
    """Without inventories, which describe the whole, and without history."""
    pages: Mapping[str, bytes]
    """Contents of the rendered pages, by path."""


def merge(ours: Side, theirs: Side, *, replace_scripts: bool = False) -> Merged:
    """Merge *theirs* into *ours*; with *replace_scripts* their scripts replace different ones.

    Raises IntegrityError (5) that names each wheel of one name with different bytes, and each
    script with different content of which neither is known to be newer.
    """
    check_immutable_files(ours.manifest, theirs.manifest)
    scripts, taken = _merge_scripts(ours, theirs, replace_scripts=replace_scripts)
    caches = merge_caches(ours.manifest, theirs.manifest)
    scripts = {name: caches.without_unserved(script) for name, script in scripts.items()}
    both = (ours.manifest, theirs.manifest)
    manifest = Manifest(
        created_by=max(both, key=creator_order).created_by,
        timestamp=max(one.timestamp for one in both),
        scripts=scripts,
        targets={**ours.manifest.targets, **theirs.manifest.targets},
        uv=merge_uv(*both),
        files=merge_files(*both, scripts, taken, caches.their_pages),
        pythons=merge_pythons(*both),
    )
    return Merged(*complete(manifest))


def merge_history(manifest: Manifest, ours: Side, theirs: Side) -> Manifest:
    """Return *manifest* as a descendant of both; with the history of *ours* if nothing changed."""
    generation, ancestors = ours.manifest.generation, ours.manifest.ancestors
    same = replace(manifest, generation=generation, ancestors=ancestors)
    if same.to_json() == ours.manifest.to_json():
        return same
    pairs = zip_longest(ours.manifest.ancestors, theirs.manifest.ancestors)
    further = [digest for pair in pairs for digest in pair if digest]
    return replace(
        manifest,
        generation=max(generation, theirs.manifest.generation) + 1,
        ancestors=tuple(dict.fromkeys([ours.digest, theirs.digest, *further]))[:MOST_ANCESTORS],
    )


def check_immutable_files(ours: Manifest, theirs: Manifest) -> None:
    """Raise IntegrityError for wheels and interpreters with one name and different bytes."""
    problems = [
        f"{path}: the bundle has sha256 {ours.files[path].sha256}, the archive {file.sha256}"
        for path, file in sorted(theirs.files.items())
        if path.startswith(IMMUTABLE)
        and path in ours.files
        and ours.files[path].sha256 != file.sha256
    ]
    if problems:
        raise IntegrityError(
            "the bundle already has files of the same names with other bytes",
            problems=problems,
            hint="files of a bundle never change: unpack into another folder, "
            "or give the package a new version",
        )


def _merge_scripts(
    ours: Side, theirs: Side, *, replace_scripts: bool
) -> tuple[dict[str, BundledScript], set[str]]:
    """Return the scripts of both, and the names of those taken from *theirs*."""
    older = set(theirs.manifest.ancestors)
    mine = {
        name: _with_origin(script, ours.digest) for name, script in ours.manifest.scripts.items()
    }
    # A script from an earlier state of theirs that they no longer have was removed there.
    scripts = {
        name: script
        for name, script in mine.items()
        if name in theirs.manifest.scripts or not older.issuperset(script.origins)
    }
    taken, problems = set(), []
    for name, script in theirs.manifest.scripts.items():
        existing = mine.get(name)
        if existing is None or older.issuperset(existing.origins):
            scripts[name] = replace(script, origins=(theirs.digest,))
            taken.add(name)
            continue
        differences = list(
            _script_differences(name, existing, script, ours.manifest, theirs.manifest)
        )
        if differences and not replace_scripts:
            problems += differences
            continue
        scripts[name] = _merge_script(existing, script, theirs.digest, take=bool(differences))
        taken |= {name} if differences else set()
    if problems:
        raise IntegrityError(
            "the bundle already has scripts of the same names with other content, and none is "
            "known to be newer",
            problems=problems,
            hint="take the archive's with --replace, or unpack into another folder",
        )
    return scripts, taken


def _merge_script(
    existing: BundledScript, incoming: BundledScript, digest: str, *, take: bool
) -> BundledScript:
    """Return the *existing* script with the locks of both, or with *take* the incoming one."""
    locks = {
        **existing.locks,
        **{
            target: _with_formats(lock, existing, target) for target, lock in incoming.locks.items()
        },
    }
    if not take:
        origins = tuple(dict.fromkeys([*existing.origins, digest]))
        return replace(existing, locks=locks, origins=origins)
    if not _has_same_requirements(existing, incoming):
        locks = dict(incoming.locks)
    return replace(incoming, locks=locks, origins=(digest,))


def _with_formats(lock: BundledLock, existing: BundledScript, target: str) -> BundledLock:
    """Return *lock* with the cache and environment that the same existing lock has."""
    other = existing.locks.get(target)
    if other is None or _without_formats(other) != _without_formats(lock):
        return lock
    return replace(
        lock, cache=lock.cache or other.cache, environment=lock.environment or other.environment
    )


def _without_formats(lock: BundledLock) -> BundledLock:
    return replace(lock, cache=None, environment=None)


def _with_origin(script: BundledScript, digest: str) -> BundledScript:
    return script if script.origins else replace(script, origins=(digest,))


def _script_differences(
    name: str, existing: BundledScript, incoming: BundledScript, ours: Manifest, theirs: Manifest
) -> Iterator[str]:
    if not _has_same_requirements(existing, incoming):
        yield f"{name}: other requirements"
    elif (
        existing.block != incoming.block
        or ours.files[existing.path].sha256 != theirs.files[incoming.path].sha256
    ):
        yield f"{name}: other text of the script"
    for target in sorted(existing.locks.keys() & incoming.locks.keys()):
        locks = (existing.locks[target], incoming.locks[target])
        if _lock_content(locks[0], ours) != _lock_content(locks[1], theirs):
            yield f"{name}: another lock for {target}"


def _has_same_requirements(existing: BundledScript, incoming: BundledScript) -> bool:
    def requirements(script: BundledScript) -> tuple[object, ...]:
        return (sorted(script.dependencies), script.requires_python, script.settings, script.path)

    return requirements(existing) == requirements(incoming)


def _lock_content(lock: BundledLock, manifest: Manifest) -> tuple[object, ...]:
    digests = (manifest.files[path].sha256 for path in (lock.lock, lock.requirements))
    return _without_formats(lock), *digests
