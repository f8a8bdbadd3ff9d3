"""Merge two bundles by their manifests: scripts and targets together, wheels shared. Pure.

    manifest, pages = merge(Side(current, digest), Side(incoming, other_digest))
    merge_history(manifest, …)

If both bundles have a script with different content, the incoming one is taken only if its bundle
descends from the manifests that the other came from (`BundledScript.origins`), or on request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

from offline_bundle.wheelhouse.derived.complete import complete
from offline_bundle.wheelhouse.derived.diff import metadata_changes
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledLock, BundledScript, Manifest
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.names import DATA, MOST_ANCESTORS, PROVENANCE
from offline_bundle.wheelhouse.transport.merge_files import (
    creator_order,
    merge_caches,
    merge_files,
    merge_pythons,
    merge_uv,
)

IMMUTABLE = ("wheels/", "python/", f"{DATA}/")
"""Files in these folders never change under one name: jobs and caches rely on it."""


@dataclass(frozen=True)
class Side:
    """One of the two bundles: its manifest, and the digest of that."""

    manifest: Manifest
    digest: str


def merge(
    current: Side, incoming: Side, *, replace_scripts: bool = False
) -> tuple[Manifest, dict[str, bytes]]:
    """Merge *incoming* into *current*; with *replace_scripts* its scripts replace different ones.

    Return the manifest without inventories and history, and the contents of its pages, by path.
    Raises IntegrityError (5) that names each wheel of one name with different bytes, and each
    script with different content of which neither is known to be newer.
    """
    check_immutable_files(current.manifest, incoming.manifest)
    scripts, taken = _merge_scripts(current, incoming, replace_scripts=replace_scripts)
    caches = merge_caches(current.manifest, incoming.manifest)
    scripts = {name: caches.without_unserved(script) for name, script in scripts.items()}
    both = (current.manifest, incoming.manifest)
    manifest = Manifest(
        created_by=max(both, key=creator_order).created_by,
        timestamp=max(one.timestamp for one in both),
        scripts=scripts,
        targets={**current.manifest.targets, **incoming.manifest.targets},
        uv=merge_uv(*both),
        files=merge_files(*both, scripts, taken, caches.incoming_pages),
        pythons=merge_pythons(*both),
    )
    return complete(manifest)


def merge_history(manifest: Manifest, current: Side, incoming: Side) -> Manifest:
    """Return *manifest* as a descendant of both; with that of *current* if nothing changed."""
    generation, ancestors = current.manifest.generation, current.manifest.ancestors
    same = replace(manifest, generation=generation, ancestors=ancestors)
    if same.to_json() == current.manifest.to_json():
        return same
    pairs = zip_longest(current.manifest.ancestors, incoming.manifest.ancestors)
    further = [digest for pair in pairs for digest in pair if digest]
    return replace(
        manifest,
        generation=max(generation, incoming.manifest.generation) + 1,
        ancestors=tuple(dict.fromkeys([current.digest, incoming.digest, *further]))[
            :MOST_ANCESTORS
        ],
    )


def check_immutable_files(current: Manifest, incoming: Manifest) -> None:
    """Raise IntegrityError for wheels and interpreters with one name and different bytes."""
    problems = [
        f"{path}: the bundle has sha256 {current.files[path].sha256}, the archive {file.sha256}"
        for path, file in sorted(incoming.files.items())
        if path.startswith(IMMUTABLE)
        and not path.endswith(PROVENANCE)  # an index may add attestations
        and path in current.files
        and current.files[path].sha256 != file.sha256
    ]
    if problems:
        raise IntegrityError(
            "the bundle already has files of the same names with other bytes",
            problems=problems,
            hint="files of a bundle never change: unpack into another folder, "
            "or give the package a new version",
        )


def _merge_scripts(
    current: Side, incoming: Side, *, replace_scripts: bool
) -> tuple[dict[str, BundledScript], set[str]]:
    """Return the scripts of both, and the names of those taken from *incoming*."""
    older = set(incoming.manifest.ancestors)
    mine = {
        name: _with_origin(script, current.digest)
        for name, script in current.manifest.scripts.items()
    }
    # A script that an earlier state of the incoming bundle had was removed there since.
    scripts = {
        name: script
        for name, script in mine.items()
        if name in incoming.manifest.scripts or not older.issuperset(script.origins)
    }
    taken, problems = set(), []
    for name, script in incoming.manifest.scripts.items():
        existing = mine.get(name)
        if existing is None or older.issuperset(existing.origins):
            scripts[name] = replace(script, origins=(incoming.digest,))
            taken.add(name)
            continue
        differences = list(
            _script_differences(name, existing, script, current.manifest, incoming.manifest)
        )
        if differences and not replace_scripts:
            problems += differences
            continue
        scripts[name] = _merge_script(existing, script, incoming.digest, take=bool(differences))
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
    existing: BundledScript, script: BundledScript, digest: str, *, take: bool
) -> BundledScript:
    """Return the *existing* script with the locks of both, or with *take* the other one."""
    locks = {
        **existing.locks,
        **{target: _with_formats(lock, existing, target) for target, lock in script.locks.items()},
    }
    if not take:
        origins = tuple(dict.fromkeys([*existing.origins, digest]))
        return replace(existing, locks=locks, origins=origins)
    if metadata_changes(existing, script):
        locks = dict(script.locks)
    return replace(script, locks=locks, origins=(digest,))


def _with_formats(lock: BundledLock, existing: BundledScript, target: str) -> BundledLock:
    """Return *lock* with the formats that the same existing lock has."""
    other = existing.locks.get(target)
    if other is None or _without_formats(other) != _without_formats(lock):
        return lock
    return replace(
        lock,
        cache=lock.cache or other.cache,
        environment=lock.environment or other.environment,
        image=lock.image or other.image,
    )


def _without_formats(lock: BundledLock) -> BundledLock:
    """Return *lock* without formats and paths, which earlier versions spelled differently."""
    return replace(lock, lock="", requirements="", cache=None, environment=None, image=None)


def _with_origin(script: BundledScript, digest: str) -> BundledScript:
    return script if script.origins else replace(script, origins=(digest,))


def _script_differences(
    name: str, existing: BundledScript, script: BundledScript, current: Manifest, incoming: Manifest
) -> Iterator[str]:
    if metadata_changes(existing, script):
        yield f"{name}: other requirements"
    elif (
        existing.block != script.block
        or current.files[existing.path].sha256 != incoming.files[script.path].sha256
    ):
        yield f"{name}: other text of the script"
    if sorted(existing.data) != sorted(script.data):
        yield f"{name}: other data"
    for target in sorted(existing.locks.keys() & script.locks.keys()):
        locks = (existing.locks[target], script.locks[target])
        if _lock_content(locks[0], current) != _lock_content(locks[1], incoming):
            yield f"{name}: another lock for {target}"


def _lock_content(lock: BundledLock, manifest: Manifest) -> tuple[object, ...]:
    digests = (manifest.files[path].sha256 for path in (lock.lock, lock.requirements))
    return _without_formats(lock), *digests
