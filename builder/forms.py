"""The forms in which a bundle serves its scripts: one interface, `Form`, and the forms by name, `FORMS`.

index   the wheels, a static index over them and the locks: always there, the others are made from it
cache   `cache/`, a filled UV_CACHE_DIR for one version of uv (`builder/cache_form.py`)
venv    `envs/`, a ready environment per script and target (`builder/venv_form.py`)

A bundle that has a form keeps it: what later builds add or change is made in that form too.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from builder.compose import Composition
from wheelhouse.errors import FetchError
from wheelhouse.manifest import BundledFile
from wheelhouse.unpack import first_problems, path_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from builder.resolve import ResolveOptions
    from wheelhouse.manifest import BundledLock, Manifest


@dataclass
class Workshop:
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


class Form(Protocol):
    """One way to serve scripts on a node."""

    def lacks(self, manifest: Manifest) -> bool:
        """Whether some lock is not served in this form yet, and should be."""
        ...

    def is_in(self, manifest: Manifest) -> bool:
        """Whether a bundle has this form already."""
        ...

    def add(self, composition: Composition, workshop: Workshop) -> Composition:
        """Make what is lacking. Raises InputError (exit 2) or FetchError (exit 4)."""
        ...


class IndexForm:
    """What `compose` writes: nothing is left to do."""

    def lacks(self, manifest: Manifest) -> bool:
        """Never: each wheel stands in the index."""
        del manifest
        return False

    def is_in(self, manifest: Manifest) -> bool:
        """Always."""
        del manifest
        return True

    def add(self, composition: Composition, workshop: Workshop) -> Composition:
        """The bundle as it is."""
        del workshop
        return composition


def add_forms(
    names: Collection[str], composition: Composition, current: Manifest | None, make_workshop: Callable[[], Workshop]
) -> tuple[Composition, list[str]]:
    """Make the forms that are asked for, and those that the bundle (*current*) has, of every lock; notes besides."""
    notes: list[str] = []
    for name, form in _forms().items():
        is_wanted = name in names or (current is not None and form.is_in(current))
        if is_wanted and form.lacks(composition.manifest):
            workshop = make_workshop()
            composition = form.add(composition, workshop)
            notes += workshop.notes
    return composition, notes


def lacking_forms(names: Collection[str], manifest: Manifest) -> list[str]:
    """Those of *names* that a bundle does not have at all."""
    return [name for name, form in _forms().items() if name in names and not form.is_in(manifest)]


def has_cache(manifest: Manifest | None) -> bool:
    """Whether a bundle has the form `cache`."""
    return manifest is not None and any(lock.cache for _, _, lock in locks_of(manifest))


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
        name: replace(script, locks={target: change(name, target, lock) for target, lock in script.locks.items()})
        for name, script in manifest.scripts.items()
    }
    return Composition(
        replace(manifest, scripts=scripts, files={**manifest.files, **described}), {**composition.contents, **files}
    )


def _described(path: Path) -> BundledFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = path.stat()
    return BundledFile(sha256=digest, size=found.st_size, executable=bool(found.st_mode & 0o100))


def _forms() -> dict[str, Form]:
    from builder.cache_form import CacheForm  # noqa: PLC0415 - what it needs is slow to import
    from builder.venv_form import VenvForm  # noqa: PLC0415 - as above

    return {"index": IndexForm(), "cache": CacheForm(), "venv": VenvForm()}
