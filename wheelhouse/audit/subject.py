"""What is audited: a manifest, and files of its bundle, read from a folder or an archive.

    read = reader_of(Path("bundle.tar"))
    read_metadata(manifest, read)["wheels/demo-1.0-py3-none-any.whl"]       # bytes

The manifest is taken as it is: verify the bundle first. Each file that is read must match it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from offline_bundle.wheelhouse.derived.wheel_metadata import wheel_paths
from offline_bundle.wheelhouse.runtime.archive.open import open_archives
from offline_bundle.wheelhouse.runtime.archive.reader import Archive
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import InputError, corrupt_bundle, translate_os_errors
from offline_bundle.wheelhouse.transport.open import is_archive

Reader = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Returns the contents of those paths of a bundle that it has."""


def reader_of(path: Path) -> Reader:
    """Return the reader of a bundle's folder, of an archive, or of a manifest alone (no files)."""

    def read(names: Sequence[str]) -> Mapping[str, bytes]:
        if not is_archive(path):
            return _read_folder(path, names)
        if path.name.endswith(".json"):
            return {}
        with translate_os_errors(path), open_archives([path]) as archives:
            return {
                name: content
                for archive in archives
                for name, content in _read_archive(archive, names).items()
            }

    return read


def archive_reader(archives: Sequence[Archive], bundle: Path) -> Reader:
    """Return the reader of the last of the open *archives*, which may be a difference.

    What it does not have is read from those before it, then from *bundle*.
    """

    def read(names: Sequence[str]) -> Mapping[str, bytes]:
        contents: dict[str, bytes] = {}
        for archive in reversed(archives):
            contents |= _read_archive(archive, [name for name in names if name not in contents])
        return contents | _read_folder(bundle, [name for name in names if name not in contents])

    return read


def read_files(manifest: Manifest, names: Sequence[str], read: Reader) -> Mapping[str, bytes]:
    """Return the contents of *names*, all of which are in *manifest*.

    Raises InputError if files are missing (a difference), IntegrityError if one is changed.
    """
    contents = read(names)
    if missing := [name for name in names if name not in contents]:
        raise InputError(
            f"{len(missing)} files of the bundle are needed, and they are not there",
            problems=missing[:1],
            hint="name a whole bundle: unpack a difference first; run `verify` on a folder",
        )
    changed = [name for name in names if sha256_of(contents[name]) != manifest.files[name].sha256]
    if changed:
        raise corrupt_bundle("the bundle", changed)
    return contents


def read_metadata(manifest: Manifest, read: Reader) -> dict[str, bytes]:
    """Return the METADATA of each wheel by its path, of those that have it."""
    names = [f"{wheel}.metadata" for wheel in wheel_paths(manifest)]
    contents = read_files(manifest, [name for name in names if name in manifest.files], read)
    return {name.removesuffix(".metadata"): content for name, content in contents.items()}


def _read_folder(directory: Path, names: Sequence[str]) -> dict[str, bytes]:
    with translate_os_errors(directory):
        return {
            name: (directory / name).read_bytes() for name in names if (directory / name).is_file()
        }


def _read_archive(archive: Archive, names: Sequence[str]) -> dict[str, bytes]:
    wanted = set(names)
    return {
        entry.path: bytes(archive.source.read(entry.offset, entry.size))
        for entry in archive.entries
        if entry.path in wanted
    }
