"""What is audited: the manifest of a bundle or an archive, and the metadata of its wheels.

The manifest is taken as it is: verify the bundle first. Each metadata file must match the manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.derived.wheel_metadata import (
    WheelMetadata,
    read_all_metadata,
    wheel_paths,
)
from offline_bundle.wheelhouse.runtime.archive.open import open_archives
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import (
    InputError,
    corrupt_bundle,
    translate_os_errors,
)
from offline_bundle.wheelhouse.transport.open import is_archive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest


def read_licences(path: Path, manifest: Manifest) -> dict[str, WheelMetadata]:
    """Return the metadata of each wheel by its path; empty metadata for a wheel that has none.

    Raises InputError if the files are not there (a difference), IntegrityError if one is changed.
    """
    names = [f"{wheel}.metadata" for wheel in wheel_paths(manifest)]
    names = [name for name in names if name in manifest.files]
    contents = _read_archive(path, names) if is_archive(path) else _read_folder(path, names)
    if missing := [name for name in names if name not in contents]:
        raise InputError(
            f"{path} does not contain the metadata of {len(missing)} wheels",
            hint="licences need a whole bundle: unpack the difference and audit the folder",
        )
    changed = [name for name in names if sha256_of(contents[name]) != manifest.files[name].sha256]
    if changed:
        raise corrupt_bundle(path, changed)
    return read_all_metadata(
        manifest, {name.removesuffix(".metadata"): content for name, content in contents.items()}
    )


def without_licences(manifest: Manifest) -> dict[str, WheelMetadata]:
    """Return empty metadata for each wheel, where no rule needs its licence."""
    return {wheel: WheelMetadata("", "") for wheel in wheel_paths(manifest)}


def _read_folder(directory: Path, names: list[str]) -> Mapping[str, bytes]:
    missing = [name for name in names if not (directory / name).is_file()]
    if missing and directory.is_dir():
        raise corrupt_bundle(directory, missing)
    with translate_os_errors(directory):
        return {name: (directory / name).read_bytes() for name in names if name not in missing}


def _read_archive(path: Path, names: list[str]) -> Mapping[str, bytes]:
    wanted = set(names)
    if path.name.endswith(".json"):
        return {}
    with translate_os_errors(path), open_archives([path]) as archives:
        return {
            entry.path: bytes(archive.source.read(entry.offset, entry.size))
            for archive in archives
            for entry in archive.entries
            if entry.path in wanted
        }
