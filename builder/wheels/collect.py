"""Collect the files of a build: from the bundle, fetched, or built; and check them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from offline_bundle.builder.compose import LockedScript, WheelFile
from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.model import Download, Fetched, FetchProgress, TlsSettings
from offline_bundle.builder.fetch.pool import fetch
from offline_bundle.builder.resolve.model import Artifact, Indexes, Resolution, ResolveOptions
from offline_bundle.builder.resolve.settings import uv_settings
from offline_bundle.builder.wheels.build_from_source import WheelBuilder
from offline_bundle.builder.wheels.check_wheel import check_no_lfs_pointers, check_wheel
from offline_bundle.builder.wheels.closure import (
    capped_pythons,
    closure_problems,
    overridden_names,
    with_stated_requirements,
    without_versions,
)
from offline_bundle.wheelhouse.derived.wheel_metadata import metadata_of_wheel, parse_metadata
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest, Source
from offline_bundle.wheelhouse.runtime.disk.files import check_space, file_digest, sha256_of
from offline_bundle.wheelhouse.runtime.errors import FetchError, translate_os_errors
from offline_bundle.wheelhouse.runtime.parallel import gather
from offline_bundle.wheelhouse.runtime.text import without_logins
from offline_bundle.wheelhouse.store.writer import BundleWriter


@dataclass
class Collector:
    """Collects the files of one build, and records what was done."""

    writer: BundleWriter
    cache_root: Path
    """The per-user cache folder."""
    credentials: Credentials
    uv: str
    options: ResolveOptions
    tls: TlsSettings | None = None
    fetched: dict[str, Fetched] = field(default_factory=dict)
    """By location."""
    built: dict[str, bool] = field(default_factory=dict)
    """Names of wheels from source, in order; False for those kept from an earlier build."""
    notes: list[str] = field(default_factory=list)
    """Messages for the user."""
    _checked: set[tuple[Path, str]] = field(default_factory=set)

    def find_wheel(self, artifact: Artifact) -> Path | None:
        """Return the wheel in the bundle, if it has the digest of the lock."""
        digest = artifact.hashes.get("sha256")
        if artifact.kind != "wheel" or digest is None:
            return None
        return self.writer.find_file(f"wheels/{artifact.filename}", digest)

    def fetch(self, artifacts: Iterable[Artifact], progress: FetchProgress) -> None:
        """Fetch all wheels and source archives that are not in the bundle, each location once.

        Raises FetchError (exit 4), or BundleError (exit 1) before a download that does not fit on
        the disk.
        """
        downloads = {
            artifact.location: Download(
                _url(artifact.location), artifact.filename, artifact.hashes, artifact.size
            )
            for artifact in artifacts
            if artifact.kind in {"wheel", "sdist"} and self.find_wheel(artifact) is None
        }
        cache = DownloadCache(self.cache_root)
        self._check_space(cache, downloads.values())
        files = fetch(
            list(downloads.values()),
            cache,
            credentials=self.credentials,
            progress=progress,
            tls=self.tls,
        )
        self.fetched |= dict(zip(downloads, files, strict=True))

    def _check_space(self, cache: DownloadCache, downloads: Iterable[Download]) -> None:
        """Require space for all files of known size: in the cache and on the disk of the bundle."""
        by_digest = {
            download.hashes.get("sha256", download.url): download for download in downloads
        }
        unique = by_digest.values()
        cache.check_space(
            sum(cache.missing_bytes(d.hashes.get("sha256"), d.size or 0) for d in unique)
        )
        output = self.writer.directory
        with translate_os_errors(output):
            if output.stat().st_dev != cache.root.stat().st_dev:  # else they are linked
                check_space(output, sum(d.size or 0 for d in unique if d.filename.endswith(".whl")))

    def lock(
        self, resolution: Resolution, artifacts: Sequence[Artifact], index: Future[Indexes] | None
    ) -> LockedScript:
        """Return the script with its wheels.

        Raises FetchError (exit 4), or IntegrityError (exit 5) for an unreadable wheel.
        """
        indexes = index.result() if index else Indexes({})
        self.notes += indexes.notes
        # the largest first, so that it is not checked alone at last
        artifacts = sorted(artifacts, key=lambda artifact: -(artifact.size or 0))
        # wheels in the bundle are read in one thread: several contend for the GIL
        bundled = [self._bundled_wheel(resolution, artifact) for artifact in artifacts]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            others = gather(
                pool.submit(self._new_wheel, resolution, artifact, indexes.urls.get(artifact.name))
                for artifact, wheel in zip(artifacts, bundled, strict=True)
                if wheel is None
            )
        wheels = [*filter(None, bundled), *others]
        return LockedScript(resolution, tuple(sorted(wheels, key=lambda wheel: wheel.name)))

    def orphaned_wheels(self, artifacts: Iterable[Artifact]) -> dict[str, bytes | Path]:
        """Return the contents of wheels of the bundle that are in no lock, by path."""
        contents: dict[str, bytes | Path] = {}
        for artifact in artifacts:
            wheel = self.find_wheel(artifact) or self.fetched[artifact.location].path
            path = f"wheels/{artifact.filename}"
            contents[path] = wheel
            contents[f"{path}.metadata"] = metadata_of_wheel(wheel, artifact.filename)
        return contents

    def _bundled_wheel(self, resolution: Resolution, artifact: Artifact) -> WheelFile | None:
        path = self.find_wheel(artifact)
        if path is None:
            return None
        entry = self._bundled_file(f"wheels/{artifact.filename}")
        source = entry.source if entry and entry.source else Source()
        metadata = self._bundled_metadata(artifact)
        sha256 = artifact.hashes["sha256"]
        wheel = _wheel_file(path, artifact.filename, sha256, metadata, source)
        return _with_index_data(wheel, resolution, artifact)

    def _bundled_metadata(self, artifact: Artifact) -> bytes | None:
        """Return the METADATA beside a wheel of the bundle; None where it is missing or changed."""
        path = f"wheels/{artifact.filename}.metadata"
        entry = self._bundled_file(path)
        if entry is None or not entry.sha256:
            return None
        file = self.writer.find_file(path, entry.sha256)
        content = file.read_bytes() if file else None
        if content is not None and sha256_of(content) != entry.sha256:
            self.writer.mark_corrupt([path])
            return None
        return content

    def _bundled_file(self, path: str) -> BundledFile | None:
        return self.writer.current.files.get(path) if self.writer.current else None

    def _new_wheel(
        self, resolution: Resolution, artifact: Artifact, index: str | None
    ) -> WheelFile:
        if artifact.kind == "wheel":
            file = self.fetched[artifact.location]
            is_new = not file.from_cache
            source = source_of(artifact, index)
            wheel = _wheel_file(file.path, artifact.filename, file.sha256, None, source)
            wheel = _with_index_data(wheel, resolution, artifact)
        else:
            path, source = self._build(resolution, artifact, index)
            is_new = self.built[path.name]
            wheel = _wheel_file(path, path.name, file_digest(path), None, source)
        self._check(wheel, is_new=is_new)
        if artifact.kind != "wheel":
            check_no_lfs_pointers(wheel.path)
        return wheel

    def _check(self, wheel: WheelFile, *, is_new: bool) -> None:
        """Check a wheel once; remove a rejected one from the cache, so that it stays new."""
        if (wheel.path, wheel.filename) in self._checked:
            return
        try:
            check_wheel(wheel.path, wheel.filename, wheel.facts, is_new=is_new)
        except FetchError:
            wheel.path.unlink(missing_ok=True)
            raise
        self._checked.add((wheel.path, wheel.filename))

    def _build(
        self, resolution: Resolution, artifact: Artifact, index: str | None
    ) -> tuple[Path, Source]:
        archive = self.fetched.get(artifact.location)
        builder = WheelBuilder(self.uv, self.options, self.cache_root, self.credentials)
        built = builder.build(artifact, resolution, archive.path if archive else None)
        name = built.path.name
        if not parse_wheel_filename(name)[3] & resolution.target.tag_set:
            raise FetchError(
                f"{name} was built from source and does not fit {resolution.target.name}",
                hint="publish a wheel for the target on an index of yours: "
                "the build backend decides the tags",
            )
        self.built.setdefault(name, not built.is_kept)
        return built.path, source_of(artifact, index, built_from=built.source_sha256)


def check_closures(locks: Sequence[LockedScript], current: Manifest | None) -> tuple[str, ...]:
    """Raise FetchError (exit 4) where METADATA requires packages that are not locked; return notes.

    A lock that is unchanged in the bundle (*current*) was checked when it was added.
    """
    problems, notes = [], []
    for lock in locks:
        resolution = lock.resolution
        entry = current.files.get(lock.lock_path) if current else None
        if entry and entry.sha256 == sha256_of(lock.content):
            continue
        missing = _missing(lock, resolution.full_version)
        problems += [f"{lock.key}: {problem}" for problem in missing]
        notes += _later_release_notes(lock) if not missing else []
        capped = capped_pythons((wheel.facts for wheel in lock.wheels), resolution.full_version)
        notes += [f"{resolution.script.path}: {text}" for text in capped]
    if problems:
        raise FetchError(
            "wheel metadata requires packages that are not locked",
            problems=problems,
            hint="add the missing packages to the script's dependencies, or pin another version",
        )
    return tuple(dict.fromkeys(notes))


def _missing(lock: LockedScript, full_version: str, kernel: str = "") -> list[str]:
    resolution = lock.resolution
    settings = uv_settings.deciding_settings(resolution.script)
    environment = resolution.target.environment(full_version)
    environment |= {"platform_release": kernel, "platform_version": kernel}
    return closure_problems(
        without_versions(resolution.script.dependencies, resolution.script.settings),
        {wheel.name: with_stated_requirements(wheel.facts, settings) for wheel in lock.wheels},
        environment,
        overridden_names(resolution.script.settings),
    )


def _later_release_notes(lock: LockedScript) -> list[str]:
    """Return notes on requirements of later patch releases or kernels, which nodes may have."""
    resolution = lock.resolution
    python, script = resolution.target.python, resolution.script
    last = resolution.target.last_version(script.requires_python)
    return [
        *(
            f"{script.path}: on some releases of Python {python}, {problem}: the bundle is "
            f"resolved for {resolution.full_version}; set requires-python to at least the release "
            "of the nodes"
            for problem in _missing(lock, last)
        ),
        *(
            f"{script.path}: on some kernels, {problem}; add the package without that marker"
            for problem in _missing(lock, resolution.full_version, kernel="999")
        ),
    ]


def source_of(artifact: Artifact, index: str | None, built_from: str | None = None) -> Source:
    """Return the source of an artifact, without credentials and local folder names."""
    if artifact.kind == "git":
        return Source(
            git=without_logins(artifact.location),
            commit=artifact.commit,
            built_from=built_from,
        )
    if artifact.is_local:
        name = Path(artifact.location.removeprefix("file://")).name
        return Source(path=name, built_from=built_from)
    return Source(
        index=without_logins(index) if index else None,
        url=without_logins(artifact.location),
        built_from=built_from,
    )


def _wheel_file(
    path: Path, filename: str, sha256: str, metadata: bytes | None, source: Source
) -> WheelFile:
    """Return a wheel with its METADATA, which is read from the wheel where it is None."""
    if metadata is None:
        metadata = metadata_of_wheel(path, filename)
    facts = parse_metadata(metadata, where=filename)
    return WheelFile(
        filename=filename,
        path=path,
        sha256=sha256,
        size=path.stat().st_size,
        name=canonicalize_name(facts.name),
        version=facts.version,
        metadata=metadata,
        facts=facts,
        source=source,
    )


def _with_index_data(wheel: WheelFile, resolution: Resolution, artifact: Artifact) -> WheelFile:
    yanked = resolution.yanked.get(artifact.name)
    return replace(wheel, upload_time=artifact.upload_time, yanked=yanked)


def _url(location: str) -> str:
    return location if "://" in location else Path(location).as_uri()
