"""The inventories of a bundle, `sbom.cdx.json` and `report.html`, as two more of its files.

    manifest, contents = add_inventories(manifest, lambda: metadata_of(manifest, contents, directory), before)

They say what the bundle holds, so they are made when all else is known, and are kept as they are where nothing else
changes: otherwise the report, which tells what changed since the bundle before, would change with every build.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.derived.facts import INVENTORIES, wheels_of
from offline_bundle.wheelhouse.derived.index_pages import described
from offline_bundle.wheelhouse.runtime.errors import corrupt_bundle
from offline_bundle.wheelhouse.runtime.files import sha256_of
from offline_bundle.wheelhouse.runtime.names import REPORT, SBOM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from offline_bundle.wheelhouse.runtime.manifest import Manifest


def add_inventories(
    manifest: Manifest, metadata: Callable[[], Mapping[str, bytes]], before: Manifest | None
) -> tuple[Manifest, dict[str, bytes]]:
    """Return *manifest* with the inventories among its files, and their contents where they are new.

    *metadata* is asked for each wheel's METADATA, by the wheel's path, only if they have to be rendered. *before* is
    the manifest in force, None for a new bundle.
    """
    files = {path: file for path, file in manifest.files.items() if path not in INVENTORIES}
    plain = replace(manifest, files=files)
    if (
        before is not None
        and before.files.keys() >= INVENTORIES
        and _essence(before) == _essence(plain)
    ):
        return replace(
            plain, files={**files, **{path: before.files[path] for path in INVENTORIES}}
        ), {}
    contents = render_inventories(plain, metadata(), before)
    return replace(
        plain, files={**files, **{path: described(text) for path, text in contents.items()}}
    ), contents


def render_inventories(
    manifest: Manifest, metadata: Mapping[str, bytes], before: Manifest | None
) -> dict[str, bytes]:
    """Render the inventories of *manifest*; those that it names already, and its place in a line, are left out."""
    from offline_bundle.wheelhouse.derived.report.report import render_report  # noqa: PLC0415 - not for a build that changes nothing
    from offline_bundle.wheelhouse.derived.sbom import render_sbom  # noqa: PLC0415 - the same; it takes a third of a second

    plain = _essence(manifest)
    return {SBOM: render_sbom(plain, metadata), REPORT: render_report(plain, metadata, before)}


def metadata_of(
    manifest: Manifest, contents: Mapping[str, bytes | Path], directory: Path
) -> dict[str, bytes]:
    """Gather METADATA of all wheels: from *contents* about to be written, else from the bundle at *directory*.

    Raises IntegrityError where they are not there.
    """
    found, lost = {}, []
    for wheel in wheels_of(manifest):
        path = f"{wheel}.metadata"
        if path in manifest.files:
            content = contents.get(path, directory / path)
            try:
                found[wheel] = content if isinstance(content, bytes) else content.read_bytes()
            except OSError:
                lost.append(path)
    if lost:
        raise corrupt_bundle(directory, lost)
    return found


def key_of(manifest: Manifest) -> str:
    """Digest (64 hex digits) of what a bundle holds: the same for the same files, whatever was there before."""
    return sha256_of(_essence(manifest).to_json())


def _essence(manifest: Manifest) -> Manifest:
    files = {path: file for path, file in manifest.files.items() if path not in INVENTORIES}
    return replace(manifest, files=files, generation=1, ancestors=())
