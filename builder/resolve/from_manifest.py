"""Resolve from the manifest of a bundle: `build --locked` resolves nothing anew.

The manifest names each script's packages per target, and each file with its digest and origin. So
`bundle.json` alone can be kept under version control, and the bundle be made from it again
anywhere, with the same bytes. Pure, but for looking for wheels in folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.pylock import Package, PackageSdist, PackageVcs, PackageWheel, Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version

from offline_bundle.builder.inputs.bundled import bundled_script
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.resolve.model import Artifact, Indexes, Resolution, Resolver
from offline_bundle.builder.resolve.uv_lockfile import has_uv_lock, uv_lock_path
from offline_bundle.wheelhouse.derived.diff import metadata_changes
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledPackage,
    BundledScript,
    Manifest,
    Source,
)
from offline_bundle.wheelhouse.runtime.errors import FetchError, IntegrityError, OutOfDateError
from offline_bundle.wheelhouse.runtime.names import COPY_AGAIN_HINT, MANIFEST
from offline_bundle.wheelhouse.runtime.text import shown

UPDATE_HINT = "build without --locked to update the bundle"


def locked_pairs(
    scripts: Sequence[Script],
    current: Manifest | None,
    requested: Callable[[Script], Sequence[tuple[Script, Target]]],
) -> list[tuple[Script, Target]]:
    """Return every script with every target that the bundle (*current*) has a lock for.

    A script that the bundle does not have must have a uv lock beside it. Its targets, like those of
    flags, are what *requested* returns. Raises one OutOfDateError (exit 9) for all differences.
    """
    pairs: list[tuple[Script, Target]] = []
    problems: list[str] = []
    for script in scripts:
        bundled = current.scripts.get(script.name) if current else None
        if current is None or bundled is None:
            if not has_uv_lock(script):
                name = uv_lock_path(script).name
                problems.append(
                    f"{script.path}: not in the bundle, and there is no {name} beside it"
                )
            pairs += requested(script)
            continue
        changes = metadata_changes(bundled, bundled_script(script, {}))
        problems += [f"{script.path}: {change}" for change in changes]
        missing = {target.name for _, target in requested(script)} - bundled.locks.keys()
        problems += [f"{script.path}: {name} is not in the bundle" for name in sorted(missing)]
        targets = (current.targets[name] for name in bundled.locks)
        pairs += [(script, Target(target.python, target.platform)) for target in targets]
    if problems:
        raise OutOfDateError(
            "the locks do not match the scripts and options", problems=problems, hint=UPDATE_HINT
        )
    return pairs


def local_folders(locations: Iterable[str]) -> list[Path]:
    """Return the folders among the *locations* of find-links."""
    paths = [
        unquote(urlsplit(text).path) if text.startswith("file:") else text for text in locations
    ]
    return [Path(path) for path in paths if "://" not in path]


@dataclass(frozen=True)
class LockedResolver:
    """`Resolver` by the manifest's locks; scripts that it does not have go to *fallback*."""

    manifest: Manifest
    directory: Path
    corrupt: frozenset[str]
    """Files that cannot be taken from the bundle."""
    folders: Sequence[Path]
    """Where to look for wheels that came from a folder: those of `--find-links`."""
    fallback: Resolver

    def resolve(self, script: Script, target: Target) -> Resolution:
        """See `Resolver.resolve`; raises FetchError (exit 4) for files that cannot be fetched."""
        bundled = self.manifest.scripts.get(script.name)
        if bundled is None:
            return self.fallback.resolve(script, target)
        return self._resolution(script, target, bundled)

    def index_of(self, resolution: Resolution) -> Indexes:
        """See `Resolver.index_of`."""
        bundled = self.manifest.scripts.get(resolution.script.name)
        if bundled is None:
            return self.fallback.index_of(resolution)
        packages = bundled.locks[resolution.target.name].packages
        sources = {
            name: self.manifest.files[package.wheel].source for name, package in packages.items()
        }
        return Indexes({name: it.index for name, it in sources.items() if it and it.index})

    def prefetch(self, resolution: Resolution, artifacts: Sequence[Artifact]) -> set[str]:
        """See `Resolver.prefetch`."""
        return self.fallback.prefetch(resolution, artifacts)

    def _resolution(self, script: Script, target: Target, bundled: BundledScript) -> Resolution:
        packages: list[Package] = []
        yanked: dict[str, str] = {}
        problems: list[str] = []
        for name, package in bundled.locks[target.name].packages.items():
            file = self.manifest.files[package.wheel]
            artifact = self._artifact(package, file)
            if artifact is None:
                problems.append(f"{package.wheel}: {origin(file.source or Source())}")
                continue
            version = _version(package.version, name)
            packages.append(Package(name=canonicalize_name(name), version=version, **artifact))
            yanked |= {name: file.yanked} if file.yanked is not None else {}
        if problems:
            raise FetchError(
                f"{script.path} for {target.name}: files of the bundle cannot be fetched again",
                problems=problems,
                hint="keep these wheels beside bundle.json, or name their folder with --find-links",
            )
        full_version = target.full_version(script.requires_python)
        return Resolution(script, target, full_version, _lock(packages), yanked)

    def _artifact(self, package: BundledPackage, file: BundledFile) -> dict[str, Any] | None:
        """Return the lock's entry: the wheel, or the source that the wheel was built from."""
        source = file.source or Source()
        filename = package.wheel.removeprefix("wheels/")
        if package.wheel not in self.corrupt:
            return {"wheels": [_wheel(file, filename, path=str(self.directory / package.wheel))]}
        if source.path is not None:
            paths = (folder / filename for folder in self.folders)
            path = next((path for path in paths if path.is_file()), None)
            return {"wheels": [_wheel(file, filename, path=str(path))]} if path else None
        if source.git is not None:
            return {"vcs": PackageVcs(type="git", url=source.git, commit_id=source.commit or "")}
        if source.url is None:
            return None
        if source.built_from is not None:
            return {"sdist": PackageSdist(url=source.url, hashes={"sha256": source.built_from})}
        return {"wheels": [_wheel(file, filename, url=source.url)]}


