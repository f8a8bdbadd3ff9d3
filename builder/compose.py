"""Composing the bundle: locks, wheels and scripts in; every file of the bundle and its manifest out. Pure.

Nothing here reads or writes a file: contents are bytes, or the path of a file that the store takes as it is.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tomli_w
from packaging.utils import parse_wheel_filename

from offline_bundle import __version__
from offline_bundle.builder.inputs.targets import libc_floor
from offline_bundle.wheelhouse.derived.complete import file_entry, with_needed_by
from offline_bundle.wheelhouse.derived.python_downloads import render_downloads
from offline_bundle.wheelhouse.derived.simple_index import INDEX, render_index
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.manifest import (
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledPython,
    BundledScript,
    BundledTarget,
    BundledUv,
    Manifest,
    Source,
)
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS
from offline_bundle.wheelhouse.runtime.pep723 import block_digest, settings_digest
from offline_bundle.wheelhouse.runtime.requirements import canonical_requirement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from offline_bundle.builder.extras.python_builds import PythonArchive
    from offline_bundle.builder.extras.uv_binaries import NodeUv
    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.resolve.model import Resolution
    from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata

_NO_TIME = "1980-01-01T00:00:00Z"

UV_TOML = """\
# With UV_CONFIG_FILE naming this file, an unmodified `uv run script.py` takes everything from this bundle.
offline = true
no-index = true
find-links = ["./wheels"]
python-downloads = "never"
"""


@dataclass(frozen=True)
class WheelFile:
    """A wheel, verified and at hand."""

    filename: str
    path: Path
    """In the download cache, or in the bundle itself when it was there already."""
    sha256: str
    size: int
    name: str
    """Normalised."""
    version: str
    metadata: bytes
    """Its METADATA, verbatim (PEP 658)."""
    facts: WheelMetadata
    """The same, read."""
    source: Source
    upload_time: datetime | None = None
    yanked: str | None = None

    @property
    def bundle_path(self) -> str:
        """Where it lies in the bundle."""
        return f"wheels/{self.filename}"


@dataclass(frozen=True)
class LockedScript:
    """One script for one target, with the wheels it gets there."""

    resolution: Resolution
    wheels: tuple[WheelFile, ...]

    @property
    def key(self) -> str:
        """As the manifest's `needed-by` has it: `eval/cp312-x86_64-manylinux_2_28`."""
        return f"{self.resolution.script.name}/{self.resolution.target.name}"

    @property
    def lock_path(self) -> str:
        """Where its lock lies in the bundle."""
        return f"locks/{self.resolution.script.name}/pylock.{self.resolution.target.name}.toml"

    @cached_property
    def content(self) -> bytes:
        """Its lock: PEP 751, its wheels relative paths into the bundle: it moves with it."""
        packages: list[dict[str, Any]] = []
        for wheel in sorted(self.wheels, key=lambda wheel: wheel.name):
            file: dict[str, Any] = {
                "name": wheel.filename,
                "path": f"../../{wheel.bundle_path}",
                "size": wheel.size,
            }
            if wheel.upload_time:
                file["upload-time"] = wheel.upload_time.astimezone(UTC)
            packages.append(
                {
                    "name": wheel.name,
                    "version": wheel.version,
                    "wheels": [{**file, "hashes": {"sha256": wheel.sha256}}],
                }
            )
        document = {
            "lock-version": "1.0",
            "created-by": "offline-bundle",
            "requires-python": f">={self.resolution.full_version}",
            "packages": packages,
        }
        return tomli_w.dumps(document).encode()


@dataclass(frozen=True)
class Composition:
    """What a bundle is to hold."""

    manifest: Manifest
    contents: Mapping[str, bytes | Path]
    """Path in the bundle -> bytes, or the file they are in; of everything that this build brings."""


