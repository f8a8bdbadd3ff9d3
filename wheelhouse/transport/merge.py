"""Merging two bundles by their manifests: scripts and targets side by side, wheels shared. Pure.

    merged = merge(Side(current, digest), Side(incoming, other_digest))
    with_lineage(merged.manifest, …), merged.pages

A script that both have, with other content, is taken from the incoming bundle only when that one descends from where
ours came from (`BundledScript.origins`); for two that know nothing of each other somebody has to say so (*replaces*).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from offline_bundle.wheelhouse.derived.complete import INVENTORIES, file_entry, with_needed_by
from offline_bundle.wheelhouse.derived.python_downloads import DOWNLOADS, render_downloads
from offline_bundle.wheelhouse.derived.simple_index import INDEX, render_index
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.manifest import BundledFile, Manifest
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS, MOST_ANCESTORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from offline_bundle.wheelhouse.runtime.manifest import BundledLock, BundledPython, BundledScript

IMMUTABLE = ("wheels/", "python/")
"""Files in these folders never change their bytes under one name: jobs and caches rely on it."""


@dataclass(frozen=True)
class Side:
    """One of the two bundles: its manifest, and the digest of that."""

    manifest: Manifest
    digest: str


@dataclass(frozen=True)
class Merged:
    """What the two become."""

    manifest: Manifest
    pages: Mapping[str, bytes]
    """The index, and what lists the interpreters, rendered anew: contents by path."""


def merge(ours: Side, theirs: Side, *, replaces: bool = False) -> Merged:
    """Merge *theirs* into *ours*; with *replaces* their scripts win where both differ.

    What comes has no inventories, for those are of the whole, and no lineage yet: `with_lineage` gives it one.
    Raises IntegrityError (exit 5) that names each wheel of the same name with other bytes, and each script that both
    have with other content while neither knows which is newer.
    """
    refuse_other_wheels(ours.manifest, theirs.manifest)
    scripts, taken = _merge_scripts(ours, theirs, replaces=replaces)
    cached = _merge_caches(ours.manifest, theirs.manifest)
    scripts = {name: cached.without_unserved(script) for name, script in scripts.items()}
    files = _merge_files(ours.manifest, theirs.manifest, scripts, taken, cached.pages_of_theirs)
    pages = render_index(files)
    used = {target for script in scripts.values() for target in script.locks}
    targets = {**ours.manifest.targets, **theirs.manifest.targets}
    pythons = {
        name: python
        for name, python in _merge_pythons(ours.manifest, theirs.manifest).items()
        if name in used
    }
    pages |= render_downloads(pythons, targets, files)
    files |= {path: file_entry(content) for path, content in pages.items()}
    files[CHECKSUMS] = BundledFile(sha256=None, size=None)
    uv = {**ours.manifest.uv, **theirs.manifest.uv}
    uv |= {
        name: ours.manifest.uv[name]
        for name in uv
        if not _takes_uv(ours.manifest, theirs.manifest, name)
    }
    manifest = Manifest(
        created_by=max((ours.manifest, theirs.manifest), key=_creator).created_by,
        timestamp=max(ours.manifest.timestamp, theirs.manifest.timestamp),
        scripts=scripts,
        targets={name: target for name, target in targets.items() if name in used},
        uv=uv,
        files=with_needed_by(files, scripts),
        pythons=pythons,
    )
    return Merged(manifest, pages)


def with_lineage(manifest: Manifest, ours: Side, theirs: Side) -> Manifest:
    """Give it the place after both, or that of *ours* when nothing came of it."""
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


def refuse_other_wheels(ours: Manifest, theirs: Manifest) -> None:
    """Raise IntegrityError for files that must not change their bytes under one name, and would."""
    problems = [
        f"{path}: the bundle has sha256 {ours.files[path].sha256}, the archive {file.sha256}"
        for path, file in sorted(theirs.files.items())
        if path.startswith(IMMUTABLE)
        and path in ours.files
        and ours.files[path].sha256 != file.sha256
    ]
    if problems:
        raise IntegrityError(
            "the bundle already holds files of the same names with other bytes",
            problems=problems,
            hint="files of a bundle never change: unpack into another folder, or give the package a new version",
        )


def _merge_scripts(
    ours: Side, theirs: Side, *, replaces: bool
) -> tuple[dict[str, BundledScript], set[str]]:
    """Return the scripts of both, and the names of those to take from *theirs*."""
    older = set(theirs.manifest.ancestors)
    mine = {
        name: _with_origin(script, ours.digest) for name, script in ours.manifest.scripts.items()
    }
    # What came from an earlier state of theirs and is there no more has been removed there.
    scripts = {
        name: s
        for name, s in mine.items()
        if name in theirs.manifest.scripts or not older.issuperset(s.origins)
    }
    taken, problems = set(), []
    for name, script in theirs.manifest.scripts.items():
        known = mine.get(name)
        descends = known is not None and older.issuperset(known.origins)
        if known is None or descends:
            scripts[name] = replace(script, origins=(theirs.digest,))
            taken.add(name)
            continue
        differences = list(_differences(name, known, script, ours.manifest, theirs.manifest))
        locks = {
            **known.locks,
            **{target: _with_forms(lock, known, target) for target, lock in script.locks.items()},
        }
        if not differences:
            origins = tuple(dict.fromkeys([*known.origins, theirs.digest]))
            scripts[name] = replace(known, locks=locks, origins=origins)
        elif replaces:
            locks = locks if _asks_the_same(known, script) else dict(script.locks)
            scripts[name] = replace(script, locks=locks, origins=(theirs.digest,))
            taken.add(name)
        else:
            problems += differences
    if problems:
        raise IntegrityError(
            "the bundle already holds scripts of the same names with other content, and none is known to be the newer",
            problems=problems,
            hint="take the archive's with --replace, or unpack into another folder",
        )
    return scripts, taken


def _with_forms(lock: BundledLock, known: BundledScript, target: str) -> BundledLock:
    """What was made in advance of the same lock, on either side, serves it on both."""
    other = known.locks.get(target)
    if other is None or _plain(other) != _plain(lock):
        return lock
    return replace(
        lock, cache=lock.cache or other.cache, environment=lock.environment or other.environment
    )


def _plain(lock: BundledLock) -> BundledLock:
    return replace(lock, cache=None, environment=None)


@dataclass(frozen=True)
class _Caches:
    """The caches of two bundles in one: a page of uv's lists the wheels of one package, and only one side's is kept."""

    pages_of_theirs: frozenset[str]
    """Paths of pages to take from them."""
    listed: Mapping[str, frozenset[str]]
    """Package -> wheels that its page lists, where the two pages differ."""

    def without_unserved(self, script: BundledScript) -> BundledScript:
        """Say of locks with a wheel that no page lists any more that the cache does not serve them."""
        locks = {
            target: lock if all(p.wheel in self.listed.get(name, {p.wheel}) for name, p in lock.packages.items())
            else replace(lock, cache=None)
            for target, lock in script.locks.items()
        }  # fmt: skip
        return replace(script, locks=locks)


def _merge_caches(ours: Manifest, theirs: Manifest) -> _Caches:
    """Take the page that lists more of what both hold: theirs where it lists all that ours does."""
    mine, other = _cached_wheels(ours), _cached_wheels(theirs)
    listed: dict[str, frozenset[str]] = {}
    taken = set()
    for path in ours.files.keys() & theirs.files.keys():
        parts = path.split("/")
        if (
            len(parts) < 3
            or parts[0] != "cache"
            or ours.files[path].sha256 == theirs.files[path].sha256
        ):
            continue
        name = parts[-1].rpartition(".")[0]
        if parts[1].startswith("simple-"):
            is_theirs = other.get(name, frozenset()) >= mine.get(name, frozenset())
            listed[name] = (other if is_theirs else mine).get(name, frozenset())
            taken |= {path} if is_theirs else set()
    return _Caches(frozenset(taken), listed)


def _cached_wheels(manifest: Manifest) -> dict[str, frozenset[str]]:
    """Package -> its wheels in locks that the cache serves."""
    wheels: dict[str, frozenset[str]] = {}
    for script in manifest.scripts.values():
        for lock in script.locks.values():
            for name, package in lock.packages.items() if lock.cache else ():
                wheels[name] = wheels.get(name, frozenset()) | {package.wheel}
    return wheels


def _with_origin(script: BundledScript, digest: str) -> BundledScript:
    return script if script.origins else replace(script, origins=(digest,))


def _differences(
    name: str, known: BundledScript, script: BundledScript, ours: Manifest, theirs: Manifest
) -> Iterator[str]:
    if not _asks_the_same(known, script):
        yield f"{name}: other requirements"
    elif (
        known.block != script.block
        or ours.files[known.path].sha256 != theirs.files[script.path].sha256
    ):
        yield f"{name}: other text of the script"
    for target in sorted(known.locks.keys() & script.locks.keys()):
        if _lock_digests(known.locks[target], ours) != _lock_digests(script.locks[target], theirs):
            yield f"{name}: another lock for {target}"


def _asks_the_same(known: BundledScript, script: BundledScript) -> bool:
    def asked(script: BundledScript) -> tuple[object, ...]:
        return (sorted(script.dependencies), script.requires_python, script.settings, script.path)

    return asked(known) == asked(script)


def _lock_digests(lock: BundledLock, manifest: Manifest) -> tuple[object, ...]:
    return _plain(lock), manifest.files[lock.lock].sha256, manifest.files[lock.requirements].sha256


def _merge_files(
    ours: Manifest,
    theirs: Manifest,
    scripts: Mapping[str, BundledScript],
    taken: set[str],
    pages_of_theirs: frozenset[str],
) -> dict[str, BundledFile]:
    """Gather the files of both: of two that differ, the one of the script, uv or launcher that was chosen."""
    owners = _owners(ours) | _owners(theirs)
    uv_of = {
        uv.path: platform for manifest in (ours, theirs) for platform, uv in manifest.uv.items()
    }
    launcher_is_theirs = _creator(theirs) >= _creator(ours)

    def takes_theirs(path: str) -> bool:
        if path in owners:
            return owners[path] in taken
        if path in uv_of:
            return _takes_uv(ours, theirs, uv_of[path])
        if path.startswith(("cache/", "envs/")):
            return path in pages_of_theirs
        return launcher_is_theirs

    environments = tuple(
        f"{lock.environment}/" for s in ours.scripts.values() for lock in s.locks.values()
    )
    brought = {
        path: file
        for path, file in theirs.files.items()
        if path in ours.files or not path.startswith(environments)
    }
    files = {**brought, **ours.files}
    files |= {
        path: theirs.files[path]
        for path in theirs.files.keys() & ours.files.keys()
        if takes_theirs(path)
    }
    named = {path for script in scripts.values() for path in _paths(script)}
    return {
        path: file
        for path, file in files.items()
        if not path.startswith(INDEX)
        and path not in {*INVENTORIES, DOWNLOADS}
        and (path not in owners or path in named)
    }


def _owners(manifest: Manifest) -> dict[str, str]:
    return {path: name for name, script in manifest.scripts.items() for path in _paths(script)}


def _paths(script: BundledScript) -> Iterator[str]:
    yield script.path
    for lock in script.locks.values():
        yield from (lock.lock, lock.requirements)


def _takes_uv(ours: Manifest, theirs: Manifest, platform: str) -> bool:
    """Whether the uv for *platform* is theirs: the newer one."""
    if platform not in ours.uv or platform not in theirs.uv:
        return platform in theirs.uv
    return _version(theirs.uv[platform].version) > _version(ours.uv[platform].version)


def _merge_pythons(ours: Manifest, theirs: Manifest) -> dict[str, BundledPython]:
    """The interpreters of both; of two for one target the newer release."""
    both = {**theirs.pythons, **ours.pythons}
    for target, python in theirs.pythons.items():
        if _version(python.version) > _version(both[target].version):
            both[target] = python
    return both


def _creator(manifest: Manifest) -> tuple[Version, str]:
    """Order manifests by the program that made them, whose launcher they bring, then by time."""
    return _version(manifest.created_by.rpartition(" ")[2]), re.sub(
        r"\.\d+Z$", "Z", manifest.timestamp
    )


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")
