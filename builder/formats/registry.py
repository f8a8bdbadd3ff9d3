"""The formats by name, and adding them to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Collection

from offline_bundle.builder.compose import Composition
from offline_bundle.builder.formats.base import Format, FormatContext, formats_of
from offline_bundle.builder.formats.image import ImageFormat, find_mksquashfs
from offline_bundle.builder.formats.uv_cache import UvCacheFormat
from offline_bundle.builder.formats.venv import VenvFormat
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest

# In the order in which they are added; the index is what `compose` writes.
_FORMATS: dict[str, Format] = {
    "cache": UvCacheFormat(),
    "venv": VenvFormat(),
    "image": ImageFormat(),
}


def check_programs(names: Collection[str]) -> None:
    """Raise InputError (exit 2) where a program that a format needs is missing.

    A build calls it before it fetches anything.
    """
    if "image" in names:
        find_mksquashfs()


def add_formats(
    names: Collection[str],
    composition: Composition,
    current: Manifest | None,
    make_context: Callable[[], FormatContext],
) -> tuple[Composition, list[str]]:
    """Add the formats *names*, and those that the bundle (*current*) has; also return notes."""
    notes: list[str] = []
    wanted = {*names, *formats_of(current)}
    for name, bundle_format in _FORMATS.items():
        if name in wanted and bundle_format.is_incomplete(composition.manifest):
            context = make_context()
            composition = bundle_format.add(composition, context)
            notes += context.notes
    return composition, notes
