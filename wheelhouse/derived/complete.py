"""Finish a manifest: the one place that adds what follows from its tables. Pure.

    manifest, pages = complete(tables)

`build`, `unpack` (merging) and `prune` all end here, so that a bundle has the same pages whichever
command wrote it. The SBOM and the report come afterwards, by `inventories.add_inventories`: they
describe the finished manifest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from offline_bundle.wheelhouse.derived.python_downloads import DOWNLOADS, render_downloads
from offline_bundle.wheelhouse.derived.simple_index import INDEX, render_index
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest
from offline_bundle.wheelhouse.runtime.disk.files import file_digest, sha256_of
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS, REPORT, SBOM

INVENTORIES = frozenset({SBOM, REPORT})
"""Files that describe the finished manifest."""


def complete(manifest: Manifest) -> tuple[Manifest, dict[str, bytes]]:
    """Return *manifest* with all that follows from its tables, and the contents of the new pages.

    The caller fills in scripts, targets, uv, pythons and the files of these. This adds or replaces
    the index pages, `python-downloads.json`, each file's `needed_by`, and `SHA256SUMS`. Targets and
    interpreters that no lock uses are left out.
    """
    manifest = follow_locks(manifest)
    files = {
        path: file
        for path, file in manifest.files.items()
        if path != DOWNLOADS and not path.startswith(INDEX)
    }
    downloads = render_downloads(manifest.pythons, manifest.targets, files)
    pages = {**render_index(files), **downloads}
    files |= {path: file_entry(page) for path, page in pages.items()}
    files[CHECKSUMS] = BundledFile(sha256=None, size=None)
    return replace(manifest, files=files), pages


def file_entry(content: bytes | Path) -> BundledFile:
    """Return the manifest's entry of a file with *content*: digest, size, permission to run."""
    if isinstance(content, bytes):
        return BundledFile(sha256=sha256_of(content), size=len(content))
    status = content.stat()
    is_executable = bool(status.st_mode & 0o100)
    return BundledFile(sha256=file_digest(content), size=status.st_size, executable=is_executable)


def follow_locks(manifest: Manifest) -> Manifest:
    """Return *manifest* with `needed_by`, and the targets and interpreters, of its locks."""
    used = set()
    needed_by: dict[str, list[str]] = {}
    for script, target, lock in manifest.locks():
        used.add(target)
        for package in lock.packages.values():
            needed_by.setdefault(package.wheel, []).append(f"{script}/{target}")
    return replace(
        manifest,
        targets={name: target for name, target in manifest.targets.items() if name in used},
        pythons={name: python for name, python in manifest.pythons.items() if name in used},
        files={
            path: replace(file, needed_by=tuple(needed_by.get(path, ())))
            for path, file in manifest.files.items()
        },
    )
