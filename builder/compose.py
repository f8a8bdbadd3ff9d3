"""Compose the bundle: locks, wheels and scripts in; its files and its manifest out. Pure.

Nothing here reads or writes a file: contents are bytes, or the path of a file to take.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w
from packaging.utils import parse_wheel_filename

from offline_bundle import __version__
from offline_bundle.builder.extras.python_builds import PythonArchive
from offline_bundle.builder.extras.uv_binaries import NodeUv
from offline_bundle.builder.inputs.bundled import with_lock
from offline_bundle.builder.inputs.targets import libc_floor
from offline_bundle.builder.resolve.model import Resolution
from offline_bundle.wheelhouse.derived.complete import complete, file_entry
from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledPython,
    BundledScript,
    BundledTarget,
    BundledUv,
    Manifest,
    Publisher,
    Source,
)
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.names import DIGEST_LENGTH, PROVENANCE
from offline_bundle.wheelhouse.store.shipped import is_launcher_file

_NO_TIME = "1980-01-01T00:00:00Z"

UV_TOML = """\
# With UV_CONFIG_FILE naming this file, an unmodified `uv run script.py` takes all from this bundle.
offline = true
no-index = true
find-links = ["./wheels"]
python-downloads = "never"
"""


@dataclass(frozen=True)
class WheelFile:
    """A wheel on this machine, verified."""

    filename: str
    path: Path
    """In the download cache, or in the bundle."""
    sha256: str
    size: int
    name: str
    """Normalized."""
    version: str
    metadata: bytes
    """Its METADATA, verbatim (PEP 658)."""
    facts: WheelMetadata
    """The same, parsed."""
    source: Source
    upload_time: datetime | None = None
    yanked: str | None = None
    publisher: Publisher | None = None
    """The publisher that its attestation proves."""
    provenance: bytes | None = None
    """Its provenance, if this build fetched it (PEP 740)."""

    @property
    def bundle_path(self) -> str:
        """Path in the bundle."""
        return f"wheels/{self.filename}"


@dataclass(frozen=True)
class LockedScript:
    """One script for one target, with its wheels."""

    resolution: Resolution
    wheels: tuple[WheelFile, ...]

    @property
    def key(self) -> str:
        """Name in the manifest's `needed-by`: `eval/cp312-x86_64-manylinux_2_28`."""
        return f"{self.resolution.script.name}/{self.resolution.target.name}"

    @property
    def lock_path(self) -> str:
        """Path of its lock in the bundle."""
        return self._path("pylock.", self.content, ".toml")

    @property
    def requirements_path(self) -> str:
        """Path of its requirements file in the bundle."""
        return self._path("requirements-", self.requirements, ".txt")

    def _path(self, prefix: str, content: bytes, suffix: str) -> str:
        """Return a path that only this content has: a node sees the old file or the new one."""
        script, target = self.resolution.script.name, self.resolution.target.name
        return f"locks/{script}/{prefix}{target}-{sha256_of(content)[:DIGEST_LENGTH]}{suffix}"

    @property
    def libc(self) -> str | None:
        """The lowest libc that its wheels run on, such as "2.28"; None if any will do."""
        tag_sets = [parse_wheel_filename(wheel.filename)[3] for wheel in self.wheels]
        return libc_floor(tag_sets, self.resolution.target)

    @cached_property
    def content(self) -> bytes:
        """Its lock (PEP 751); wheels have relative paths, so it moves with the bundle."""
        packages: list[dict[str, Any]] = []
        for wheel in sorted(self.wheels, key=lambda wheel: wheel.name):
            file: dict[str, Any] = {
                "name": wheel.filename,
                "path": f"../../{wheel.bundle_path}",
                "size": wheel.size,
            }
            if wheel.upload_time:
                file["upload-time"] = wheel.upload_time.astimezone(UTC)
            file["hashes"] = {"sha256": wheel.sha256}
            packages.append({"name": wheel.name, "version": wheel.version, "wheels": [file]})
        document = {
            "lock-version": "1.0",
            "created-by": "offline-bundle",
            "requires-python": f">={self.resolution.full_version}",
            "packages": packages,
        }
        return tomli_w.dumps(document).encode()

    @cached_property
    def requirements(self) -> bytes:
        """The same for pip, hash-pinned (`--require-hashes`)."""
        target = self.resolution.target
        lines = [
            f"# {self.resolution.script.name}.py on Python {target.python}, {target.platform}",
            "# pip install --no-index --find-links BUNDLE/wheels --require-hashes -r THIS_FILE",
        ]
        for wheel in sorted(self.wheels, key=lambda wheel: wheel.name):
            lines += [f"{wheel.name}=={wheel.version} \\", f"    --hash=sha256:{wheel.sha256}"]
        return ("\n".join(lines) + "\n").encode()


