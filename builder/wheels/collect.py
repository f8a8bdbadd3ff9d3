"""Collecting what was chosen: out of the bundle where it is there, else fetched, else built; then checked."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, parse_wheel_filename

from offline_bundle.builder.compose import LockedScript, WheelFile
from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.credentials import without_credentials
from offline_bundle.builder.fetch.model import Download, Fetched
from offline_bundle.builder.fetch.pool import fetch
from offline_bundle.builder.wheels.build_from_source import WheelBuilder
from offline_bundle.builder.wheels.closure import capped_pythons, closure_problems, overridden_names
from offline_bundle.wheelhouse.derived.wheel_metadata import metadata_of_wheel, parse_metadata
from offline_bundle.wheelhouse.runtime.errors import FetchError, translate_os_errors
from offline_bundle.wheelhouse.runtime.files import check_space, sha256_of
from offline_bundle.wheelhouse.runtime.manifest import Source
from offline_bundle.wheelhouse.runtime.parallel import gather

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from offline_bundle.builder.fetch.credentials import Credentials
    from offline_bundle.builder.fetch.model import FetchProgress, TlsSettings
    from offline_bundle.builder.resolve.model import Artifact, Resolution, ResolveOptions
    from offline_bundle.wheelhouse.runtime.manifest import Manifest
    from offline_bundle.wheelhouse.store.writer import BundleWriter

Index = dict[str, str]
"""Package name -> URL of the index that it came from."""


@dataclass
class Collector:
    """Gets the files of one build. What it holds in the end tells what was done."""

    writer: BundleWriter
    cache_root: Path
    """The per-user cache folder."""
    credentials: Credentials
    uv: str
    options: ResolveOptions
    tls: TlsSettings | None = None
    fetched: dict[str, Fetched] = field(default_factory=dict)
    """By location."""
    built: dict[str, None] = field(default_factory=dict)
    """Names of the wheels that were built from source, in order."""

    def holds(self, choice: Artifact) -> Path | None:
        """The wheel in the bundle, when it holds it with the digest of the lock."""
        digest = choice.hashes.get("sha256")
        is_wheel = choice.kind == "wheel" and digest is not None
        return self.writer.find_file(f"wheels/{choice.filename}", digest or "") if is_wheel else None

    def fetch(self, choices: Iterable[Artifact], progress: FetchProgress) -> None:
        """Fetch every wheel and source archive that the bundle does not hold, each location once.

        Raises FetchError (exit 4), or BundleError (exit 1) before anything is fetched that would find no room.
        """
        wanted = {
            choice.location: Download(
                _url(choice.location), choice.filename, choice.hashes, choice.size
            )
            for choice in choices
            if choice.kind in {"wheel", "sdist"} and self.holds(choice) is None
        }
        cache = DownloadCache(self.cache_root)
        downloads = list(wanted.values())
        self._refuse_without_space(cache, downloads)
        files = fetch(
            downloads, cache, credentials=self.credentials, progress=progress, tls=self.tls
        )
        self.fetched |= dict(zip(wanted, files, strict=True))

    def _refuse_without_space(self, cache: DownloadCache, downloads: Iterable[Download]) -> None:
        """Ask for room for all files of known size: in the cache, and in the bundle where that lies on another disk."""
        unique = {
            download.hashes.get("sha256", download.url): download for download in downloads
        }.values()
        cache.check_space(
            sum(cache.missing_bytes(d.hashes.get("sha256"), d.size or 0) for d in unique)
        )
        output = self.writer.directory
        with translate_os_errors(output):
            if output.stat().st_dev != cache.root.stat().st_dev:  # else they are linked
                check_space(output, sum(d.size or 0 for d in unique if d.filename.endswith(".whl")))

    def lock(
        self, resolution: Resolution, choices: Sequence[Artifact], index: Future[Index] | None
    ) -> LockedScript:
        """The script with its wheels at hand. Raises FetchError (exit 4), or IntegrityError (exit 5) for a wheel."""
        indexes = index.result() if index else {}
        held = [self._held(resolution, choice) for choice in choices]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            others = gather(
                pool.submit(self._wheel, resolution, choice, indexes.get(choice.name))
                for choice, wheel in zip(choices, held, strict=True)
                if wheel is None
            )
        wheels = [*filter(None, held), *others]
        return LockedScript(resolution, tuple(sorted(wheels, key=lambda wheel: wheel.name)))

    def _wheel(self, resolution: Resolution, choice: Artifact, index: str | None) -> WheelFile:
        if choice.kind != "wheel":
            return self._build(resolution, choice, index)
        file = self.fetched[choice.location]
        wheel = _read_wheel(
            choice.filename, file.path, file.sha256, metadata_of_wheel(file.path, choice.filename)
        )
        wheel = replace(wheel, size=file.size, source=source_of(choice, index))
        return replace(
            wheel, upload_time=choice.upload_time, yanked=resolution.yanked.get(choice.name)
        )

    def _held(self, resolution: Resolution, choice: Artifact) -> WheelFile | None:
        held = self.holds(choice)
        if held is None:
            return None
        known = (
            self.writer.current.files[f"wheels/{choice.filename}"] if self.writer.current else None
        )
        metadata = self._held_metadata(choice) or metadata_of_wheel(held)
        wheel = _read_wheel(choice.filename, held, choice.hashes["sha256"], metadata)
        source = known.source if known and known.source else Source()
        wheel = replace(wheel, size=held.stat().st_size, source=source)
        return replace(
            wheel, upload_time=choice.upload_time, yanked=resolution.yanked.get(choice.name)
        )

    def _held_metadata(self, choice: Artifact) -> bytes | None:
        """The METADATA beside a wheel of the bundle; None, and it is written anew, where it is not what it was."""
        path = f"wheels/{choice.filename}.metadata"
        known = self.writer.current.files.get(path) if self.writer.current else None
        place = self.writer.find_file(path, known.sha256) if known and known.sha256 else None
        content = place.read_bytes() if place else None
        if content is None or known is None or sha256_of(content) == known.sha256:
            return content
        self.writer.mark_corrupt([path])
        return None

    def leftovers(self, choices: Iterable[Artifact]) -> dict[str, bytes | Path]:
        """Files of the bundle, by their paths, for fetched wheels that belong to no lock."""
        contents: dict[str, bytes | Path] = {}
        for choice in choices:
            wheel = self.holds(choice) or self.fetched[choice.location].path
            contents[f"wheels/{choice.filename}"] = wheel
            contents[f"wheels/{choice.filename}.metadata"] = metadata_of_wheel(
                wheel, choice.filename
            )
        return contents

    def _build(self, resolution: Resolution, choice: Artifact, index: str | None) -> WheelFile:
        archive = self.fetched.get(choice.location)
        builder = WheelBuilder(self.uv, self.options, self.cache_root, self.credentials)
        built = builder.build(choice, resolution, archive.path if archive else None)
        name = built.path.name
        if not parse_wheel_filename(name)[3] & resolution.target.tag_set:
            raise FetchError(
                f"{name} was built from source, and does not fit {resolution.target.name}",
                hint="the build backend decides a wheel's tags; publish a wheel for the target on an index of yours",
            )
        self.built[name] = None
        content = built.path.read_bytes()
        wheel = _read_wheel(
            name, built.path, hashlib.sha256(content).hexdigest(), metadata_of_wheel(built.path)
        )
        source = replace(source_of(choice, index), built_from=built.source_sha256)
        return replace(wheel, size=len(content), source=source)


def check_closures(locks: Sequence[LockedScript], current: Manifest | None) -> tuple[str, ...]:
    """Raise FetchError (exit 4) where the wheels' own METADATA asks for what their lock does not hold; give notes.

    A lock that the bundle (*current*) holds to the byte was checked when it came in.
    """
    problems, notes = [], []
    for lock in locks:
        resolution = lock.resolution
        known = current.files.get(lock.lock_path) if current else None
        if known and known.sha256 == hashlib.sha256(lock.content).hexdigest():
            continue
        found = closure_problems(
            resolution.script.dependencies,
            {wheel.name: wheel.facts for wheel in lock.wheels},
            resolution.target.environment(resolution.full_version),
            overridden_names(resolution.script.settings),
        )
        problems += [f"{lock.key}: {problem}" for problem in found]
        capped = capped_pythons((wheel.facts for wheel in lock.wheels), resolution.full_version)
        notes += [f"{resolution.script.path}: {text}" for text in capped]
    if problems:
        raise FetchError(
            "the files do not hold together: their own metadata asks for more than the index or the source said",
            problems=problems,
            hint="add what is missing to the script's dependencies, or pin another version",
        )
    return tuple(dict.fromkeys(notes))


def source_of(choice: Artifact, index: str | None) -> Source:
    """Where a choice came from, without credentials, and without the names of this machine's folders."""
    if choice.kind == "git":
        return Source(git=without_credentials(choice.location), commit=choice.commit)
    if choice.is_local:
        return Source(path=Path(choice.location.removeprefix("file://")).name)
    return Source(
        index=without_credentials(index) if index else None,
        url=without_credentials(choice.location),
    )


def _read_wheel(filename: str, path: Path, sha256: str, metadata: bytes) -> WheelFile:
    facts = parse_metadata(metadata, where=filename)
    return WheelFile(
        filename=filename,
        path=path,
        sha256=sha256,
        size=0,
        name=canonicalize_name(facts.name),
        version=facts.version,
        metadata=metadata,
        facts=facts,
        source=Source(),
    )


def _url(location: str) -> str:
    return location if "://" in location else Path(location).as_uri()
