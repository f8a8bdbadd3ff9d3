"""The inventories of a bundle: `sbom.cdx.json` and `report.html`, as two more of its files.

    manifest, contents = add_inventories(
        manifest, lambda: gather_metadata(manifest, contents, directory), before
    )

They describe the finished manifest, so they are rendered last. They are kept where nothing else
changes: the report lists the changes since the bundle before, and would differ with every build.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from offline_bundle.wheelhouse.derived.audit_result import Audit
from offline_bundle.wheelhouse.derived.complete import INVENTORIES, file_entry
from offline_bundle.wheelhouse.derived.wheel_metadata import wheel_paths
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import corrupt_bundle
from offline_bundle.wheelhouse.runtime.names import REPORT, SBOM


def add_inventories(
    manifest: Manifest,
    metadata: Callable[[], Mapping[str, bytes]],
    before: Manifest | None,
    audit: Audit | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """Return *manifest* with the inventories among its files, and their contents if they are new.

    *metadata* returns each wheel's METADATA by the wheel's path; it is called only to render.
    *before* is the manifest in force, None for a new bundle. The inventories show *audit*: without
    one, those of a bundle that changes no longer show the audit before.
    """
    files = {path: file for path, file in manifest.files.items() if path not in INVENTORIES}
    plain = replace(manifest, files=files)
    if (
        audit is None
        and before
        and before.files.keys() >= INVENTORIES
        and _without_history(before) == (_without_history(plain))
    ):
        files |= {path: before.files[path] for path in INVENTORIES}
        return replace(plain, files=files), {}
    contents = render_inventories(plain, metadata(), before, audit)
    files |= {path: file_entry(content) for path, content in contents.items()}
    return replace(plain, files=files), contents


def render_inventories(
    manifest: Manifest,
    metadata: Mapping[str, bytes],
    before: Manifest | None,
    audit: Audit | None = None,
) -> dict[str, bytes]:
    """Render the inventories; those in *manifest*, its generation and ancestors are left out."""
    # Slow imports, which an unchanged rebuild does not need.
    from offline_bundle.wheelhouse.derived.report.report import render_report  # noqa: PLC0415
    from offline_bundle.wheelhouse.derived.sbom.sbom import render_sbom  # noqa: PLC0415

    plain = _without_history(manifest)
    # Without those of the bundle before, too: the page compares sizes.
    old = _without_history(before) if before else None
    return {
        SBOM: render_sbom(plain, metadata, audit),
        REPORT: render_report(plain, metadata, old, audit),
    }


def gather_metadata(
    manifest: Manifest, contents: Mapping[str, bytes | Path], directory: Path
) -> dict[str, bytes]:
    """Return the METADATA of all wheels: from *contents*, else from the bundle at *directory*.

    Raises IntegrityError for files that cannot be read.
    """
    metadata, missing = {}, []
    for wheel in wheel_paths(manifest):
        path = f"{wheel}.metadata"
        if path in manifest.files:
            content = contents.get(path, directory / path)
            try:
                metadata[wheel] = content if isinstance(content, bytes) else content.read_bytes()
            except OSError:
                missing.append(path)
    if missing:
        raise corrupt_bundle(directory, missing)
    return metadata


def contents_key(manifest: Manifest) -> str:
    """Return a digest (64 hex digits) of the bundle's contents, independent of its history."""
    return sha256_of(_without_history(manifest).to_json())


def _without_history(manifest: Manifest) -> Manifest:
    files = {path: file for path, file in manifest.files.items() if path not in INVENTORIES}
    return replace(manifest, files=files, generation=1, ancestors=())
