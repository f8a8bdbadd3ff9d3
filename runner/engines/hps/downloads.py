"""Download files of a project in batches: verified, and renamed into place when complete.

An interrupted download continues when the same files are requested again: files that exist and
match their checksum are not transferred.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import xxhash
from ansys.hps.client.jms.api.project_api import SrcDst, StoragePath  # type: ignore[import-untyped] # where every version has them

from offline_bundle.runner.engines.hps.connection.client_errors import TransferFailedError
from offline_bundle.runner.engines.hps.connection.session import Session
from offline_bundle.runner.engines.hps.stored_files import StoredFile, batches
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.sizes import format_size

if TYPE_CHECKING:
    Wanted = tuple[StoredFile, Path]
    """A file and the path to which it is downloaded."""

_FILES_PER_TRANSFER = 50
_ATTEMPTS = 3
_CHUNK = 1 << 20
_NOT_DELIVERED = "the server did not deliver it"
_SPARE_BYTES = 16 << 20
"""Left free on the disk."""


def download_files(
    session: Session,
    project_id: str,
    wanted: Sequence[Wanted],
    progress: Callable[[int, int], None] = lambda _files, _bytes: None,
) -> dict[Path, str]:
    """Download each file to its path unless it exists there; return those that failed, and why.

    *progress* gets the numbers of files and bytes that were added. Raises `FetchError` for a full
    disk, `BundleError` if the server cannot be reached.
    """
    failed: dict[Path, str] = {}
    for batch in batches(wanted, _FILES_PER_TRANSFER):
        missing = [(file, target) for file, target in batch if not _is_complete(file, target)]
        present = sum(file.size for file, _ in batch) - sum(file.size for file, _ in missing)
        progress(len(batch) - len(missing), present)
        if missing:
            failed |= _download_batch(session, project_id, missing, progress)
    return failed


def checksum(path: Path) -> str:
    """Return the xxh64 of a file, in hex."""
    digest = xxhash.xxh64(seed=0)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download_batch(
    session: Session,
    project_id: str,
    missing: list[Wanted],
    progress: Callable[[int, int], None],
) -> dict[Path, str]:
    """Transfer all files at once, then failed ones singly: one may have stopped the others."""
    missing, failed = _make_folders(missing)
    reasons: dict[Path, str] = {}
    for attempt in range(_ATTEMPTS):
        remaining = []
        for group in batches(missing, 1 if attempt else len(missing) or 1):
            _check_space(group)
            message = _transfer(session, project_id, group)
            for file, target in group:
                fault = _install(file, target)
                if fault is None:
                    progress(1, file.size)
                else:
                    reasons[target] = message if message and fault == _NOT_DELIVERED else fault
                    remaining.append((file, target))
        missing = remaining
        if not missing:
            break
    return failed | {target: reasons[target] for _, target in missing}


def _make_folders(missing: list[Wanted]) -> tuple[list[Wanted], dict[Path, str]]:
    """Make the folders of the files; a file whose folder cannot be made fails alone."""
    possible, failed = [], {}
    for file, target in missing:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _partial(target).unlink(missing_ok=True)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            # the server has both a file `a` and a file `a/b`
            failed[target] = f"{error.filename}: {error.strerror}"
        else:
            possible.append((file, target))
    return possible, failed


def _transfer(session: Session, project_id: str, missing: Sequence[Wanted]) -> str:
    """Let the client's worker copy the files to partial files; return its error message."""
    pairs = []
    for file, target in missing:
        source = StoragePath(path=f"{project_id}/{PurePosixPath(file.storage_id).name}")
        pairs.append(
            SrcDst(src=source, dst=StoragePath(path=str(_partial(target)), remote="local"))
        )

    def copy() -> str:
        api = session.client.data_transfer_api
        try:
            api.wait_for([api.copy(pairs).id], cap=1.0)
        except TransferFailedError as error:
            return str(error)
        return ""

    message = session.retry_until_available(copy)
    if "No space left" in message or "Disk quota exceeded" in message:
        raise _disk_full(missing)
    return message


def _install(file: StoredFile, target: Path) -> str | None:
    """Verify a partial file and rename it; return what is wrong with it."""
    partial = _partial(target)
    try:
        size = partial.stat().st_size
    except FileNotFoundError:
        return _NOT_DELIVERED
    digest = checksum(partial)
    if file.checksum is not None and digest != file.checksum:
        partial.unlink()
        return f"its checksum is {digest}, and should be {file.checksum}"
    if file.checksum is None and size != file.size:
        partial.unlink()
        return f"it has {size:,} bytes, and should have {file.size:,}"
    try:
        partial.replace(target)
    except (IsADirectoryError, NotADirectoryError) as error:
        return str(error.strerror)
    return None


def _is_complete(file: StoredFile, target: Path) -> bool:
    try:
        is_same_size = target.is_file() and target.stat().st_size == file.size
        return is_same_size and file.checksum is not None and checksum(target) == file.checksum
    except OSError:
        return False


def _check_space(missing: Sequence[Wanted]) -> None:
    """Raise before the disk is full, which would leave truncated files."""
    needed = sum(file.size for file, _ in missing)
    if _free_bytes(missing) < needed + min(_SPARE_BYTES, needed):
        raise _disk_full(missing)


def _disk_full(missing: Sequence[Wanted]) -> FetchError:
    needed = format_size(sum(file.size for file, _ in missing))
    folder = missing[0][1].parent
    return FetchError(
        f"the disk is full: the next files in {folder} need {needed}, "
        f"and {format_size(_free_bytes(missing))} are free",
        hint="free some space, or name a directory on another disk, and download again: "
        "finished files are kept",
    )


def _free_bytes(missing: Sequence[Wanted]) -> int:
    folder = missing[0][1].parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")
