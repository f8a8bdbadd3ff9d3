"""Choosing one file per package from a lock, for the target and never for the host. Pure.

`packaging.pylock` decides (PEP 751's own rules of selection), with the tags and markers of the target.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from packaging.pylock import (
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    PylockSelectError,
)

from offline_bundle.wheelhouse.runtime.errors import FetchError, ResolveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from packaging.pylock import Package

    from offline_bundle.builder.resolve.uv import Resolution

Kind = Literal["wheel", "sdist", "directory", "git"]


@dataclass(frozen=True)
class Choice:
    """The one artifact that a package comes from: a wheel as it is, or a source that a wheel is built from."""

    name: str
    version: str | None
    """None for a source whose version only its build tells."""
    kind: Kind
    location: str
    """URL, or absolute path for what lies on this machine."""
    filename: str
    """Of the wheel or sdist; empty for directories and git."""
    hashes: Mapping[str, str]
    size: int | None
    upload_time: datetime | None = None
    commit: str | None = None
    """The commit, for git."""
    subdirectory: str | None = None
    """Where in the source the project lies."""

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine: a source of the user's own, which may be built without a flag."""
        return self.kind != "git" and not _is_url(self.location)


def choose(resolution: Resolution) -> tuple[Choice, ...]:
    """One choice per package of the lock that the target needs, in the lock's order.

    Every package without a fitting file is reported at once: ResolveError (exit 3).
    """
    try:
        return _select(resolution, resolution.lock.packages)
    except PylockSelectError as error:
        problems = list(_problems(resolution)) or [str(error)]
    raise ResolveError(
        f"{resolution.script.path} for {resolution.target.name}: {len(problems)} packages have no file that fits",
        problems=problems,
        hint="try a newer libc floor (--python-platform), another Python (--python-version), or --allow-build NAME",
    )


def refuse_builds(
    per_lock: Iterable[tuple[Resolution, Iterable[Choice]]], allows: Callable[[str], bool]
) -> None:
    """Raise FetchError (exit 4) naming every source that no flag allows to be built, over all scripts and targets."""
    faults: dict[str, None] = {}
    names: dict[str, None] = {}
    for resolution, choices in per_lock:
        for choice in choices:
            if choice.kind == "wheel" or choice.is_local or allows(choice.name):
                continue
            source = "a git repository" if choice.kind == "git" else "a source distribution"
            faults[
                f"{choice.name} ({resolution.script.path}, {resolution.target.name}) comes from {source}"
            ] = None
            names[choice.name] = None
    if faults:
        raise FetchError(
            "building from source is not allowed",
            problems=tuple(faults),
            hint="add "
            + " ".join(f"--allow-build {name}" for name in names)
            + " (it runs code of the package on this machine)",
        )


def _select(resolution: Resolution, packages: Sequence[Package]) -> tuple[Choice, ...]:
    lock = dataclasses.replace(resolution.lock, packages=packages)
    environment = resolution.target.environment(resolution.full_version)
    return tuple(
        _choice(*chosen)
        for chosen in lock.select(environment=environment, tags=resolution.target.tags)
    )


def _problems(resolution: Resolution) -> Iterator[str]:
    """`select` stops at the first package without a file; one at a time, all of them come to light."""
    for package in resolution.lock.packages:
        try:
            _select(resolution, [package])
        except PylockSelectError as error:
            yield f"{package.name}: {error}; the lock has {_filenames(package)}"


def _choice(
    package: Package,
    artifact: PackageWheel | PackageSdist | PackageArchive | PackageDirectory | PackageVcs,
) -> Choice:
    version = str(package.version) if package.version is not None else None
    if isinstance(artifact, PackageVcs):
        return Choice(
            package.name, version, "git", artifact.url or artifact.path or "", "", {}, None,
            commit=artifact.commit_id, subdirectory=artifact.subdirectory,
        )  # fmt: skip
    if isinstance(artifact, PackageDirectory):
        return Choice(
            package.name,
            version,
            "directory",
            artifact.path,
            "",
            {},
            None,
            subdirectory=artifact.subdirectory,
        )
    location = artifact.path or artifact.url or ""
    filename = unquote(
        urlsplit(location).path if _is_url(location) else Path(location).name
    ).rpartition("/")[2]
    return Choice(
        package.name,
        version,
        "wheel" if filename.endswith(".whl") else "sdist",
        location,
        filename,
        dict(artifact.hashes),
        artifact.size,
        artifact.upload_time,
        subdirectory=artifact.subdirectory if isinstance(artifact, PackageArchive) else None,
    )


def _is_url(location: str) -> bool:
    return "://" in location and not location.startswith("file:")


def _filenames(package: Package) -> str:
    names = [wheel.filename for wheel in package.wheels or ()]
    names += [package.sdist.filename] if package.sdist else []
    return ", ".join(names) or "no file"
