"""Open bundles and archives for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.manifest import Manifest, read_manifest
from offline_bundle.wheelhouse.transport.archive import read_archive

if TYPE_CHECKING:
    from pathlib import Path


def load_manifest(path: Path) -> Manifest:
    """Read the manifest of a bundle, of an archive, or a manifest file.

    Raises InputError (2) for anything else, IntegrityError (5) for an invalid manifest.
    """
    if path.is_dir():
        return read_manifest(path)
    if path.is_file() and _is_json(path):
        return Manifest.from_json(path.read_bytes())
    try:
        return Manifest.from_json(read_archive([path])[0])
    except InputError as error:
        hint = "name a bundle's folder, its bundle.json, or an archive"
        raise InputError(error.message, problems=error.problems, hint=hint) from error


def _is_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"{"
