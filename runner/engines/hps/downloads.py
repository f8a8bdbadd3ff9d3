"""Files of a project, downloaded in batches, verified, and put into place only when they are whole.

A download that was cut short is taken up again by asking for the same files: those that are there and match their
checksum are not transferred again.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeVar

import xxhash
from ansys.hps.client.jms.api.project_api import (  # type: ignore[import-untyped] # where every version has them
    SrcDst,
    StoragePath,
)
from ansys.hps.data_transfer.client.exceptions import HPSError as TransferError  # type: ignore[import-untyped]

from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from offline_bundle.runner.engines.hps.session import Session

CONSOLE_NAME = "console_output.txt"
"""What HPS calls a task's stdout and stderr."""

IDS_PER_REQUEST = 100
"""Identifiers in one request: they stand in its URL, whose length servers limit."""

_FILES_PER_TRANSFER = 50
_ROUNDS = 3
"""How often a file that does not arrive is asked for."""

_Item = TypeVar("_Item")
_CHUNK = 1 << 20
_NOT_THERE = "the server did not deliver it"
_SPARE_BYTES = 16 << 20
"""Left free on the disk."""

_FILE_FIELDS = ["id", "name", "evaluation_path", "storage_id", "size", "hash", "type"]


@dataclass(frozen=True)
class StoredFile:
    """A file that HPS keeps for a job."""

    file_id: str
    name: str
    path: str
    """Relative to the job's directory, as the server says: not to be trusted, see `safe_path`."""
    storage_id: str
    size: int
    """In bytes."""
    checksum: str | None
    """xxh64 in hex; None where the server has none."""

    @property
    def is_console(self) -> bool:
        """Whether it is what the task wrote to stdout and stderr."""
        return PurePosixPath(self.path).name == CONSOLE_NAME or self.name == "console_output"


@dataclass(frozen=True)
class Fault:
    """A file that did not arrive."""

    target: Path
    reason: str


def find_files(
    session: Session,
    project_id: str,
    job_ids: Sequence[str],
    tasks: Iterable[Mapping[str, Any]] | None = None,
) -> dict[str, list[StoredFile]]:
    """Return the files that the *tasks* of each job have put out; *tasks* are asked for unless given."""
    if tasks is None:
        tasks = find_tasks(session, project_id, job_ids)
    wanted = {
        str(file_id): str(task["job_id"])
        for task in tasks
        for file_id in task.get("output_file_ids") or ()
    }
    files: dict[str, list[StoredFile]] = {job_id: [] for job_id in job_ids}
    for ids in batches(wanted, IDS_PER_REQUEST):
        for entry in _ask(
            session, project_id, "get_files", id=list(ids), fields=_FILE_FIELDS, limit=len(ids)
        ):
            if entry.get("storage_id") and (
                entry.get("hash") or entry.get("size")
            ):  # else it was not made
                files.setdefault(wanted[str(entry["id"])], []).append(_stored_file(entry))
    return {job_id: sorted(found, key=lambda file: file.path) for job_id, found in files.items()}


