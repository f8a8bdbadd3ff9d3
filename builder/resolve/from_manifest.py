"""Building from the locks that are there: `build --locked` resolves nothing anew.

The manifest is enough of a lock: it names each script's packages for each target, and each file with its digest and
where it came from. So `bundle.json` alone can be kept under version control, and the bundle be made from it again
anywhere, to the same bytes. Pure, but for `damaged_files`, which reads the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.pylock import Package, PackageSdist, PackageVcs, PackageWheel, Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version

from offline_bundle.builder.compose import bundled_script, metadata_changes
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.inputs.uv_lockfile import has_uv_lock, uv_lock_path
from offline_bundle.builder.resolve.model import Artifact, Resolution
from offline_bundle.wheelhouse.derived.complete import INVENTORIES
from offline_bundle.wheelhouse.derived.inventories import render_inventories
from offline_bundle.wheelhouse.runtime.errors import (
    FetchError,
    IntegrityError,
    OutOfDateError,
    first_problems,
)
from offline_bundle.wheelhouse.runtime.files import sha256_of
from offline_bundle.wheelhouse.runtime.manifest import BundledFile, BundledPackage, Manifest, Source
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS
from offline_bundle.wheelhouse.store.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.resolve.model import Resolver
    from offline_bundle.wheelhouse.runtime.manifest import BundledScript

_AGAIN = "build without --locked to bring the bundle up to date"


def locked_pairs(
    scripts: Sequence[Script],
    current: Manifest | None,
    plan: Callable[[Script], Sequence[tuple[Script, Target]]],
) -> list[tuple[Script, Target]]:
    """Every script with every target that the bundle (*current*) has a lock of it for.

    A script that the bundle lacks must have a uv lock beside it; its targets, like those that the flags ask for, are
    what *plan* says. Raises OutOfDateError (exit 9) with everything that differs.
    """
    pairs: list[tuple[Script, Target]] = []
    problems: list[str] = []
    for script in scripts:
        known = current.scripts.get(script.name) if current else None
        if current is None or known is None:
            if not has_uv_lock(script):
                problems.append(
                    f"{script.path}: not in the bundle, and there is no {uv_lock_path(script).name} beside it"
                )
            pairs += plan(script)
            continue
        problems += [
            f"{script.path}: {change}"
            for change in metadata_changes(known, bundled_script(script, {}))
        ]
        absent = {target.name for _, target in plan(script)} - known.locks.keys()
        problems += [f"{script.path}: {name} is not in the bundle" for name in sorted(absent)]
        targets = (current.targets[name] for name in known.locks)
        pairs += [(script, Target(target.python, target.platform)) for target in targets]
    if problems:
        raise OutOfDateError(
            "the locks do not answer what is asked", problems=problems, hint=_AGAIN
        )
    return pairs


def damaged_files(directory: Path) -> frozenset[str]:
    """Files that the manifest at *directory* names and that are missing or changed, after reading all of them."""
    report = verify(directory)
    return frozenset({*report.missing, *(change.path for change in report.changed)} - {CHECKSUMS})


@dataclass(frozen=True)
class LockedResolver:
    """The manifest's locks as a `Resolver`; scripts that it does not hold go to *otherwise*."""

    manifest: Manifest
    directory: Path
    damaged: frozenset[str]
    """Files that are not to be had from the bundle."""
    places: Sequence[Path]
    """Folders to look in for wheels that came from one: those of `--find-links`."""
    otherwise: Resolver

    def resolve(self, script: Script, target: Target) -> Resolution:
        """See `Resolver.resolve`; raises FetchError (exit 4) for files that cannot be had again."""
        known = self.manifest.scripts.get(script.name)
        if known is None:
            return self.otherwise.resolve(script, target)
        return self._resolution(script, target, known)

    def _resolution(self, script: Script, target: Target, known: BundledScript) -> Resolution:
        packages: list[Package] = []
        yanked: dict[str, str] = {}
        lost: list[str] = []
        for name, package in known.locks[target.name].packages.items():
            file = self.manifest.files[package.wheel]
            artifact = self._artifact(package, file)
            if artifact is None:
                lost.append(f"{package.wheel}: {_origin(file.source or Source())}")
                continue
            packages.append(
                Package(name=canonicalize_name(name), version=Version(package.version), **artifact)
            )
            yanked |= {name: file.yanked} if file.yanked is not None else {}
        if lost:
            raise FetchError(
                f"{script.path} for {target.name}: files of the bundle cannot be had again",
                problems=lost,
                hint="keep these wheels beside bundle.json, or name their folder with --find-links",
            )
        return Resolution(
            script=script,
            target=target,
            full_version=target.full_version(script.requires_python),
            lock=Pylock(
                lock_version=Version("1.0"), created_by="offline-bundle", packages=packages
            ),
            yanked=yanked,
        )

    def index_of(self, resolution: Resolution) -> dict[str, str]:
        """See `Resolver.index_of`."""
        known = self.manifest.scripts.get(resolution.script.name)
        if known is None:
            return self.otherwise.index_of(resolution)
        packages = known.locks[resolution.target.name].packages
        sources = {
            name: self.manifest.files[package.wheel].source for name, package in packages.items()
        }
        return {name: source.index for name, source in sources.items() if source and source.index}

    def prefetch(self, resolution: Resolution, choices: Sequence[Artifact]) -> set[str]:
        """See `Resolver.prefetch`."""
        return self.otherwise.prefetch(resolution, choices)

    def _artifact(self, package: BundledPackage, file: BundledFile) -> dict[str, Any] | None:
        """What a lock says of the package: its wheel, or the source that the wheel was built from."""
        source = file.source or Source()
        filename = package.wheel.removeprefix("wheels/")
        if package.wheel not in self.damaged:
            return {"wheels": [_wheel(file, filename, path=str(self.directory / package.wheel))]}
        if source.path is not None:
            found = next(
                (place / filename for place in self.places if (place / filename).is_file()), None
            )
            return {"wheels": [_wheel(file, filename, path=str(found))]} if found else None
        if source.git is not None:
            return {"vcs": PackageVcs(type="git", url=source.git, commit_id=source.commit or "")}
        if source.url is None:
            return None
        if source.built_from is not None:
            return {"sdist": PackageSdist(url=source.url, hashes={"sha256": source.built_from})}
        return {"wheels": [_wheel(file, filename, url=source.url)]}


