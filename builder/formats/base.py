"""The forms in which a bundle serves its scripts: what makes one (`Format`), and which of them a bundle has (`formats_of`).

index   what `compose` writes, the wheels, a static index over them and the locks: the others are made from it
cache   `cache/`, a filled UV_CACHE_DIR for one version of uv (`builder/cache_form.py`)
venv    `envs/`, a ready environment per script and target (`builder/venv_form.py`)

A bundle that has a form keeps it: what later builds add or change is made in that form too.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from offline_bundle.builder.compose import Composition
from offline_bundle.wheelhouse.runtime.errors import FetchError, first_problems
from offline_bundle.wheelhouse.runtime.manifest import BundledFile
from offline_bundle.wheelhouse.runtime.paths import path_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from offline_bundle.builder.resolve.model import ResolveOptions
    from offline_bundle.wheelhouse.runtime.manifest import BundledLock, Manifest


@dataclass
class FormatContext:
    """Where forms are made, and with what."""

    directory: Path
    """The bundle."""
    place: Path
    """An empty folder on the bundle's file system: what is made there is moved into the bundle."""
    uv: str
    """The uv that we resolve with."""
    uv_version: str
    options: ResolveOptions
    notes: list[str] = field(default_factory=list)
    """What the user should know."""

    def find(self, composition: Composition, path: str) -> bytes | Path:
        """The content of a file of the bundle, which may only be about to be written."""
        return composition.contents.get(path, self.directory / path)

    def read(self, composition: Composition, path: str) -> bytes:
        """The same, read."""
        content = self.find(composition, path)
        return content if isinstance(content, bytes) else content.read_bytes()


class Format(Protocol):
    """One way to serve scripts on a node."""

    def lacks(self, manifest: Manifest) -> bool:
        """Whether some lock is not served in this form yet, and should be."""
        ...

    def add(self, composition: Composition, workshop: FormatContext) -> Composition:
        """Make what is lacking. Raises InputError (exit 2) or FetchError (exit 4)."""
        ...


def add_formats(
    names: Collection[str],
    composition: Composition,
    current: Manifest | None,
    make_workshop: Callable[[], FormatContext],
) -> tuple[Composition, list[str]]:
    """Make the forms that are asked for, and those that the bundle (*current*) has, of every lock; notes besides."""
    notes: list[str] = []
    for form in _makers({*names, *formats_of(current)}):
        if form.lacks(composition.manifest):
            workshop = make_workshop()
            composition = form.add(composition, workshop)
            notes += workshop.notes
    return composition, notes


def formats_of(manifest: Manifest | None) -> set[str]:
    """Names of the forms that a bundle has, for any of its locks."""
    locks = [lock for _, _, lock in locks_of(manifest)] if manifest else []
    ready = {
        "cache": any(lock.cache for lock in locks),
        "venv": any(lock.environment for lock in locks),
    }
    return {"index", *(name for name, is_there in ready.items() if is_there)}


def locks_of(manifest: Manifest) -> Iterator[tuple[str, str, BundledLock]]:
    """Each lock, with the names of its script and target."""
    for name, script in sorted(manifest.scripts.items()):
        for target, lock in sorted(script.locks.items()):
            yield name, target, lock


def with_locks(
    composition: Composition,
    change: Callable[[str, str, BundledLock], BundledLock],
    files: Mapping[str, Path],
) -> Composition:
    """The composition with *files* of a form, by path in the bundle, and with every lock (script, target) changed."""
    manifest = composition.manifest
    faults = [f"{path}: {reason}" for path, reason in path_problems({**manifest.files, **files})]
    if faults:
        raise FetchError(
            "a package has files whose names some file systems cannot hold",
            problems=first_problems(faults),
            hint="leave out --format: the wheels themselves are no problem, nor is the launcher",
        )
    with ThreadPoolExecutor() as pool:
        described = dict(zip(files, pool.map(_described, files.values()), strict=True))
    scripts = {
        name: replace(
            script,
            locks={target: change(name, target, lock) for target, lock in script.locks.items()},
        )
        for name, script in manifest.scripts.items()
    }
    return Composition(
        replace(manifest, scripts=scripts, files={**manifest.files, **described}),
        {**composition.contents, **files},
    )


def _described(path: Path) -> BundledFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = path.stat()
    return BundledFile(sha256=digest, size=found.st_size, executable=bool(found.st_mode & 0o100))


def _makers(names: Collection[str]) -> Iterator[Format]:
    """What makes the forms *names* out of the index."""
    if "cache" in names:
        from offline_bundle.builder.formats.uv_cache import UvCacheFormat  # noqa: PLC0415 - slow to import, and most bundles lack it

        yield UvCacheFormat()
    if "venv" in names:
        from offline_bundle.builder.formats.venv import VenvFormat  # noqa: PLC0415 - the same

        yield VenvFormat()
