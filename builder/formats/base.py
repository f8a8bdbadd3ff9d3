"""What all bundle formats share: the `Format` protocol, its context, and access to locks.

index   what `compose` writes: wheels, a static index over them, and locks; the base of the others
cache   `cache/`, a filled UV_CACHE_DIR for one version of uv (`uv_cache.py`)
venv    `envs/`, a ready environment per script and target (`venv.py`)
image   `images/`, the same in one SquashFS file each (`image.py`)

A bundle keeps its formats: what later builds add or change is added in those formats too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from offline_bundle.builder.compose import Composition
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.wheelhouse.derived.complete import file_entry
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledLock, Manifest
from offline_bundle.wheelhouse.runtime.disk.paths import path_problems
from offline_bundle.wheelhouse.runtime.errors import FetchError, first_problems


@dataclass
class FormatContext:
    """What a format is made with."""

    directory: Path
    """The bundle."""
    folder: Path
    """Empty, on the bundle's file system; files made there are moved into the bundle."""
    uv: str
    """The uv executable that resolves."""
    uv_version: str
    options: ResolveOptions
    notes: list[str] = field(default_factory=list)
    """Messages for the user."""

    def find(self, composition: Composition, path: str) -> bytes | Path:
        """Return the content of a file of the bundle, which may not be written yet."""
        return composition.contents.get(path, self.directory / path)

    def read(self, composition: Composition, path: str) -> bytes:
        """Return the bytes of a file of the bundle, which may not be written yet."""
        content = self.find(composition, path)
        return content if isinstance(content, bytes) else content.read_bytes()


class Format(Protocol):
    """One way to provide packages on a node."""

    def is_incomplete(self, manifest: Manifest) -> bool:
        """Return True if a lock does not have this format yet."""

    def add(self, composition: Composition, context: FormatContext) -> Composition:
        """Add what is missing. Raises InputError (exit 2) or FetchError (exit 4)."""


def formats_of(manifest: Manifest | None) -> set[str]:
    """Return the names of the formats that a bundle has, for any of its locks."""
    locks = [lock for _, _, lock in manifest.locks()] if manifest else []
    present = {
        "index": True,
        "cache": any(lock.cache for lock in locks),
        "venv": any(lock.environment for lock in locks),
        "image": any(lock.image for lock in locks),
    }
    return {name for name, is_present in present.items() if is_present}


def with_locks(
    composition: Composition,
    change: Callable[[str, str, BundledLock], BundledLock],
    files: Mapping[str, Path],
) -> Composition:
    """Return the composition with *files* (by path in the bundle) and every lock changed."""
    manifest = composition.manifest
    problems = [f"{path}: {reason}" for path, reason in path_problems({**manifest.files, **files})]
    if problems:
        raise FetchError(
            "a package has files whose names some file systems cannot hold",
            problems=first_problems(problems),
            hint="leave out --format: the wheels and the launcher work without it",
        )
    with ThreadPoolExecutor() as pool:
        entries = dict(zip(files, pool.map(file_entry, files.values()), strict=True))
    scripts = {
        name: replace(
            script,
            locks={target: change(name, target, lock) for target, lock in script.locks.items()},
        )
        for name, script in manifest.scripts.items()
    }
    manifest = replace(manifest, scripts=scripts, files={**manifest.files, **entries})
    return replace(composition, manifest=manifest).adding(files)
