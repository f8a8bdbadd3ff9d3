"""Restore a bundle from its manifest (`build --locked`): corrupt files, and checks afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.resolve.from_manifest import UPDATE_HINT, origin, url_of
from offline_bundle.builder.resolve.model import Artifact
from offline_bundle.wheelhouse.derived.complete import INVENTORIES
from offline_bundle.wheelhouse.derived.inventories import render_inventories
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledLock,
    Manifest,
    Source,
)
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import (
    FetchError,
    IntegrityError,
    OutOfDateError,
    first_problems,
)
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS, PROVENANCE, UV_SHIM
from offline_bundle.wheelhouse.store.verify import verify

_LOCKED_FOLDERS = ("wheels/", "uv/", "python/", "locks/", "envs/", "images/")


def corrupt_files(directory: Path) -> frozenset[str]:
    """Return files of the bundle that are missing or changed, after reading all of them."""
    report = verify(directory)
    changed = (change.path for change in report.changed)
    return frozenset({*report.missing, *changed} - {CHECKSUMS})


def uv_to_restore(
    manifest: Manifest, corrupt: Collection[str], python: str, *, wanted: str | None
) -> list[tuple[str, Target]]:
    """Return (version, target) of each uv to fetch again; *wanted* is the version asked for.

    Raises OutOfDateError (exit 9) where the bundle has another version.
    """
    others = [
        f"uv for {name}: {uv.version}"
        for name, uv in manifest.uv.items()
        if wanted not in {None, uv.version}
    ]
    if others:
        raise OutOfDateError(f"uv {wanted} is not in the bundle", problems=others, hint=UPDATE_HINT)
    return [
        (uv.version, Target(python, name)) for name, uv in manifest.uv.items() if uv.path in corrupt
    ]


def orphaned_wheels(
    manifest: Manifest, scripts: Iterable[Script], corrupt: frozenset[str]
) -> list[Artifact]:
    """Return corrupt wheels that none of *scripts* needs: an earlier build added them.

    Raises OutOfDateError (exit 9) where files of a script that was not given are corrupt.
    """
    given = {script.name for script in scripts}
    others = [
        name
        for name, script in manifest.scripts.items()
        if name not in given and not corrupt.isdisjoint(script.paths())
    ]
    if others:
        raise OutOfDateError(
            "files of other scripts in the bundle are missing or corrupt",
            problems=[f"{name}: {manifest.scripts[name].path}" for name in others],
            hint="name these scripts too",
        )
    needed = {
        package.wheel
        for name in given & manifest.scripts.keys()
        for lock in manifest.scripts[name].locks.values()
        for package in lock.packages.values()
    }
    wheels = {
        path.removesuffix(".metadata").removesuffix(PROVENANCE)
        for path in corrupt
        if path.startswith("wheels/")
    }
    return [_wheel_artifact(path, manifest.files[path]) for path in sorted(wheels - needed)]


def pythons_to_restore(manifest: Manifest | None, corrupt: Collection[str]) -> dict[str, Artifact]:
    """Return corrupt archives of interpreters by path; raises FetchError (4) without origin."""
    files = manifest.files if manifest else {}
    return {
        path: _artifact("python", files[path], url_of(manifest, path), path)
        for path in sorted(files.keys() & corrupt)
        if manifest and path.startswith("python/")
    }


def check_pythons_bundled(missing: Iterable[str]) -> None:
    """Raise OutOfDateError (exit 9) for locked targets that are *missing* an interpreter."""
    if names := list(missing):
        raise OutOfDateError(
            "the bundle has no interpreter for some of its targets",
            problems=names,
            hint=UPDATE_HINT,
        )


def without_corrupt_formats(manifest: Manifest, corrupt: Collection[str]) -> Manifest:
    """Return *manifest* without ready environments or images if any of them is corrupt.

    Raises OutOfDateError (exit 9) for a corrupt cache: uv writes times and random names into it, so
    it cannot be made again with the same bytes.
    """
    if cached := [path for path in corrupt if path.startswith("cache/")]:
        raise OutOfDateError(
            f"the uv cache cannot be made again from bundle.json alone: {len(cached)} of its files "
            "are missing or changed, and uv writes other bytes each time",
            hint="keep cache/ beside bundle.json; or keep the bundle.json of a bundle without it, "
            "and after --locked add it by --locked --format cache",
        )
    has_environments, has_images = (
        not any(path.startswith(folder) for path in corrupt) for folder in ("envs/", "images/")
    )
    if has_environments and has_images:
        return manifest

    def without_corrupt(lock: BundledLock) -> BundledLock:
        environment = lock.environment if has_environments else None
        return replace(lock, environment=environment, image=lock.image if has_images else None)

    scripts = {
        name: replace(
            script, locks={key: without_corrupt(lock) for key, lock in script.locks.items()}
        )
        for name, script in manifest.scripts.items()
    }
    return replace(manifest, scripts=scripts)


def timestamp(manifest: Manifest) -> int:
    """Return its time in seconds since 1970: the same locks keep their date."""
    return int(datetime.fromisoformat(manifest.timestamp).timestamp())


def check_same_files(before: Manifest, after: Manifest) -> None:
    """Raise IntegrityError (exit 5) where a file that the locks decide has other bytes."""
    pairs = {path: path for path in before.files if path.startswith(_LOCKED_FOLDERS)}
    pairs |= dict(_replaced_paths(before, after))
    problems = [
        f"{old}: sha256 {before.files[old].sha256} in the bundle, {after.files[new].sha256} "
        "fetched or built"
        for old, new in pairs.items()
        if new in after.files
        if old != UV_SHIM  # of this version, as run.py is
        if after.files[new].sha256 != before.files[old].sha256
    ]
    if problems:
        raise IntegrityError(
            "files of the locks have other bytes now",
            problems=first_problems(problems),
            hint=UPDATE_HINT,
        )


def _replaced_paths(before: Manifest, after: Manifest) -> Iterator[tuple[str, str]]:
    """Yield both paths of each lock, requirements file and uv: a digest is part of them."""
    for name in before.scripts.keys() & after.scripts.keys():
        locks = before.scripts[name].locks, after.scripts[name].locks
        for target in locks[0].keys() & locks[1].keys():
            yield locks[0][target].lock, locks[1][target].lock
            yield locks[0][target].requirements, locks[1][target].requirements
    for platform in before.uv.keys() & after.uv.keys():
        yield before.uv[platform].path, after.uv[platform].path


def check_environments(before: Manifest, after: Manifest, reasons: Sequence[str]) -> None:
    """Raise FetchError (exit 4) for environments of *before* that could not be made again."""
    missing = [
        path
        for name, key, lock in before.locks()
        for path in _environments(lock) - _environments(after.scripts[name].locks[key])
    ]
    if missing:
        raise FetchError(
            "ready environments of the bundle are missing and cannot be made again here",
            problems=[*missing, *reasons],
            hint="install Pythons of these minor versions, or keep envs/ and images/ beside "
            "bundle.json",
        )


def _environments(lock: BundledLock) -> set[str]:
    """Return the paths of the lock's ready environment and of its image."""
    return {path for path in (lock.environment, lock.image) if path}


