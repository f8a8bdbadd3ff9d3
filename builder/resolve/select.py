"""Select one file per package from a lock, for the target and never for this machine. Pure.

The rules are those of PEP 751 as `packaging.pylock` implements them, with the target's tags and
markers. Of several wheels with equally good tags, uv and pip take the one with the highest build
tag (https://packaging.python.org/en/latest/specifications/binary-distribution-format/); so does
`select_artifacts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    PylockSelectError,
)
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from offline_bundle.builder.resolve.model import Artifact, Resolution, is_url
from offline_bundle.wheelhouse.runtime.errors import FetchError, ResolveError


def select_artifacts(resolution: Resolution) -> tuple[Artifact, ...]:
    """Return one artifact per package of the lock that the target needs, in the lock's order.

    Raises one ResolveError (exit 3) for all packages without a file that fits.
    """
    try:
        return _select(resolution, resolution.lock.packages)
    except PylockSelectError as error:
        problems = list(_problems(resolution)) or [str(error)]
    raise ResolveError(
        f"{resolution.script.path} for {resolution.target.name}: "
        f"no file fits for {len(problems)} packages",
        problems=problems,
        hint="try a newer libc floor (--python-platform), another Python (--python-version), "
        "or --allow-build NAME",
    )


def check_builds_allowed(
    per_lock: Iterable[tuple[Resolution, Iterable[Artifact]]], allows: Callable[[str], bool]
) -> None:
    """Raise one FetchError (exit 4) for all sources that no flag allows to be built."""
    problems: dict[str, None] = {}
    names: dict[str, None] = {}
    for resolution, artifacts in per_lock:
        for artifact in artifacts:
            if artifact.kind == "wheel" or artifact.is_local or allows(artifact.name):
                continue
            source = "a git repository" if artifact.kind == "git" else "a source distribution"
            where = f"{resolution.script.path}, {resolution.target.name}"
            problems[f"{artifact.name} ({where}) comes from {source}"] = None
            names[artifact.name] = None
    if problems:
        flags = " ".join(f"--allow-build {name}" for name in names)
        raise FetchError(
            "building from source is not allowed",
            problems=tuple(problems),
            hint=f"add {flags} (it runs code of the package on this machine)",
        )


def _select(resolution: Resolution, packages: Sequence[Package]) -> tuple[Artifact, ...]:
    packages = [_by_build_tag(package) for package in packages]
    lock = dataclasses.replace(resolution.lock, packages=packages)
    environment = resolution.target.environment(resolution.full_version)
    return tuple(
        _artifact(package, file)
        for package, file in lock.select(environment=environment, tags=resolution.target.tags)
    )


def _by_build_tag(package: Package) -> Package:
    """Sort the wheels so that the highest build tag comes first: ties of tags go to the first."""
    if not package.wheels or len(package.wheels) == 1:
        return package
    wheels = sorted(package.wheels, key=_build_tag, reverse=True)
    return dataclasses.replace(package, wheels=wheels)


def _build_tag(wheel: PackageWheel) -> tuple[int, str]:
    try:
        return parse_wheel_filename(wheel.filename)[2] or (-1, "")
    except InvalidWheelFilename:
        return (-1, "")


def _problems(resolution: Resolution) -> Iterator[str]:
    """Yield every package without a file: `Pylock.select` stops at the first."""
    for package in resolution.lock.packages:
        try:
            _select(resolution, [package])
        except PylockSelectError as error:
            yield f"{package.name}: {error}; the lock has {_filenames(package)}"


def _artifact(
    package: Package,
    file: PackageWheel | PackageSdist | PackageArchive | PackageDirectory | PackageVcs,
) -> Artifact:
    version = str(package.version) if package.version is not None else None
    if isinstance(file, PackageVcs):
        return Artifact(
            package.name, version, "git", file.url or file.path or "", "", {}, None,
            commit=file.commit_id, subdirectory=file.subdirectory,
        )  # fmt: skip
    if isinstance(file, PackageDirectory):
        return Artifact(
            package.name, version, "directory", file.path, "", {}, None,
            subdirectory=file.subdirectory,
        )  # fmt: skip
    location = file.path or file.url or ""
    path = urlsplit(location).path if is_url(location) else Path(location).name
    filename = unquote(path).rpartition("/")[2]
    return Artifact(
        package.name,
        version,
        "wheel" if filename.endswith(".whl") else "sdist",
        location,
        filename,
        dict(file.hashes),
        file.size,
        file.upload_time,
        subdirectory=file.subdirectory if isinstance(file, PackageArchive) else None,
    )


def _filenames(package: Package) -> str:
    names = [wheel.filename for wheel in package.wheels or ()]
    names += [package.sdist.filename] if package.sdist else []
    return ", ".join(names) or "no file"