@dataclass(frozen=True)
class LockedUv:
    """The uv for the nodes that the manifest names, as a `Resolver` of uv's own wheel."""

    manifest: Manifest
    otherwise: Resolver
    """For platforms that it has none for."""

    def resolve(self, script: Script, target: Target) -> Resolution:
        """See `Resolver.resolve`. The manifest has the digest of the executable, not of the wheel that it was in."""
        if target.platform not in self.manifest.uv:
            return self.otherwise.resolve(script, target)
        uv = self.manifest.uv[target.platform]
        source = self.manifest.files[uv.path].source
        if source is None or source.url is None:
            raise FetchError(
                f"{uv.path} is missing, and the bundle does not say where it came from", hint=_AGAIN
            )
        wheel = PackageWheel(url=source.url, hashes={})
        package = Package(name=canonicalize_name("uv"), version=Version(uv.version), wheels=[wheel])
        lock = Pylock(lock_version=Version("1.0"), created_by="offline-bundle", packages=[package])
        return Resolution(script, target, f"{target.python.rstrip('t')}.0", lock, {})

    def index_of(self, resolution: Resolution) -> dict[str, str]:
        """See `Resolver.index_of`."""
        known = self.manifest.uv.get(resolution.target.platform)
        if known is None:
            return self.otherwise.index_of(resolution)
        source = self.manifest.files[known.path].source
        return {"uv": source.index} if source and source.index else {}

    def prefetch(self, resolution: Resolution, choices: Sequence[Artifact]) -> set[str]:
        """See `Resolver.prefetch`."""
        return self.otherwise.prefetch(resolution, choices)


