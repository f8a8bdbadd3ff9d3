"""Change a results folder: run failed jobs again, remove it, or replace it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from offline_bundle.runner.model import FAILED
from offline_bundle.runner.results.folder import PAGE_NAME, PRIVATE_NAME, TABLE_NAME, JobRecords
from offline_bundle.runner.results.owner import OWNER_NAME, is_free, read_owner
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

_REPLACED = "replaced"


def find_failed(records: JobRecords, is_chosen: Callable[[str, str], bool]) -> list[int]:
    """Return the numbers of the failed jobs for which *is_chosen* (name, state) is true."""
    return [
        number
        for number in sorted(records.ended)
        if records.ended[number].state in FAILED
        and is_chosen(records.name(number), records.ended[number].state)
    ]


@contextlib.contextmanager
def set_aside(records: JobRecords, numbers: Sequence[int]) -> Iterator[None]:
    """Move the folders of these jobs away, so that the jobs can run again.

    If the block fails, they are moved back; otherwise they are removed. Raises `BundleError`.
    """
    folder = records.directory / PRIVATE_NAME / _REPLACED
    moved: list[tuple[Path, Path]] = []
    before = records.reopen(numbers)
    try:
        folder.mkdir(exist_ok=True)
        for number in numbers:
            source = records.directory / records.name(number)
            target = folder / source.name
            if source.exists():
                shutil.rmtree(target, ignore_errors=True)
                source.rename(target)
                moved.append((source, target))
        yield
    except BaseException as error:
        for source, target in moved:
            with contextlib.suppress(OSError):  # the job runs already
                target.rename(source)
        for number, outcome in before.items():
            records.end(number, outcome)
        if isinstance(error, OSError):
            hint = "free some space, or check the permissions of that folder"
            message = f"cannot change {records.directory}: {error.strerror}"
            raise BundleError(message, hint=hint) from error
        raise
    shutil.rmtree(folder, ignore_errors=True)


def remove_results(directory: Path, jobs: Sequence[str]) -> None:
    """Remove what a submission wrote in *directory*; files of the user stay. Raises `BundleError`.

    The folder itself is removed if nothing else is in it.
    """
    try:
        # the owner goes last: an interrupted removal can be continued
        for name in (*jobs, PAGE_NAME, TABLE_NAME, PRIVATE_NAME, OWNER_NAME):
            path = directory / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if not any(directory.iterdir()):
            directory.rmdir()
    except OSError as error:
        raise BundleError(
            f"cannot remove {error.filename or directory}: {error.strerror}",
            hint="check its permissions, and run the command again",
        ) from error


def numbered(directory: Path) -> Path:
    """Return *directory* if it is free, else `NAME-2`, `NAME-3` and so on."""
    candidates = map(directory.with_name, (f"{directory.name}-{number}" for number in count(2)))
    return directory if is_free(directory) else next(filter(is_free, candidates))


@contextlib.contextmanager
def replaced(directory: Path) -> Iterator[None]:
    """Move earlier results in *directory* away: back if the block fails, otherwise remove them.

    Raises `InputError` if the folder has anything but results.
    """
    if is_free(directory):
        yield
        return
    if read_owner(directory) is None:
        raise InputError(
            f"{directory} has no results of jobs; nothing was replaced",
            hint="name another directory with --download",
        )
    old = directory.with_name(f".{directory.name}.{_REPLACED}")
    try:
        shutil.rmtree(old, ignore_errors=True)
        directory.rename(old)
    except OSError as error:
        hint = "name another directory with --download"
        raise BundleError(f"cannot replace {directory}: {error.strerror}", hint=hint) from error
    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)  # it has only what the block wrote
        old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)