def compose(  # noqa: PLR0913 - one parameter per part of a bundle
    current: Manifest | None,
    locked: Sequence[LockedScript],
    uvs: Sequence[NodeUv],
    pythons: Sequence[PythonArchive] = (),
    *,
    launcher: Mapping[str, bytes],
    epoch: int | None,
) -> Composition:
    """Add *locked* to what the bundle holds (*current*), replacing scripts of the same name.

    *launcher* has the launcher's files; *epoch* is SOURCE_DATE_EPOCH, else the newest upload time dates the bundle.
    Raises IntegrityError (exit 5) where a wheel or interpreter of the same name with other bytes is in the
    bundle already.
    """
    before = current or Manifest(created_by="", timestamp=_NO_TIME)
    contents: dict[str, bytes | Path] = {**launcher, "uv.toml": UV_TOML.encode()}
    scripts = dict(before.scripts)
    for entry in locked:
        script = entry.resolution.script
        scripts[script.name] = _bundled_script(before, scripts.get(script.name), entry)
        contents[f"scripts/{script.name}.py"] = script.source
        paths = scripts[script.name].locks[entry.resolution.target.name]
        contents[paths.lock] = entry.content
        contents[paths.requirements] = _render_requirements(entry).encode()
    wheels = [wheel for entry in locked for wheel in entry.wheels]
    archives = [(python.bundle_path, python.sha256) for python in pythons]
    _refuse_other_bytes(
        before, [*((wheel.bundle_path, wheel.sha256) for wheel in wheels), *archives]
    )
    files = _kept_files(before, scripts)
    for wheel in _unique(wheel for entry in locked for wheel in entry.wheels):
        files[wheel.bundle_path] = _bundled_wheel(wheel)
        contents[wheel.bundle_path] = wheel.path
        contents[f"{wheel.bundle_path}.metadata"] = wheel.metadata
    for uv in uvs:
        contents[uv.bundle_path] = uv.executable
    contents |= {python.bundle_path: python.path for python in pythons}
    files |= {
        python.bundle_path: BundledFile(
            sha256=python.sha256, size=python.size, version=python.version, source=python.source
        )
        for python in pythons
    }
    files |= {
        path: file_entry(content) for path, content in contents.items() if isinstance(content, bytes)
    }
    files |= {
        uv.bundle_path: replace(files[uv.bundle_path], source=uv.source, version=uv.version)
        for uv in uvs
    }
    targets = _targets(before, scripts, locked)
    brought = _pythons(before, targets, pythons)
    pages = {**render_index(files), **render_downloads(brought, targets, files)}
    contents |= pages
    files |= {path: file_entry(content) for path, content in pages.items()}
    files[CHECKSUMS] = BundledFile(sha256=None, size=None)
    manifest = Manifest(
        created_by=f"offline-bundle {__version__}",
        timestamp=_timestamp(files.values(), epoch),
        scripts=scripts,
        targets=targets,
        uv={
            **before.uv,
            **{uv.platform: BundledUv(version=uv.version, path=uv.bundle_path) for uv in uvs},
        },
        files=with_needed_by(files, scripts),
        pythons=brought,
    )
    return Composition(manifest, contents)


def bundled_script(script: Script, locks: Mapping[str, BundledLock]) -> BundledScript:
    """What a manifest says of *script* with these *locks*."""
    return BundledScript(
        path=f"scripts/{script.name}.py",
        block=block_digest(script.block),
        dependencies=script.dependencies,
        requires_python=script.requires_python,
        settings=settings_digest(script.settings),
        locks=locks,
    )


def metadata_changes(known: BundledScript, script: BundledScript) -> list[str]:
    """What *script* asks for differently from *known*, in words; empty where it asks for the same."""
    before, now = (set(map(canonical_requirement, entry.dependencies)) for entry in (known, script))
    changes = [f"now needs {text}" for text in sorted(now - before)]
    changes += [f"no longer needs {text}" for text in sorted(before - now)]
    if known.requires_python != script.requires_python:
        changes.append(f"requires-python was {known.requires_python}, is {script.requires_python}")
    if known.settings != script.settings:
        changes.append("its [tool.uv] settings changed")
    return changes


def script_is_same(known: BundledScript, script: Script) -> bool:
    """Whether *script* asks for the same as the one in the bundle: then locks for its other targets stay good."""
    return (
        sorted(map(canonical_requirement, known.dependencies))
        == sorted(map(canonical_requirement, script.dependencies))
        and known.requires_python == script.requires_python
        and known.settings == settings_digest(script.settings)
    )


def _bundled_script(
    before: Manifest, known: BundledScript | None, entry: LockedScript
) -> BundledScript:
    script, target = entry.resolution.script, entry.resolution.target
    others = dict(known.locks) if known and script_is_same(known, script) else {}
    tag_sets = (parse_wheel_filename(wheel.filename)[3] for wheel in entry.wheels)
    others[target.name] = BundledLock(
        lock=entry.lock_path,
        requirements=f"locks/{script.name}/requirements-{target.name}.txt",
        libc=libc_floor(tag_sets, target),
        packages={
            wheel.name: BundledPackage(version=wheel.version, wheel=wheel.bundle_path)
            for wheel in entry.wheels
        },
    )
    others[target.name] = _with_forms(
        before, known, others[target.name], target.name, entry.content
    )
    made = bundled_script(script, others)
    return known if known and replace(known, origins=()) == made else made


