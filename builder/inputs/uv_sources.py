"""The sources of packages in a script's `[tool.uv.sources]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Mapping


def local_sources(settings: Mapping[str, Any]) -> set[str]:
    """Return the packages that `[tool.uv.sources]` takes from a local folder or source archive."""
    return {
        name
        for name, entry in source_entries(settings)
        if isinstance(entry.get("path"), str) and not entry["path"].endswith(".whl")
    }


def source_entries(settings: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (normalized name, entry) of `[tool.uv.sources]`; a name may have several entries."""
    sources = settings.get("sources")
    return [
        (str(canonicalize_name(name)), entry)
        for name, source in (sources.items() if isinstance(sources, dict) else ())
        for entry in (source if isinstance(source, list) else [source])
        if isinstance(entry, dict)
    ]