def uv_to_restore(
    manifest: Manifest, damaged: Iterable[str], python: str, *, wanted: str | None
) -> list[tuple[str, Target]]:
    """(version, target) of each uv executable that has to be fetched again; *wanted* is the version asked for, if any.

    Raises OutOfDateError (exit 9) where the bundle has another one.
    """
    others = [
        f"uv for {name}: {uv.version}"
        for name, uv in manifest.uv.items()
        if wanted not in {None, uv.version}
    ]
    if others:
        raise OutOfDateError(f"the bundle does not hold uv {wanted}", problems=others, hint=_AGAIN)
    lost = set(damaged)
    return [
        (uv.version, Target(python, name)) for name, uv in manifest.uv.items() if uv.path in lost
    ]


def leftovers(
    manifest: Manifest, scripts: Iterable[Script], damaged: frozenset[str]
) -> list[Artifact]:
    """Damaged wheels that none of *scripts* needs, as they are to be fetched: an earlier build left them.

    Raises OutOfDateError (exit 9) where files of a script that was not given are damaged.
    """
    given = {script.name for script in scripts}
    absent = [
        name
        for name, script in manifest.scripts.items()
        if name not in given
        and damaged
        & {
            script.path,
            *(path for lock in script.locks.values() for path in (lock.lock, lock.requirements)),
        }
    ]
    if absent:
        raise OutOfDateError(
            "the bundle holds more scripts, and their files are missing or damaged",
            problems=[f"{name}: {manifest.scripts[name].path}" for name in absent],
            hint="name these scripts too",
        )
    needed = {
        package.wheel for name in given if name in manifest.scripts
        for lock in manifest.scripts[name].locks.values() for package in lock.packages.values()
    }  # fmt: skip
    wheels = [path.removesuffix(".metadata") for path in damaged if path.startswith("wheels/")]
    return [_leftover(path, manifest.files[path]) for path in sorted({*wheels} - needed)]


def pythons_to_restore(manifest: Manifest | None, damaged: frozenset[str]) -> dict[str, Artifact]:
    """Damaged archives of interpreters, by path, as they are to be fetched; raises FetchError (4) for lost ones."""
    files = manifest.files if manifest else {}
    found = {}
    for path in sorted(path for path in damaged & files.keys() if path.startswith("python/")):
        file = files[path]
        if file.source is None or file.source.url is None:
            raise FetchError(
                f"{path} is missing, and the bundle does not say where it came from", hint=_AGAIN
            )
        filename = path.rpartition("/")[2]
        hashes = {"sha256": file.sha256 or ""}
        found[path] = Artifact(
            "python", file.version, "wheel", file.source.url, filename, hashes, file.size
        )
    return found


def refuse_lacking_pythons(targets: Iterable[str]) -> None:
    """Raise OutOfDateError (exit 9) for targets that the locks hold without an interpreter, when one is asked for."""
    if names := list(targets):
        raise OutOfDateError(
            "the bundle brings no interpreter for some of its targets", problems=names, hint=_AGAIN
        )


def without_lost_forms(manifest: Manifest, damaged: Collection[str]) -> Manifest:
    """*manifest* as if nobody had made the ready environments yet, where files below `envs/` are among *damaged*.

    Raises OutOfDateError (exit 9) for a damaged cache: uv writes times and random names into it, never the same twice.
    """
    if lost := [path for path in damaged if path.startswith("cache/")]:
        raise OutOfDateError(
            f"the cache for uv cannot be made again from bundle.json alone: {len(lost)} of its files are missing or "
            "changed, and uv writes other bytes each time",
            hint="keep cache/ beside bundle.json; or keep the bundle.json of a bundle without it, and after --locked "
            "add it by --locked --format cache",
        )
    if not any(path.startswith("envs/") for path in damaged):
        return manifest
    scripts = {
        name: replace(
            script,
            locks={key: replace(lock, environment=None) for key, lock in script.locks.items()},
        )
        for name, script in manifest.scripts.items()
    }
    return replace(manifest, scripts=scripts)