def restore_inventories(
    manifest: Manifest, metadata: Callable[[], Mapping[str, bytes]], corrupt: Collection[str]
) -> dict[str, bytes]:
    """Render the *corrupt* inventories of a *manifest* that is in force.

    Raises OutOfDateError (exit 9) for a report that describes changes to an earlier bundle: it
    cannot be made from this manifest alone.
    """
    paths = sorted(INVENTORIES.intersection(corrupt))
    if not paths:
        return {}
    contents = render_inventories(manifest, metadata(), None)
    others = [path for path in paths if sha256_of(contents[path]) != manifest.files[path].sha256]
    if others:
        raise OutOfDateError(
            f"{', '.join(others)} cannot be made again from bundle.json alone: "
            "it describes changes to an earlier bundle, or an audit",
            hint="keep it beside bundle.json; or build the bundle into an empty folder",
        )
    return {path: contents[path] for path in paths}


def _wheel_artifact(path: str, file: BundledFile) -> Artifact:
    source = file.source or Source()
    if source.url is None or source.built_from is not None:
        raise FetchError(
            f"{path} is missing and cannot be fetched again: {origin(source)}",
            hint="keep it beside bundle.json, or remove it with `offline-bundle prune`",
        )
    return _artifact(file.name or "", file, source.url, path)


def _artifact(name: str, file: BundledFile, url: str, path: str) -> Artifact:
    filename = path.rpartition("/")[2]
    hashes = {"sha256": file.sha256 or ""}
    return Artifact(name, file.version, "wheel", url, filename, hashes, file.size)
