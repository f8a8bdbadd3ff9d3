"""What all resolvers share: the `Resolver` protocol, its options, and its results.

resolution = resolver.resolve(script, target)          # versions and their files, as PEP 751
artifacts = select_artifacts(resolution)               # one file per package
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.wheelhouse.derived.package_names import includes

if TYPE_CHECKING:
    from packaging.pylock import Pylock


ArtifactKind = Literal["wheel", "sdist", "directory", "git"]


class Indexes(NamedTuple):
    """Where the packages of a lock came from."""

    urls: Mapping[str, str]
    """Package name -> URL of its index, without credentials, where that is known."""
    notes: Sequence[str] = ()
    """Versions that later patch releases of the Python would get, as messages."""


@dataclass(frozen=True)
class ResolveOptions:
    """Options of the command line; they add to the script's settings and to uv's configuration."""

    indexes: tuple[str, ...] = ()
    """As `--index` takes them: `URL` or `NAME=URL`."""
    default_index: str | None = None
    index_strategy: str | None = None
    """uv's: `first-index` (its default), `unsafe-first-match` or `unsafe-best-match`."""
    find_links: tuple[str, ...] = ()
    insecure_hosts: tuple[str, ...] = ()
    """`HOST` or `HOST:PORT` whose certificates are not checked."""
    exclude_newer: str | None = None
    constraints: tuple[Path, ...] = ()
    allow_build: frozenset[str] = frozenset()
    """Normalized names, or `:all:`."""
    interpreters: Mapping[str, str] = field(default_factory=dict)
    """Python minor version -> an interpreter of this machine, to build with."""

    def allows(self, name: str) -> bool:
        """Return True if package *name* may be built from source."""
        return includes(self.allow_build, name)


@dataclass(frozen=True)
class Resolution:
    """One script resolved for one target."""

    script: Script
    target: Target
    full_version: str
    """The Python release it was resolved for, such as "3.12.0"."""
    lock: Pylock
    """As the resolver wrote it, with URLs; directories and local archives are absolute paths."""
    yanked: Mapping[str, str]
    """Package name -> why the locked version was yanked (PEP 592); only pins select those."""
    built: frozenset[str] = frozenset()
    """Packages resolved from source because they may be built."""
    pinned: frozenset[str] = frozenset()
    """Packages that the script names a source for, and that only other packages require."""
    scopes: frozenset[str] = frozenset()
    """Packages of which an override replaces requirements on a pinned package."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """The file that a package is installed from, or the source that its wheel is built from."""

    name: str
    version: str | None
    """None for a source whose version is known after its build."""
    kind: ArtifactKind
    location: str
    """URL, or an absolute path for files of this machine."""
    filename: str
    """Of the wheel or sdist; empty for directories and git."""
    hashes: Mapping[str, str]
    size: int | None
    """Bytes."""
    upload_time: datetime | None = None
    commit: str | None = None
    """For git."""
    subdirectory: str | None = None
    """Folder of the project in the source."""

    @property
    def is_local(self) -> bool:
        """True for a source of this machine, which may be built without a flag."""
        return self.kind != "git" and not is_url(self.location)


class Resolver(Protocol):
    """Resolve a script for a target into exact files."""

    def resolve(self, script: Script, target: Target) -> Resolution:
        """Return the lock; its `target` may differ from *target* where that has no wheels.

        Raises ResolveError (exit 3), or FetchError (exit 4) when an index cannot be reached or a
        build is not allowed.
        """

    def index_of(self, resolution: Resolution) -> Indexes:
        """Find out where each package came from."""

    def prefetch(self, resolution: Resolution, artifacts: Sequence[Artifact]) -> set[str]:
        """Put files that only the resolver can fetch into the download cache.

        Returns the sha256 of the files fetched. Raises FetchError (exit 4).
        """


def is_url(location: str) -> bool:
    """Return True for a URL of another machine."""
    return "://" in location and not location.startswith("file:")
