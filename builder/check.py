"""Whether a bundle is what building it now would make it, and if not, what would change: `build --check`.

Everything is resolved anew, and nothing is written or fetched: not a wheel, not even a lock file in the bundle's
folder, which may be read-only. What a build would make is put together as a manifest, and `offline_bundle.wheelhouse.derived.diff` compares.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from offline_bundle import __version__
from offline_bundle.builder.compose import (
    UV_TOML,
    bundled_script,
    metadata_changes,
    script_is_same,
)
from offline_bundle.builder.fetch.credentials import without_credentials
from offline_bundle.builder.formats.base import formats_of
from offline_bundle.builder.pipeline import prepare_request, resolve_request
from offline_bundle.builder.wheels.build_from_source import tree_digest
from offline_bundle.wheelhouse.derived.complete import file_entry
from offline_bundle.wheelhouse.derived.diff import diff
from offline_bundle.wheelhouse.runtime.commit import check_is_bundle_folder
from offline_bundle.wheelhouse.runtime.errors import OutOfDateError, translate_os_errors
from offline_bundle.wheelhouse.runtime.manifest import (
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledPython,
    BundledTarget,
    BundledUv,
    Manifest,
    read_manifest,
)
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS, MANIFEST
from offline_bundle.wheelhouse.store.shipped import bundle_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from offline_bundle.builder.pipeline import BuildProgress, BuildRequest, Resolved
    from offline_bundle.builder.resolve.model import Artifact, Resolution
    from offline_bundle.wheelhouse.derived.diff import BundleDiff, PackageChange
    from offline_bundle.wheelhouse.runtime.manifest import BundledScript


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that building now would change."""

    kind: str
    """`no-bundle`, `package-added`, `package-removed`, `package-changed`, `package-yanked`, `script-added`,
    `script-changed` (its metadata), `script-body-changed`, `target-added`, `target-removed`, `uv-added`, `uv-changed`,
    `python-added`, `python-changed`,
    `format-added`, `launcher-changed`, `version-changed`, `file-missing`."""
    message: str
    """The same in one line for people."""
    script: str | None = None
    target: str | None = None
    name: str | None = None
    """Of the package, platform or file."""
    old: str | None = None
    """Version."""
    new: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data, without what does not apply."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class CheckReport:
    """What a check found."""

    bundle: Path
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_up_to_date(self) -> bool:
        """Whether building now would change nothing."""
        return not self.changes

    @property
    def error(self) -> OutOfDateError | None:
        """The same as an error (exit 9); None when the bundle is up to date."""
        if self.is_up_to_date:
            return None
        problems = [change.message for change in self.changes]
        return OutOfDateError(
            f"{self.bundle} is out of date",
            problems=problems,
            hint="build it again, with the same options but --check",
        )

    def raise_if_out_of_date(self) -> None:
        """Raise the error, if there is one."""
        if error := self.error:
            raise error

    def to_json(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        return {
            "bundle": str(self.bundle),
            "up-to-date": self.is_up_to_date,
            "changes": [change.to_json() for change in self.changes],
            "notes": list(self.notes),
        }


def check(request: BuildRequest, uv: str, progress: BuildProgress) -> CheckReport:
    """Compare the bundle at `request.output` with what building it now would make.

    Raises as `offline_bundle.builder.pipeline.build` does for what would make the build fail: InputError (2), ResolveError (3),
    FetchError (4), IntegrityError (5) for a broken manifest.
    """
    prepared = prepare_request(request, uv)
    with translate_os_errors(request.output):
        check_is_bundle_folder(str(request.output))
        is_there = (request.output / MANIFEST).exists()
    if not is_there:
        return CheckReport(
            request.output, (Change(kind="no-bundle", message="there is no bundle yet"),)
        )
    current = read_manifest(request.output)
    progress.step(f"Resolving {', '.join(script.path.name for script in prepared.scripts)}")
    resolved = resolve_request(request, prepared, uv, current)
    changes = (
        *changes_between(current, expected_manifest(current, resolved)),
        *_missing_forms(request.formats, current),
        *_missing_files(request.output, current),
    )
    return CheckReport(request.output, changes, (*prepared.notes, *resolved.notes))


def expected_manifest(current: Manifest, resolved: Resolved) -> Manifest:
    """The manifest after a build, as far as it can be known without the wheels: no index pages and inventories."""
    scripts, targets, uvs = dict(current.scripts), dict(current.targets), dict(current.uv)
    files = dict(current.files)
    for resolution, choices in zip(resolved.resolutions, resolved.choices, strict=True):
        script, target = resolution.script, resolution.target
        scripts[script.name] = _with_lock(current, scripts.get(script.name), resolution, choices)
        targets[target.name] = BundledTarget(python=target.python, platform=target.platform)
        files[f"scripts/{script.name}.py"] = file_entry(script.source)
        for choice, package in zip(
            choices, scripts[script.name].locks[target.name].packages.values(), strict=True
        ):
            files[package.wheel] = _wheel_file(current.files.get(package.wheel), resolution, choice)
    for resolution, choice in zip(resolved.uv_resolutions, resolved.uv_choices, strict=True):
        uvs[resolution.target.platform] = BundledUv(version=choice.version or "", path="")
    pythons = dict(current.pythons)
    for target, offer in resolved.offers.items():
        version = ".".join(map(str, offer.version))
        pythons[target.name] = BundledPython(
            version=version, implementation="cpython", path=offer.bundle_path
        )
    fixed = {
        **bundle_files(with_cache="cache" in formats_of(current), with_pythons=bool(pythons)),
        "uv.toml": UV_TOML.encode(),
    }
    files |= {path: file_entry(content) for path, content in fixed.items()}
    return replace(
        current,
        created_by=f"offline-bundle {__version__}",
        scripts=scripts,
        targets=targets,
        uv=uvs,
        pythons=pythons,
        files=files,
    )


def changes_between(old: Manifest, new: Manifest) -> Iterator[Change]:
    """What *new* changes, in words: scripts, targets, packages, then what the bundle itself brings."""
    found = diff(old, new)
    yield from _script_changes(old, new)
    for kind, keys in (("added", found.locks.added), ("removed", found.locks.removed)):
        for key in keys:
            script, _, target = key.partition("/")
            if script in old.scripts:
                verb = (
                    "is not in the bundle yet"
                    if kind == "added"
                    else "goes, as the metadata changed: build for it too"
                )
                message = f"{script} for {target} {verb}"
                yield Change(kind=f"target-{kind}", message=message, script=script, target=target)
    settled = {f"{change.script}/{change.target}" for change in found.packages} - {
        *found.locks.added,
        *found.locks.removed,
    }
    for change in found.packages:
        if f"{change.script}/{change.target}" in settled:
            yield _package_change(change)
    yield from _yanked(old, new)
    yield from _program_changes(old, new, found)
    for name in (
        *bundle_files(with_cache="cache" in formats_of(old), with_pythons=bool(new.pythons)),
        "uv.toml",
    ):
        if name in (*found.files.added, *found.files.changed):
            yield Change(
                kind="launcher-changed",
                message=f"{name} is another one in this offline-bundle",
                name=name,
            )
    if old.created_by != new.created_by:
        message = f"it was made by {old.created_by}, this is {new.created_by}"
        yield Change(
            kind="version-changed", message=message, old=old.created_by, new=new.created_by
        )


def _program_changes(old: Manifest, new: Manifest, found: BundleDiff) -> Iterator[Change]:
    for platform in (*found.uv.added, *found.uv.changed):
        was = old.uv[platform].version if platform in old.uv else None
        now = new.uv[platform].version
        kind, message = ("uv-changed", f"{was} → {now}") if was else ("uv-added", f"{now} is added")
        yield Change(
            kind=kind, message=f"uv for {platform}: {message}", name=platform, old=was, new=now
        )
    for target in (*found.pythons.added, *found.pythons.changed):
        was = old.pythons[target].version if target in old.pythons else None
        now = new.pythons[target].version
        kind, message = (
            ("python-changed", f"{was} → {now}")
            if was
            else ("python-added", f"Python {now} is added")
        )
        yield Change(
            kind=kind,
            message=f"interpreter for {target}: {message}",
            target=target,
            name="python",
            old=was,
            new=now,
        )


def _script_changes(old: Manifest, new: Manifest) -> Iterator[Change]:
    for name, script in new.scripts.items():
        known = old.scripts.get(name)
        if known is None:
            yield Change(
                kind="script-added", message=f"{name} is not in the bundle yet", script=name
            )
        elif (known.block, known.settings) != (script.block, script.settings):
            what = (
                "; ".join(metadata_changes(known, script))
                or "its metadata block is written in another way"
            )
            yield Change(kind="script-changed", message=f"{name}: {what}", script=name)
        elif old.files[known.path].sha256 != new.files[script.path].sha256:
            message = f"{name}: its code changed, its metadata did not"
            yield Change(kind="script-body-changed", message=message, script=name)


def _package_change(change: PackageChange) -> Change:
    where = f"{change.script} for {change.target}"
    old, new = change.old_version, change.new_version
    if change.kind == "added":
        what = f"{change.name} {new} is added"
    elif change.kind == "removed":
        what = f"{change.name} {old} is removed"
    elif old == new:
        what = f"{change.name} {old} from another file"
    else:
        what = f"{change.name} {old} → {new}"
    message = f"{where}: {what}"
    kind = f"package-{change.kind}"
    return Change(
        kind=kind,
        message=message,
        script=change.script,
        target=change.target,
        name=change.name,
        old=old,
        new=new,
    )


def _yanked(old: Manifest, new: Manifest) -> Iterator[Change]:
    for path, file in new.files.items():
        known = old.files.get(path)
        if known and known.version and known.yanked != file.yanked:
            state = (
                f"was yanked from its index ({file.yanked})"
                if file.yanked is not None
                else "is no longer yanked"
            )
            message = f"{known.name} {known.version} {state}"
            yield Change(
                kind="package-yanked",
                message=message,
                name=known.name,
                old=known.version,
                new=known.version,
            )


def _missing_forms(names: Sequence[str], manifest: Manifest) -> Iterator[Change]:
    for name in sorted({*names} - formats_of(manifest)):
        yield Change(
            kind="format-added", message=f"the bundle does not have the form {name} yet", name=name
        )


def _missing_files(directory: Path, manifest: Manifest) -> Iterator[Change]:
    """Files that the manifest names and that are not there, by their size alone: `verify` reads them.

    A manifest without even checksums and launcher beside it is a lock under version control: it lacks nothing.
    """
    if not any(
        (directory / path).exists()
        for path in (CHECKSUMS, *bundle_files(with_cache=False, with_pythons=False))
    ):
        return
    for path, file in manifest.files.items():
        place = directory / path
        with translate_os_errors(directory):
            is_whole = place.is_file() and file.size in {None, place.stat().st_size}
        if not is_whole:
            yield Change(kind="file-missing", message=f"{path} is missing or cut short", name=path)


def _with_lock(
    current: Manifest,
    known: BundledScript | None,
    resolution: Resolution,
    choices: tuple[Artifact, ...],
) -> BundledScript:
    script, target = resolution.script, resolution.target
    locks: dict[str, BundledLock] = (
        dict(known.locks) if known and script_is_same(known, script) else {}
    )
    packages = {choice.name: _package(current, resolution, choice) for choice in choices}
    locks[target.name] = BundledLock(lock="", requirements="", libc=None, packages=packages)
    return bundled_script(script, locks)


def _wheel_file(known: BundledFile | None, resolution: Resolution, choice: Artifact) -> BundledFile:
    yanked = resolution.yanked.get(choice.name)
    if known and (choice.kind != "wheel" or choice.hashes.get("sha256") in {None, known.sha256}):
        return replace(known, yanked=yanked)
    return BundledFile(sha256=choice.hashes.get("sha256"), size=choice.size, yanked=yanked)


def _package(current: Manifest, resolution: Resolution, choice: Artifact) -> BundledPackage:
    """The wheel that *choice* leads to: in the bundle already, or by the name that it will have about."""
    if choice.kind == "wheel":
        path = f"wheels/{choice.filename}"
        known = current.files.get(path)
        same = known is not None and known.sha256 == choice.hashes.get("sha256", known.sha256)
        version = known.version if known and same else choice.version
        return BundledPackage(version=version or "", wheel=path)
    for path, file in current.files.items():
        if (
            file.name == canonicalize_name(choice.name)
            and _is_built_from(file, choice)
            and _fits(path, resolution)
        ):
            return BundledPackage(version=file.version or "", wheel=path)
    return BundledPackage(
        version=choice.version or "from source", wheel=f"wheels/{choice.name} (to be built)"
    )


def _is_built_from(file: BundledFile, choice: Artifact) -> bool:
    if file.source is None or file.source.built_from is None:
        return False
    if choice.kind == "git":
        return (file.source.git, file.source.commit) == (
            without_credentials(choice.location),
            choice.commit,
        )
    if choice.kind == "directory":
        return file.source.built_from == tree_digest(Path(choice.location))
    return file.source.built_from == choice.hashes.get("sha256")


def _fits(path: str, resolution: Resolution) -> bool:
    try:
        return bool(
            parse_wheel_filename(path.removeprefix("wheels/"))[3] & resolution.target.tag_set
        )
    except InvalidWheelFilename:
        return False
