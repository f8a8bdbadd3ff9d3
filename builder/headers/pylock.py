"""A header from a lock file (PEP 751): each of its packages, pinned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.pylock import Package, PackageSdist, PackageWheel, Pylock, PylockValidationError
from packaging.utils import canonicalize_name

from offline_bundle.builder.headers.model import Header, read_toml
from offline_bundle.builder.headers.requirements_files import relative_path
from offline_bundle.builder.resolve.uv_lockfile import ScriptLock
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.text import without_logins

_SELECTORS = ("extras", "dependency_groups")


def header_from_pylock(path: Path, folder: Path) -> Header:
    """Return the header for a script in *folder*; raises InputError (exit 2)."""
    pylock = _read(path)
    sources: dict[str, Any] = {}
    dependencies = []
    for package in pylock.packages:
        text, local = _requirement(package, path)
        if local is not None:
            sources[package.name] = {"path": relative_path(local, folder)}
        marker = f" ; {package.marker}" if package.marker else ""
        if any(word in marker for word in _SELECTORS):
            raise InputError(
                f"{path}: {package.name} is for some extras or dependency groups only",
                hint="export a lock of the groups that the script needs: uv export --format "
                "pylock.toml --group NAME",
            )
        dependencies.append(f"{text}{marker}")
    metadata: dict[str, Any] = {"dependencies": dependencies}
    if pylock.requires_python:
        metadata["requires-python"] = str(pylock.requires_python)
    if sources:
        metadata["tool"] = {"uv": {"sources": sources}}
    return Header(metadata, ScriptLock(path, "", dict(_digests(pylock)), dict(_commits(pylock))))


def _read(path: Path) -> Pylock:
    try:
        return Pylock.from_dict(read_toml(path))
    except (ValueError, PylockValidationError) as error:
        raise InputError(
            f"{path} is not a lock file (PEP 751): {without_logins(str(error))}",
            hint="make one with `uv export --format pylock.toml` or `pip lock`",
        ) from error


def _requirement(package: Package, path: Path) -> tuple[str, Path | None]:
    """Return the requirement of a package, and its local source if it has one."""
    name = package.name
    if package.vcs:
        vcs = package.vcs
        folder = f"#subdirectory={vcs.subdirectory}" if vcs.subdirectory else ""
        location = vcs.url or (path.parent / (vcs.path or "")).resolve().as_uri()
        return f"{name} @ {vcs.type}+{location}@{vcs.commit_id}{folder}", None
    if package.archive and package.archive.url:
        return f"{name} @ {package.archive.url}", None
    local = package.archive or package.directory
    if local and local.path:
        return name, path.parent / local.path
    if package.version is None:
        raise InputError(
            f"{path}: {name} has no version", hint="lock a version, or a source of the package"
        )
    return f"{name}=={package.version}", None


def _digests(pylock: Pylock) -> Iterator[tuple[str, str]]:
    for package in pylock.packages:
        files: list[PackageWheel | PackageSdist] = [*(package.wheels or ())]
        files += [package.sdist] if package.sdist else []
        for file in files:
            if digest := file.hashes.get("sha256"):
                yield file.filename, digest.lower()


def _commits(pylock: Pylock) -> Iterator[tuple[str, str]]:
    for package in pylock.packages:
        if package.vcs:
            yield str(canonicalize_name(package.name)), package.vcs.commit_id