def timestamp(manifest: Manifest) -> int:
    """Its time in seconds since 1970: the same locks keep their date."""
    return int(datetime.fromisoformat(manifest.timestamp).timestamp())


def refuse_other_files(before: Manifest, after: Manifest) -> None:
    """Raise IntegrityError (exit 5) where a file that the locks decide came out with other bytes."""
    problems = [
        f"{path}: the bundle has sha256 {file.sha256}, {after.files[path].sha256} came"
        for path, file in before.files.items()
        if path.startswith(("wheels/", "uv/", "python/", "locks/", "envs/")) and path in after.files
        if path != "envs/bin/uv"  # as run.py: that of this version
        if after.files[path].sha256 != file.sha256
    ]
    if problems:
        raise IntegrityError(
            "the locks' files came with other bytes", problems=first_problems(problems), hint=_AGAIN
        )


def refuse_lost_environments(before: Manifest, after: Manifest, reasons: Sequence[str]) -> None:
    """Raise FetchError (exit 4) where a ready environment of *before* could not be made again; *reasons* say why."""
    lost = [
        lock.environment
        for name, script in before.scripts.items()
        for key, lock in script.locks.items()
        if lock.environment and after.scripts[name].locks[key].environment != lock.environment
    ]
    if lost:
        raise FetchError(
            "ready environments of the bundle are missing and cannot be made again here",
            problems=[*lost, *reasons],
            hint="have Pythons of these minor versions here, or keep envs/ beside bundle.json",
        )


def restore_inventories(
    manifest: Manifest, metadata: Callable[[], Mapping[str, bytes]], damaged: frozenset[str]
) -> dict[str, bytes]:
    """Render the inventories that *damaged* names again, for a *manifest* that is the one in force.

    Raises OutOfDateError (exit 9) for a report that tells of a bundle before this one: it cannot be made from this
    manifest alone.
    """
    if not damaged & INVENTORIES:
        return {}
    contents = render_inventories(manifest, metadata(), None)
    other = [
        path
        for path in sorted(damaged & INVENTORIES)
        if sha256_of(contents[path]) != manifest.files[path].sha256
    ]
    if other:
        raise OutOfDateError(
            f"{', '.join(other)} cannot be made again from bundle.json alone: it tells of the bundle before this one",
            hint="keep it beside bundle.json; or build the bundle anew, into an empty folder",
        )
    return {path: content for path, content in contents.items() if path in damaged}


def _wheel(file: BundledFile, filename: str, **place: str) -> PackageWheel:
    time = datetime.fromisoformat(file.upload_time) if file.upload_time else None
    return PackageWheel(
        name=filename, size=file.size, hashes={"sha256": file.sha256 or ""}, upload_time=time, **place
    )  # fmt: skip


def _leftover(path: str, file: BundledFile) -> Artifact:
    source = file.source or Source()
    if source.url is None or source.built_from is not None:
        hint = (
            "keep it beside bundle.json, or leave it out of the bundle with `offline-bundle prune`"
        )
        raise FetchError(f"{path} is missing and cannot be had again: {_origin(source)}", hint=hint)
    filename = path.removeprefix("wheels/")
    return Artifact(
        file.name or "",
        file.version,
        "wheel",
        source.url,
        filename,
        {"sha256": file.sha256 or ""},
        file.size,
    )


def _origin(source: Source) -> str:
    if source.built_from is not None:
        return f"it was built from {source.path or source.git or source.url}"
    return (
        f"it came from a local file, {source.path}"
        if source.path
        else "nothing says where it came from"
    )


def local_places(places: Iterable[str]) -> list[Path]:
    """The folders among find-links *places*."""
    found = [urlsplit(place).path if place.startswith("file:") else place for place in places]
    return [Path(place) for place in found if "://" not in place]
