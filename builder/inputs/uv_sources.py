"""Values of a `[tool.uv]` table: its lists, and the sources of packages."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name


def list_at(settings: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list at *key*; an empty one where there is anything else."""
    value = settings.get(key)
    return value if isinstance(value, list) else []


def local_sources(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return path by package, for those that `[tool.uv.sources]` takes from a folder or archive."""
    return {
        name: entry["path"]
        for name, entry in source_entries(settings)
        if isinstance(entry.get("path"), str) and not entry["path"].endswith(".whl")
    }


def local_build_requirements(folder: Path) -> set[str]:
    """Return the packages that the project in *folder* takes from other local folders.

    Its `[build-system]` may require them, and so on.
    """
    names: set[str] = set()
    folders, visited = [folder.resolve()], set()
    while folders:
        current = folders.pop()
        visited.add(current)
        for name, entry in source_entries(_read_tool_uv(current / "pyproject.toml")):
            if isinstance(entry.get("path"), str):
                names.add(name)
                other = (current / entry["path"]).resolve()
                folders += [other] if other.is_dir() and other not in visited else []
    return names


def _read_tool_uv(path: Path) -> dict[str, Any]:
    try:
        return tool_uv(tomllib.loads(path.read_text(encoding="utf-8-sig"))) or {}
    except (OSError, ValueError, RecursionError):  # uv finds the fault
        return {}


def tool_uv(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the table `[tool.uv]` of a document, or None."""
    tool = document.get("tool")
    table = tool.get("uv") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def source_entries(settings: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (normalized name, entry) of `[tool.uv.sources]`; a name may have several entries."""
    sources = settings.get("sources")
    return [
        (str(canonicalize_name(name)), entry)
        for name, source in (sources.items() if isinstance(sources, dict) else ())
        for entry in (source if isinstance(source, list) else [source])
        if isinstance(entry, dict)
    ]
