"""A header from a project: its dependencies, groups (PEP 735), settings, and uv.lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.dependency_groups import resolve_dependency_groups
from packaging.utils import canonicalize_name

from offline_bundle.builder.headers.model import Header, read_toml
from offline_bundle.builder.headers.requirements_files import relative_path
from offline_bundle.builder.inputs.uv_sources import tool_uv
from offline_bundle.builder.resolve.settings.uv_settings import (
    absolute_requirement,
    absolute_settings,
)
from offline_bundle.builder.resolve.uv_lockfile import Locking, read_project_lock
from offline_bundle.wheelhouse.runtime.errors import InputError

_SCRIPT_SETTINGS = (
    "constraint-dependencies",
    "dependency-metadata",
    "exclude-newer",
    "exclude-newer-package",
    "find-links",
    "index",
    "index-strategy",
    "index-url",
    "extra-index-url",
    "override-dependencies",
    "prerelease",
    "resolution",
    "sources",
)


def header_from_project(
    file: Path, groups: Sequence[str], folder: Path, locking: Locking | None
) -> Header:
    """Return the header for a script in *folder* that runs with the project of *file*.

    A project that is a package is a dependency itself, as for `uv run`. Without *locking*, its
    uv.lock is not read. Raises InputError (exit 2).
    """
    document = read_toml(file)
    project = document.get("project")
    if not isinstance(project, dict) or "name" not in project:
        raise InputError(f"{file} has no [project] table", hint="name the project's pyproject.toml")
    root = file.resolve().parent
    settings = tool_uv(document) or {}
    kept = {key: settings[key] for key in _SCRIPT_SETTINGS if key in settings}
    dependencies = list(project.get("dependencies", ()))
    if settings.get("package", "build-system" in document):
        kept["sources"] = {**kept.get("sources", {}), project["name"]: {"path": str(root)}}
        dependencies = [project["name"]]
    dependencies += _group_requirements(file, document, groups)
    metadata: dict[str, Any] = {
        "dependencies": [absolute_requirement(text, root) for text in dependencies]
    }
    if "requires-python" in project:
        metadata["requires-python"] = project["requires-python"]
    if kept:
        metadata["tool"] = {"uv": _seen_from(folder, absolute_settings(kept, root), file)}
    if locking is None or not (root / "uv.lock").is_file():
        return Header(metadata)
    lock, note = read_project_lock(root, groups, project.get("requires-python"), locking)
    return Header(metadata, lock, (note,))


def _group_requirements(
    file: Path, document: Mapping[str, Any], groups: Iterable[str]
) -> list[str]:
    known = document.get("dependency-groups", {})
    names = {canonicalize_name(name) for name in known}
    unknown = [name for name in groups if canonicalize_name(name) not in names]
    if unknown:
        raise InputError(
            f"{file} has no dependency group {', '.join(unknown)}",
            hint=f"its groups: {', '.join(known) or 'none'}",
        )
    try:
        return list(resolve_dependency_groups(known, *groups))
    except (LookupError, ValueError, TypeError, ExceptionGroup) as error:
        faults = error.exceptions if isinstance(error, ExceptionGroup) else [error]
        raise InputError(
            f"{file}: invalid [dependency-groups]",
            problems=[str(fault) for fault in faults],
            hint="correct them (PEP 735)",
        ) from error


def _seen_from(folder: Path, settings: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return *settings* with paths relative to *folder*: a bundle names no folder of this machine.

    Raises InputError for a source in the project's workspace.
    """
    for name, source in settings.get("sources", {}).items():
        for entry in source if isinstance(source, list) else [source]:
            if entry.get("workspace"):
                raise InputError(
                    f"{file}: {name} is a member of the workspace, which a script cannot use",
                    hint="name its folder: a source with `path` in place of `workspace`",
                )
            if "path" in entry:
                entry["path"] = relative_path(Path(entry["path"]), folder)
    if "find-links" in settings:
        settings["find-links"] = [_relative_location(t, folder) for t in settings["find-links"]]
    for entry in settings.get("index", ()):
        entry["url"] = _relative_location(entry["url"], folder)
    return settings


def _relative_location(location: str, folder: Path) -> str:
    return location if "://" in location else relative_path(Path(location), folder)