@dataclass(frozen=True)
class Composition:
    """What a bundle will hold."""

    manifest: Manifest
    contents: Mapping[str, bytes | Path]
    """Path in the bundle -> bytes or a file, of everything that this build adds."""

    def adding(self, contents: Mapping[str, bytes | Path]) -> Composition:
        """Return the same with more *contents*."""
        return replace(self, contents={**self.contents, **contents})


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

    *launcher* has the launcher's files; those of an earlier version leave the manifest. *epoch* is
    SOURCE_DATE_EPOCH; without it, the newest upload time dates the bundle. Raises IntegrityError
    (exit 5) where the bundle has a wheel or interpreter of the same name with other bytes.
    """
    before = current or Manifest(created_by="", timestamp=_NO_TIME)
    wheels = _unique(wheel for lock in locked for wheel in lock.wheels)
    added = [(wheel.bundle_path, wheel.sha256) for wheel in wheels]
    added += [(python.bundle_path, python.sha256) for python in pythons]
    _check_same_bytes(before, added)
    scripts = _scripts(before, locked)
    contents = _contents(locked, wheels, uvs, pythons)
    contents |= {**launcher, "uv.toml": UV_TOML.encode()}
    bundled_uv = {
        **before.uv,
        **{uv.platform: BundledUv(version=uv.version, path=uv.bundle_path) for uv in uvs},
    }
    files = _kept_files(before, scripts, bundled_uv)
    files |= {path: file_entry(data) for path, data in contents.items() if isinstance(data, bytes)}
    files |= {wheel.bundle_path: _bundled_wheel(wheel, before) for wheel in wheels}
    files |= {python.bundle_path: _bundled_archive(python) for python in pythons}
    for uv in uvs:
        entry = files[uv.bundle_path]
        files[uv.bundle_path] = replace(entry, source=uv.source, version=uv.version)
    manifest = Manifest(
        created_by=f"offline-bundle {__version__}",
        timestamp=_timestamp(files.values(), epoch),
        scripts=scripts,
        targets=_targets(before, locked),
        uv=bundled_uv,
        files=files,
        pythons=_pythons(before, pythons),
    )
    manifest, pages = complete(manifest)
    return Composition(manifest, {**contents, **pages})


def _contents(
    locked: Iterable[LockedScript],
    wheels: Iterable[WheelFile],
    uvs: Iterable[NodeUv],
    pythons: Iterable[PythonArchive],
) -> dict[str, bytes | Path]:
    contents: dict[str, bytes | Path] = {}
    for lock in locked:
        script = lock.resolution.script
        contents[f"scripts/{script.name}.py"] = script.bundled
        contents[lock.lock_path] = lock.content
        contents[lock.requirements_path] = lock.requirements
    for wheel in wheels:
        contents[wheel.bundle_path] = wheel.path
        contents[f"{wheel.bundle_path}.metadata"] = wheel.metadata
        if wheel.provenance is not None:
            contents[f"{wheel.bundle_path}{PROVENANCE}"] = wheel.provenance
    contents |= {uv.bundle_path: uv.executable for uv in uvs}
    return contents | {python.bundle_path: python.path for python in pythons}


def _scripts(before: Manifest, locked: Iterable[LockedScript]) -> dict[str, BundledScript]:
    scripts = dict(before.scripts)
    for lock in locked:
        name = lock.resolution.script.name
        scripts[name] = _with_lock(before, scripts.get(name), lock)
    return scripts


def _with_lock(
    before: Manifest, bundled: BundledScript | None, locked: LockedScript
) -> BundledScript:
    script, target = locked.resolution.script, locked.resolution.target
    lock = BundledLock(
        lock=locked.lock_path,
        requirements=locked.requirements_path,
        libc=locked.libc,
        packages={
            wheel.name: BundledPackage(version=wheel.version, wheel=wheel.bundle_path)
            for wheel in locked.wheels
        },
    )
    earlier = bundled.locks.get(target.name) if bundled else None
    if earlier and before.files[earlier.lock].sha256 == sha256_of(locked.content):
        # what was prepared from the same lock stays valid
        lock = replace(
            lock, cache=earlier.cache, environment=earlier.environment, image=earlier.image
        )
    entry = with_lock(bundled, script, target.name, lock)
    return bundled if bundled and replace(bundled, origins=()) == entry else entry


def _kept_files(
    before: Manifest, scripts: Mapping[str, BundledScript], uvs: Mapping[str, BundledUv]
) -> dict[str, BundledFile]:
    """Return the files that stay: without the launcher, and without replaced locks and uvs."""
    named = {path for script in scripts.values() for path in script.paths()}
    named |= {uv.path for uv in uvs.values()}
    return {
        path: replace(file, needed_by=())
        for path, file in before.files.items()
        if not is_launcher_file(path) and (not path.startswith(("locks/", "uv/")) or path in named)
    }


def _check_same_bytes(before: Manifest, added: Iterable[tuple[str, str]]) -> None:
    """Raise IntegrityError where a file would change; *added* has paths and sha256."""
    digests = {path: file.sha256 for path, file in before.files.items()}
    problems: dict[str, None] = {}
    for path, sha256 in added:
        bundled = digests.setdefault(path, sha256)
        if bundled != sha256:
            name = path.rpartition("/")[2]
            problems[f"{name}: sha256 {bundled} in the bundle, {sha256} in this build"] = None
    if problems:
        raise IntegrityError(
            "the bundle already has files of the same names with other bytes",
            problems=tuple(problems),
            hint="files of a bundle never change: give your own package a new version, "
            "or use another folder",
        )


def _bundled_wheel(wheel: WheelFile, before: Manifest) -> BundledFile:
    earlier = before.files.get(wheel.bundle_path)
    return BundledFile(
        sha256=wheel.sha256,
        size=wheel.size,
        name=wheel.name,
        version=wheel.version,
        requires_python=wheel.facts.requires_python,
        upload_time=_iso(wheel.upload_time),
        yanked=wheel.yanked,
        source=wheel.source,
        publisher=wheel.publisher or (earlier.publisher if earlier else None),
    )


def _bundled_archive(python: PythonArchive) -> BundledFile:
    return BundledFile(
        sha256=python.sha256, size=python.size, version=python.version, source=python.source
    )


def _targets(before: Manifest, locked: Iterable[LockedScript]) -> dict[str, BundledTarget]:
    targets = (lock.resolution.target for lock in locked)
    return {
        **before.targets,
        **{
            target.name: BundledTarget(python=target.python, platform=target.platform)
            for target in targets
        },
    }


def _pythons(before: Manifest, archives: Iterable[PythonArchive]) -> dict[str, BundledPython]:
    pythons = dict(before.pythons)
    for archive in archives:
        python = BundledPython(
            version=archive.version, implementation="cpython", path=archive.bundle_path
        )
        pythons |= {target.name: python for target in archive.targets}
    return pythons


def _timestamp(files: Iterable[BundledFile], epoch: int | None) -> str:
    """Return *epoch* or the newest upload time: without a clock, equal inputs give equal bytes."""
    if epoch is not None:
        return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    times = [file.upload_time for file in files if file.upload_time]
    return max((re.sub(r"\.\d+Z$", "Z", time) for time in times), default=_NO_TIME)


def _iso(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None


def _unique(wheels: Iterable[WheelFile]) -> list[WheelFile]:
    """Return one wheel per name and digest: scripts and targets share files."""
    return list(
        {(wheel.filename, wheel.sha256): wheel for wheel in reversed(list(wheels))}.values()
    )
