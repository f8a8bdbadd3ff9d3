"""Compare a bundle with what a build would make now: `build --check`.

Everything is resolved anew; nothing is written or fetched, not even a lock file in the bundle's
folder, which may be read-only. The result of a build is predicted as a manifest, and
`wheelhouse.derived.diff` compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from offline_bundle import __version__
from offline_bundle.builder.bytecode import wanted_bytecode
from offline_bundle.builder.changes import Change, changes_between
from offline_bundle.builder.compose import UV_TOML
from offline_bundle.builder.formats.base import formats_of
from offline_bundle.builder.inputs.bundled import with_lock
from offline_bundle.builder.model import (
    BuildPlan,
    BuildProgress,
    BuildRequest,
    Resolved,
    ResolvedLock,
)
from offline_bundle.builder.pipeline import plan_build
from offline_bundle.builder.resolve.model import Artifact, Resolution
from offline_bundle.builder.strategies import resolve
from offline_bundle.builder.wheels.local_source import project_digest
from offline_bundle.wheelhouse.derived.bytecode import find_compiler
from offline_bundle.wheelhouse.derived.complete import file_entry
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledPython,
    BundledScript,
    BundledTarget,
    BundledUv,
    Manifest,
    read_manifest,
)
from offline_bundle.wheelhouse.runtime.bytecode import BYTECODE, split_bytecode_path
from offline_bundle.wheelhouse.runtime.disk.commit import check_is_bundle_folder
from offline_bundle.wheelhouse.runtime.disk.files import file_digest
from offline_bundle.wheelhouse.runtime.errors import OutOfDateError, translate_os_errors
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS, MANIFEST
from offline_bundle.wheelhouse.runtime.text import without_logins
from offline_bundle.wheelhouse.store.shipped import bundle_files, is_launcher_file


@dataclass(frozen=True)
class CheckReport:
    """Result of a check."""

    bundle: Path
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_up_to_date(self) -> bool:
        """True if a build would change nothing."""
        return not self.changes

    @property
    def error(self) -> OutOfDateError | None:
        """The changes as an error (exit 9); None when the bundle is up to date."""
        if self.is_up_to_date:
            return None
        return OutOfDateError(
            f"{self.bundle} is out of date",
            problems=[change.message for change in self.changes],
            hint="build it with the same options, without --check",
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return {
            "bundle": str(self.bundle),
            "up-to-date": self.is_up_to_date,
            "changes": [change.to_json() for change in self.changes],
            "notes": list(self.notes),
        }


def check(request: BuildRequest, uv: str, progress: BuildProgress) -> CheckReport:
    """Compare the bundle at `request.output` with what a build would make now.

    Raises as `pipeline.build` for what would make it fail: InputError (2), ResolveError (3),
    FetchError (4), IntegrityError (5) for a corrupt manifest.
    """
    plan = plan_build(request, uv)
    with translate_os_errors(request.output):
        check_is_bundle_folder(str(request.output))
        exists = (request.output / MANIFEST).exists()
    if not exists:
        change = Change(kind="no-bundle", message="there is no bundle yet")
        return CheckReport(request.output, (change,))
    current = read_manifest(request.output)
    progress.step(plan.first_step)
    resolved = resolve(plan, current)
    changes = (
        *changes_between(current, expected_manifest(current, resolved)),
        *_missing_formats(request.formats, current),
        *_bytecode_changes(request, current),
        *_data_changes(plan, current),
        *_missing_files(request.output, current),
    )
    return CheckReport(request.output, changes, (*plan.notes, *resolved.notes))


def expected_manifest(current: Manifest, resolved: Resolved) -> Manifest:
    """Return the manifest after a build, as far as it is known without the wheels.

    It has no index pages and inventories: these need the wheels' metadata.
    """
    scripts, targets, uvs = dict(current.scripts), dict(current.targets), dict(current.uv)
    pythons = dict(current.pythons)
    files = {path: file for path, file in current.files.items() if not is_launcher_file(path)}
    for lock in resolved.locks:
        script, target = lock.resolution.script, lock.resolution.target
        scripts[script.name] = _with_lock(current, scripts.get(script.name), lock)
        targets[target.name] = BundledTarget(python=target.python, platform=target.platform)
        files[f"scripts/{script.name}.py"] = file_entry(script.bundled)
        packages = scripts[script.name].locks[target.name].packages.values()
        for artifact, package in zip(lock.artifacts, packages, strict=True):
            bundled = current.files.get(package.wheel)
            files[package.wheel] = _wheel_file(bundled, lock.resolution, artifact)
    for lock in resolved.uv:
        version = lock.artifacts[0].version or ""
        uvs[lock.resolution.target.platform] = BundledUv(version=version, path="")
    for target, build in resolved.pythons.items():
        pythons[target.name] = BundledPython(
            version=build.version_text, implementation="cpython", path=build.bundle_path
        )
    launcher = bundle_files(with_cache="cache" in formats_of(current), with_pythons=bool(pythons))
    fixed = {**launcher, "uv.toml": UV_TOML.encode()}
    return replace(
        current,
        created_by=f"offline-bundle {__version__}",
        scripts=scripts,
        targets=targets,
        uv=uvs,
        pythons=pythons,
        files=files | {path: file_entry(content) for path, content in fixed.items()},
    )


def _missing_formats(names: Sequence[str], manifest: Manifest) -> Iterator[Change]:
    for name in sorted({*names} - formats_of(manifest)):
        message = f"the bundle does not have the format {name} yet"
        yield Change(kind="format-added", message=message, name=name)


def _bytecode_changes(request: BuildRequest, manifest: Manifest) -> Iterator[Change]:
    """Yield that a build adds bytecode for a Python of this machine, or removes it all."""
    existing = {path for path in manifest.files if path.startswith(BYTECODE)}
    if not request.with_bytecode:
        if existing:
            message = "the bundle has bytecode, which --no-bytecode removes"
            yield Change(kind="bytecode-removed", message=message)
        return
    locked = manifest if request.is_locked else None
    missing = wanted_bytecode(manifest, locked) - existing
    for python in sorted({split_bytecode_path(path)[1] for path in missing}):
        if find_compiler(python):
            message = f"the bundle has no bytecode for Python {python} yet"
            yield Change(kind="bytecode-added", message=message, name=python)


def _data_changes(plan: BuildPlan, manifest: Manifest) -> Iterator[Change]:
    """Yield the data that a build adds, or for which it would need another name."""
    for path, file in plan.data.files.items():
        bundled = manifest.files.get(path)
        if bundled is None:
            yield Change(kind="data-added", message=f"{path} is not in the bundle yet", name=path)
        elif bundled.sha256 != file_digest(file):
            message = f"{path} has other bytes: give it another name with --include NAME=PATH"
            yield Change(kind="data-changed", message=message, name=path)
    for script in plan.scripts if plan.data.names else ():
        needed = manifest.scripts[script.name].data if script.name in manifest.scripts else ()
        for name in sorted({*needed} - {*plan.data.names}):
            message = f"{script.name} no longer needs data/{name}"
            yield Change(kind="data-removed", message=message, script=script.name, name=name)


def _missing_files(directory: Path, manifest: Manifest) -> Iterator[Change]:
    """Yield files that are missing or have another size; `verify` reads them.

    A manifest without checksums and launcher beside it is a lock under version control: its files
    are not expected.
    """
    if not any((directory / path).exists() for path in (CHECKSUMS, "run.py")):
        return
    for path, file in manifest.files.items():
        with translate_os_errors(directory):
            on_disk = directory / path
            is_complete = on_disk.is_file() and file.size in {None, on_disk.stat().st_size}
        if not is_complete:
            message = f"{path} is missing or truncated"
            yield Change(kind="file-missing", message=message, name=path)


def _with_lock(
    current: Manifest, bundled: BundledScript | None, lock: ResolvedLock
) -> BundledScript:
    resolution = lock.resolution
    script, target = resolution.script, resolution.target
    packages = {
        artifact.name: _package(current, resolution, artifact) for artifact in lock.artifacts
    }
    bundled_lock = BundledLock(lock="", requirements="", libc=None, packages=packages)
    return with_lock(bundled, script, target.name, bundled_lock)


def _wheel_file(
    bundled: BundledFile | None, resolution: Resolution, artifact: Artifact
) -> BundledFile:
    yanked, sha256 = resolution.yanked.get(artifact.name), artifact.hashes.get("sha256")
    if bundled and (artifact.kind != "wheel" or sha256 in {None, bundled.sha256}):
        return replace(bundled, yanked=yanked)
    return BundledFile(sha256=sha256, size=artifact.size, yanked=yanked)


def _package(current: Manifest, resolution: Resolution, artifact: Artifact) -> BundledPackage:
    """Return the wheel of *artifact*: the one in the bundle, or a prediction of its name."""
    if artifact.kind == "wheel":
        path = f"wheels/{artifact.filename}"
        file = current.files.get(path)
        is_same = file and file.sha256 == artifact.hashes.get("sha256", file.sha256)
        version = file.version if file and is_same else artifact.version
        return BundledPackage(version=version or "", wheel=path)
    name = canonicalize_name(artifact.name)
    for path, file in current.files.items():
        if file.name == name and _is_built_from(file, artifact) and _fits(path, resolution):
            return BundledPackage(version=file.version or "", wheel=path)
    version = artifact.version or "from source"
    return BundledPackage(version=version, wheel=f"wheels/{artifact.name} (to be built)")


def _is_built_from(file: BundledFile, artifact: Artifact) -> bool:
    if file.source is None or file.source.built_from is None:
        return False
    if artifact.kind == "git":
        location = without_logins(artifact.location)
        return (file.source.git, file.source.commit) == (location, artifact.commit)
    if artifact.kind == "directory":
        return file.source.built_from == project_digest(Path(artifact.location))
    return file.source.built_from == artifact.hashes.get("sha256")


def _fits(path: str, resolution: Resolution) -> bool:
    try:
        tags = parse_wheel_filename(path.removeprefix("wheels/"))[3]
    except InvalidWheelFilename:
        return False
    return bool(tags & resolution.target.tag_set)