@dataclass(frozen=True)
class LockedUv:
    """`Resolver` of the uv for the nodes, by the manifest."""

    manifest: Manifest
    fallback: Resolver
    """For platforms that it has none for."""

    def resolve(self, script: Script, target: Target) -> Resolution:
        """See `Resolver.resolve`. The manifest has the executable's digest, not the wheel's."""
        if target.platform not in self.manifest.uv:
            return self.fallback.resolve(script, target)
        uv = self.manifest.uv[target.platform]
        url = url_of(self.manifest, uv.path)
        wheel = PackageWheel(url=url, hashes={})
        version = _version(uv.version, "uv")
        package = Package(name=canonicalize_name("uv"), version=version, wheels=[wheel])
        full_version = f"{target.python.rstrip('t')}.0"
        return Resolution(script, target, full_version, _lock([package]), {})

    def index_of(self, resolution: Resolution) -> Indexes:
        """See `Resolver.index_of`."""
        uv = self.manifest.uv.get(resolution.target.platform)
        if uv is None:
            return self.fallback.index_of(resolution)
        source = self.manifest.files[uv.path].source
        return Indexes({"uv": source.index} if source and source.index else {})

    def prefetch(self, resolution: Resolution, artifacts: Sequence[Artifact]) -> set[str]:
        """See `Resolver.prefetch`."""
        return self.fallback.prefetch(resolution, artifacts)


def url_of(manifest: Manifest, path: str) -> str:
    """Return the URL to fetch a missing file from; raises FetchError (exit 4) without one."""
    source = manifest.files[path].source
    if source is None or source.url is None:
        message = f"{path} is missing, and bundle.json does not name its origin"
        raise FetchError(message, hint=UPDATE_HINT)
    return source.url


def origin(source: Source) -> str:
    """Return where a file that has no URL came from, for messages."""
    if source.built_from is not None:
        return f"it was built from {source.path or source.git or source.url}"
    if source.path:
        return f"it came from a local file, {source.path}"
    return "bundle.json does not name its origin"


def _version(text: str, name: str) -> Version:
    try:
        return Version(text)
    except ValueError:  # InvalidVersion, or more digits than int() takes
        message = f"{MANIFEST}: invalid version {shown(text)} of {name}"
        raise IntegrityError(message, hint=COPY_AGAIN_HINT) from None


def _lock(packages: list[Package]) -> Pylock:
    return Pylock(lock_version=Version("1.0"), created_by="offline-bundle", packages=packages)


def _wheel(file: BundledFile, filename: str, **location: str) -> PackageWheel:
    return PackageWheel(
        name=filename,
        size=file.size,
        hashes={"sha256": file.sha256 or ""},
        upload_time=datetime.fromisoformat(file.upload_time) if file.upload_time else None,
        **location,
    )
