"""Open bundles and archives for reading, and verify archives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from offline_bundle.wheelhouse.derived.simple_index import wheel_name_problems
from offline_bundle.wheelhouse.runtime.archive.check import check_archive
from offline_bundle.wheelhouse.runtime.archive.open import open_archives
from offline_bundle.wheelhouse.runtime.archive.reader import Archive
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, read_manifest_bytes
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError, translate_os_errors
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS, MANIFEST
from offline_bundle.wheelhouse.store.verify import ChangedFile, VerifyReport

# Where a tar header has its magic (POSIX.1-1988).
_TAR_MAGIC = slice(257, 262)
_MANIFEST_HINT = "name a bundle's folder, its bundle.json, or an archive"


def is_archive(path: Path) -> bool:
    """Return whether *path* is an archive or one of its parts, and not the folder of a bundle."""
    return path.is_file() or (not path.exists() and path.suffix == ".tar")


def check_is_archive(path: Path) -> None:
    """Raise InputError (exit 2) for a file that was never an archive; a damaged one passes."""
    if path.is_file() and ".tar" not in path.name and _start_of(path)[_TAR_MAGIC] != b"ustar":
        message = f"{path} is not a bundle, its bundle.json, or an archive"
        raise InputError(message, hint=_MANIFEST_HINT)


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_TAR_MAGIC.stop)


def verify_archive(
    files: Sequence[Path],
    *,
    check_signature: Callable[[bytes, bytes | None], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> VerifyReport:
    """Compare archives with the manifests in them, to the last byte; parts also with their list.

    *check_signature* is called first with each manifest and its signature, as read from the files
    that are then verified. Raises InputError if there is no archive, IntegrityError if its head is
    damaged or parts are missing.
    """
    for path in files:
        check_is_archive(path)
    with translate_os_errors(Path()), open_archives(files) as archives:
        damage: dict[str, str] = {}
        damaged_parts: list[str] = []
        for archive in archives:
            check_wheel_names(archive)
            if check_signature:
                check_signature(archive.document, archive.signature)
        for archive in archives:
            damage |= check_archive(archive, progress)
            damaged_parts += sorted(archive.source.damaged_parts())
        members = [
            archive.manifest.files[entry.path]
            for archive in archives
            for entry in archive.entries
            if entry.path in archive.manifest.files
        ]
        changes = [
            ChangedFile(path, f"the content in {MANIFEST}", problem)
            for path, problem in damage.items()
        ]
        return VerifyReport(
            files=len(members),
            size=sum(file.size or 0 for file in members),
            left_out=sum(map(_left_out, archives)),
            changed=(
                *sorted(changes, key=lambda change: change.path),
                *(
                    ChangedFile(name, "the sha256 in the list of parts", "another sha256")
                    for name in damaged_parts
                ),
            ),
        )


def count_left_out(path: Path) -> int:
    """Return how many files of the bundle are not in the archive *path*; 0 if it has no base."""
    if path.is_dir() or _start_of(path).startswith(b"{"):
        return 0
    with translate_os_errors(Path()), open_archives([path]) as archives:
        return sum(map(_left_out, archives))


def _left_out(archive: Archive) -> int:
    return len(archive.manifest.files) - len(archive.included | {CHECKSUMS})


def check_wheel_names(archive: Archive) -> None:
    """Raise IntegrityError for wheels in the archive that have invalid names."""
    if problems := wheel_name_problems(archive.manifest.files):
        raise IntegrityError(
            f"{archive.name} has wheels with invalid names",
            problems=problems,
            hint="copy it again, or build the bundle again",
        )


def load_manifest(path: Path) -> Manifest:
    """Read the manifest of a bundle, of an archive, or a manifest file.

    Raises InputError (2) for anything else, IntegrityError (5) for an invalid manifest.
    """
    try:
        return Manifest.from_json(read_manifest_document(path))
    except InputError as error:
        if not path.is_dir():
            error.hint = _MANIFEST_HINT
        raise


def read_manifest_document(path: Path) -> bytes:
    """Return the bytes of the manifest of a bundle or of an archive, or of a manifest file."""
    if path.is_dir():
        return read_manifest_bytes(path)
    if path.is_file() and _start_of(path).startswith(b"{"):
        return path.read_bytes()
    check_is_archive(path)
    return read_archive([path])[0]


def read_archive(files: Sequence[Path]) -> tuple[bytes, bytes | None]:
    """Return `bundle.json` of the archive in *files*, and its signature, None if unsigned."""
    with translate_os_errors(Path()), open_archives(files) as archives:
        if len(archives) != 1:
            raise InputError(
                f"these are {len(archives)} archives", hint="name one, or all of its parts"
            )
        return archives[0].document, archives[0].signature