def find_tasks(
    session: Session, project_id: str, job_ids: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Return the tasks of these jobs, as HPS tells of them."""
    return [
        task
        for ids in batches(job_ids, IDS_PER_REQUEST)
        for task in _ask(
            session,
            project_id,
            "get_tasks",
            job_id=list(ids),
            fields=["id", "job_id", "output_file_ids"],
        )
    ]


def fetch(
    session: Session,
    project_id: str,
    wanted: Sequence[tuple[StoredFile, Path]],
    progress: Callable[[int, int], None] = lambda _files, _bytes: None,
) -> list[Fault]:
    """Download each file to its path, unless it is there already; return those that did not arrive.

    *progress* is told how many files more, and bytes, are there. Raises `FetchError` where the disk is full,
    `BundleError` where the server stays away.
    """
    faults: list[Fault] = []
    for batch in batches(wanted, _FILES_PER_TRANSFER):
        missing = [(file, target) for file, target in batch if not _is_there(file, target)]
        progress(
            len(batch) - len(missing),
            sum(file.size for file, _ in batch) - sum(file.size for file, _ in missing),
        )
        if missing:
            faults += _fetch_batch(session, project_id, missing, progress)
    return faults


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of up to *size* items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def safe_path(path: str) -> PurePosixPath | None:
    """Make a path that a server gave one that stays inside a directory; None where that cannot be."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    is_safe = bool(parts) and not PureWindowsPath(path).drive and not path.startswith(("/", "\\"))
    if not is_safe or any(part == ".." or re.search(r"[\x00-\x1f]", part) for part in parts):
        return None
    return PurePosixPath(*parts)


def checksum(path: Path) -> str:
    """Return the xxh64 of a file, in hex."""
    digest = xxhash.xxh64(seed=0)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch_batch(
    session: Session,
    project_id: str,
    missing: list[tuple[StoredFile, Path]],
    progress: Callable[[int, int], None],
) -> list[Fault]:
    """Transfer all at once; then, one by one, those that did not arrive: one of them may have stopped the others."""
    reasons: dict[Path, str] = {}
    for attempt in range(_ROUNDS):
        left = []
        for group in batches(missing, 1 if attempt else len(missing)):
            _check_space(group)
            said = _transfer(session, project_id, group)
            for file, target in group:
                fault = _put_in_place(file, target)
                if fault is None:
                    progress(1, file.size)
                else:
                    reasons[target] = said if said and fault == _NOT_THERE else fault
                    left.append((file, target))
        missing = left
        if not missing:
            break
    return [Fault(target, reasons[target]) for _, target in missing]


def _transfer(session: Session, project_id: str, missing: Sequence[tuple[StoredFile, Path]]) -> str:
    """Have the client's worker copy the files beside their places; return what it says of a failure."""
    pairs = []
    for file, target in missing:
        partial = _partial(target)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        source = StoragePath(path=f"{project_id}/{PurePosixPath(file.storage_id).name}")
        pairs.append(SrcDst(src=source, dst=StoragePath(path=str(partial), remote="local")))

    def copy() -> Any:  # noqa: ANN401 - the client is not typed
        api = session.client.data_transfer_api
        started = api.copy(pairs)
        operations = api.wait_for([started.id], raise_on_error=True, cap=1.0)
        if not operations:
            raise TransferError("the worker was started anew")
        return operations[0]

    operation = session.retry_until_available(copy)
    said = str(operation.error or "").strip() if operation.state.value == "failed" else ""
    if "No space left" in said or "Disk quota exceeded" in said:
        raise _disk_full(missing)
    return said


def _put_in_place(file: StoredFile, target: Path) -> str | None:
    """Verify what was transferred and rename it; return what is wrong with it."""
    partial = _partial(target)
    try:
        size = partial.stat().st_size
    except FileNotFoundError:
        return _NOT_THERE
    found = checksum(partial)
    if file.checksum is not None and found != file.checksum:
        partial.unlink()
        return f"its checksum is {found}, and should be {file.checksum}"
    if file.checksum is None and size != file.size:
        partial.unlink()
        return f"it has {size:,} bytes, and should have {file.size:,}"
    partial.replace(target)
    return None


def _is_there(file: StoredFile, target: Path) -> bool:
    try:
        is_same_size = target.is_file() and target.stat().st_size == file.size
        return is_same_size and file.checksum is not None and checksum(target) == file.checksum
    except OSError:
        return False


def _check_space(missing: Sequence[tuple[StoredFile, Path]]) -> None:
    """Stop before the disk is full, rather than with a file cut short."""
    needed = sum(file.size for file, _ in missing)
    if _free(missing) < needed + min(_SPARE_BYTES, needed):
        raise _disk_full(missing)


def _disk_full(missing: Sequence[tuple[StoredFile, Path]]) -> FetchError:
    needed = format_size(sum(file.size for file, _ in missing))
    return FetchError(
        f"the disk is full: the next files in {missing[0][1].parent} need {needed}, "
        f"and {format_size(_free(missing))} are free",
        hint="make room, or name a directory on another disk, and download again: it goes on where it stopped",
    )


def _free(missing: Sequence[tuple[StoredFile, Path]]) -> int:
    folder = missing[0][1].parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _stored_file(entry: Mapping[str, Any]) -> StoredFile:
    path = str(entry.get("evaluation_path") or entry.get("name") or entry["id"])
    found = entry.get("hash")
    return StoredFile(
        file_id=str(entry["id"]),
        name=str(entry.get("name") or ""),
        path=path,
        storage_id=str(entry["storage_id"]),
        size=int(entry.get("size") or 0),
        checksum=str(found).lower()
        if found and re.fullmatch(r"[0-9a-fA-F]{16}", str(found))
        else None,
    )


def _ask(session: Session, project_id: str, name: str, **filters: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    found: list[dict[str, Any]] = session.retry_until_available(
        lambda: getattr(session.project(project_id), name)(as_objects=False, **filters)
    )
    return found
