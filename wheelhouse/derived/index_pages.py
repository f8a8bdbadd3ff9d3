"""What follows from a manifest's tables: the index pages over its wheels, and which lock needs which file. Pure.

    pages = render_index(manifest.files)          # "simple/numpy/index.html" -> bytes
    files = with_needs(manifest.files, manifest.scripts)

Building and merging both end here, so that a bundle has the same pages however it came to its wheels.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion

from offline_bundle.wheelhouse.derived import simple_index
from offline_bundle.wheelhouse.runtime.manifest import BundledFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from offline_bundle.wheelhouse.runtime.manifest import BundledScript

INDEX = "simple/"
"""Where the pages lie in a bundle."""


def render_index(files: Mapping[str, BundledFile]) -> dict[str, bytes]:
    """Render the static index over every wheel among *files*: contents by path."""
    projects: dict[str, list[simple_index.IndexFile]] = {}
    for path, file in sorted(files.items()):
        if (
            not path.startswith("wheels/")
            or not path.endswith(".whl")
            or file.sha256 is None
            or file.size is None
        ):
            continue
        metadata = files.get(f"{path}.metadata")
        entry = simple_index.IndexFile(
            filename=path.removeprefix("wheels/"),
            url=f"../../{path}",
            sha256=file.sha256,
            size=file.size,
            requires_python=file.requires_python,
            upload_time=file.upload_time,
            yanked=file.yanked,
            metadata_sha256=metadata.sha256 if metadata else None,
        )
        projects.setdefault(
            file.name or str(canonicalize_name(entry.filename.partition("-")[0])), []
        ).append(entry)
    names = sorted(projects)
    pages = {
        f"{INDEX}index.html": simple_index.render_root_html(names),
        f"{INDEX}index.json": simple_index.render_root_json(names),
    }
    contents: dict[str, bytes] = {path: text.encode() for path, text in pages.items()}
    for name, entries in projects.items():
        contents |= _project_pages(name, tuple(entries))
    return contents


@lru_cache(maxsize=4096)
def _project_pages(name: str, entries: tuple[simple_index.IndexFile, ...]) -> Mapping[str, bytes]:
    """Render them once: a build renders those of the bundle while it waits for the resolver, and then asks again."""
    return {
        f"{INDEX}{name}/index.html": simple_index.render_project_html(name, entries).encode(),
        f"{INDEX}{name}/index.json": simple_index.render_project_json(name, entries).encode(),
    }


def wheel_problems(paths: Iterable[str]) -> list[str]:
    """Find wheels whose names no installer would take, of which there could be no page."""
    problems = []
    for path in sorted(paths):
        if path.startswith("wheels/") and path.endswith(".whl"):
            try:
                parse_wheel_filename(path.removeprefix("wheels/"))
            except (InvalidWheelFilename, InvalidVersion) as error:
                problems.append(f"{path}: {error}")
    return problems


def with_needs(
    files: Mapping[str, BundledFile], scripts: Mapping[str, BundledScript]
) -> dict[str, BundledFile]:
    """Note at each of *files* which locks of *scripts* need it."""
    needs: dict[str, list[str]] = {}
    for script_name, script in sorted(scripts.items()):
        for target_name, lock in sorted(script.locks.items()):
            for package in lock.packages.values():
                needs.setdefault(package.wheel, []).append(f"{script_name}/{target_name}")
    return {
        path: replace(file, needed_by=tuple(needs.get(path, ()))) for path, file in files.items()
    }


def described(content: bytes) -> BundledFile:
    """Describe a file that is made here: its digest and size."""
    return BundledFile(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