def _with_forms(
    before: Manifest, known: BundledScript | None, lock: BundledLock, target: str, content: bytes
) -> BundledLock:
    """What was made of the same lock in advance stays good."""
    earlier = known.locks.get(target) if known else None
    if earlier is None or before.files[earlier.lock].sha256 != hashlib.sha256(content).hexdigest():
        return lock
    return replace(lock, cache=earlier.cache, environment=earlier.environment)


def _kept_files(before: Manifest, scripts: Mapping[str, BundledScript]) -> dict[str, BundledFile]:
    """What stays of the bundle before: all but pages, which are rendered anew, and locks that no script has now."""
    named = {
        path
        for script in scripts.values()
        for lock in script.locks.values()
        for path in (lock.lock, lock.requirements)
    }
    return {
        path: replace(file, needed_by=())
        for path, file in before.files.items()
        if not path.startswith(INDEX) and (not path.startswith("locks/") or path in named)
    }


def _refuse_other_bytes(before: Manifest, brought: Iterable[tuple[str, str]]) -> None:
    """Refuse files whose bytes would change under their name; *brought* is of paths in the bundle and digests."""
    known = {path: file.sha256 for path, file in before.files.items()}
    problems: dict[str, None] = {}
    for path, sha256 in brought:
        digest = known.setdefault(path, sha256)
        if digest != sha256:
            name = path.rpartition("/")[2]
            problems[f"{name}: the bundle has sha256 {digest}, this build brings {sha256}"] = None
    if problems:
        raise IntegrityError(
            "the bundle already holds files of the same names with other bytes",
            problems=tuple(problems),
            hint="files of a bundle never change: give a package of your own a new version, or use another folder",
        )


def _bundled_wheel(wheel: WheelFile) -> BundledFile:
    return BundledFile(
        sha256=wheel.sha256,
        size=wheel.size,
        name=wheel.name,
        version=wheel.version,
        requires_python=wheel.facts.requires_python,
        upload_time=_iso(wheel.upload_time),
        yanked=wheel.yanked,
        source=wheel.source,
    )


def _render_requirements(entry: LockedScript) -> str:
    """The same for plain pip, hash-pinned (`--require-hashes`)."""
    target = entry.resolution.target
    lines = [
        f"# {entry.resolution.script.name}.py on Python {target.python}, {target.platform}",
        "# pip install --no-index --find-links BUNDLE/wheels --require-hashes -r THIS_FILE",
    ]
    for wheel in sorted(entry.wheels, key=lambda wheel: wheel.name):
        lines += [f"{wheel.name}=={wheel.version} \\", f"    --hash=sha256:{wheel.sha256}"]
    return "\n".join(lines) + "\n"


def _targets(
    before: Manifest, scripts: Mapping[str, BundledScript], locked: Sequence[LockedScript]
) -> dict[str, BundledTarget]:
    known = dict(before.targets)
    for entry in locked:
        target = entry.resolution.target
        known[target.name] = BundledTarget(python=target.python, platform=target.platform)
    used = {name for script in scripts.values() for name in script.locks}
    return {name: target for name, target in known.items() if name in used}


def _pythons(
    before: Manifest, targets: Mapping[str, BundledTarget], archives: Sequence[PythonArchive]
) -> dict[str, BundledPython]:
    known = dict(before.pythons)
    for archive in archives:
        python = BundledPython(
            version=archive.version, implementation="cpython", path=archive.bundle_path
        )
        known |= {target.name: python for target in archive.targets}
    return {name: python for name, python in known.items() if name in targets}


def _timestamp(files: Iterable[BundledFile], epoch: int | None) -> str:
    """SOURCE_DATE_EPOCH, or the newest upload time: never the clock, so that the same inputs give the same bytes."""
    if epoch is not None:
        return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    times = [file.upload_time for file in files if file.upload_time]
    return max((re.sub(r"\.\d+Z$", "Z", time) for time in times), default=_NO_TIME)


def _iso(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None


def _unique(wheels: Iterable[WheelFile]) -> Iterable[WheelFile]:
    """The first of each name: wheels shared by scripts and targets are one file."""
    return {wheel.filename: wheel for wheel in reversed(list(wheels))}.values()
