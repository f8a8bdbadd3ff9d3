"""Download the results of a project, and write the page over them.

    DIRECTORY/index.html                every job: state, time, values, and its picture if any
    DIRECTORY/job-0001/plot.png         collected by HPS, verified by its checksum
    DIRECTORY/job-0001/console_output.txt
    DIRECTORY/.offline-bundle.json      the project; results of two projects are not mixed

Downloading again into the same directory transfers missing files only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.engines.hps.connection.session import Session
from offline_bundle.runner.engines.hps.downloads import download_files
from offline_bundle.runner.engines.hps.local_paths import folder_names, local_path
from offline_bundle.runner.engines.hps.projects import common_state, find_project
from offline_bundle.runner.engines.hps.stored_files import (
    TASK_FIELDS,
    JobRun,
    StoredFile,
    find_files,
    find_runs,
)
from offline_bundle.runner.job_files.names import NUMBER_PARAMETER
from offline_bundle.runner.model import FAILED, TAIL_LINES, FileEntry, JobEntry, Results
from offline_bundle.runner.results.console import console_tail
from offline_bundle.runner.results.folder import write_page
from offline_bundle.runner.results.owner import ResultsOwner, lock_to_project
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.sizes import count

if TYPE_CHECKING:
    Placed = Mapping[str, Sequence[tuple[StoredFile, Path]]]
    """Job identifier → its files and their paths on this disk."""

_JOBS_PER_REQUEST = 500
_SHOWN_FAILURES = 10

_JOB_FIELDS = ["id", "name", "eval_status", "values", "elapsed_time"]


def download(
    session: Session,
    project_id: str,
    directory: Path,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Results:
    """Download every file that HPS collected for the jobs of a project, and write the page.

    *progress* gets the bytes done and all bytes. Raises `InputError` if *directory* has results of
    another project, `FetchError` naming failed files: the others are kept and are on the page.
    """
    project = find_project(session, project_id)
    lock_to_project(directory, ResultsOwner(project.project_id, project.name))
    jobs = sorted(
        _list_all(session, project_id, "get_jobs", _JOB_FIELDS),
        key=lambda job: _natural_order(str(job.get("name") or "")),
    )
    tasks = list(_list_all(session, project_id, "get_tasks", TASK_FIELDS))
    files = find_files(session, project_id, [str(job["id"]) for job in jobs], tasks)
    folders = folder_names([(str(job["id"]), str(job.get("name") or "")) for job in jobs])
    placed = _place(directory, folders, files)
    wanted = [pair for pairs in placed.values() for pair in pairs]
    failed = _download(session, project_id, directory, wanted, progress)
    runs = find_runs(session, tasks)
    entries = [
        _entry(directory, job, runs.get(str(job["id"])), placed.get(str(job["id"]), ()))
        for job in jobs
    ]
    page = write_page(directory, project.name, entries)
    if failed:
        raise _failed_downloads(directory, failed, len(wanted))
    size = sum(file.size for file, _ in wanted)
    return Results(directory, page, tuple(entries), len(wanted), size)


def _download(
    session: Session,
    project_id: str,
    directory: Path,
    wanted: Sequence[tuple[StoredFile, Path]],
    progress: Callable[[int, int], None],
) -> dict[Path, str]:
    total = sum(file.size for file, _ in wanted)
    done = 0

    def advance(_files: int, size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    try:
        return download_files(session, project_id, wanted, advance)
    except OSError as error:
        raise FetchError(
            f"cannot write {error.filename or directory}: {error.strerror}",
            hint="free some space or name another directory with --download, and download again: "
            "finished files are kept",
        ) from error


def _failed_downloads(directory: Path, failed: Mapping[Path, str], total: int) -> FetchError:
    shown = islice(failed.items(), _SHOWN_FAILURES)
    problems = [f"{target.relative_to(directory)}: {reason}" for target, reason in shown]
    if len(failed) > _SHOWN_FAILURES:
        problems.append(f"… and {len(failed) - _SHOWN_FAILURES} more")
    return FetchError(
        f"{count(len(failed), 'file')} of {total:,} could not be downloaded",
        problems=problems,
        hint="download again: finished files are kept and not transferred twice",
    )


def _list_all(
    session: Session, project_id: str, name: str, fields: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield a collection in requests of bounded size."""
    start = 0
    while True:
        entries: list[Mapping[str, Any]] = session.retry_until_available(
            lambda start=start: getattr(session.project(project_id), name)(  # type: ignore[misc]
                as_objects=False,
                fields=list(fields),
                sort="id",
                limit=_JOBS_PER_REQUEST,
                offset=start,
            )
        )
        yield from entries
        start += len(entries)
        if len(entries) < _JOBS_PER_REQUEST:
            return


def _place(
    directory: Path, folders: Mapping[str, str], files: Mapping[str, Sequence[StoredFile]]
) -> dict[str, list[tuple[StoredFile, Path]]]:
    """Return the path of each file, by job."""
    placed: dict[str, list[tuple[StoredFile, Path]]] = {}
    for job_id, stored in files.items():
        folder = directory / folders[job_id]
        taken: set[Path] = set()
        for number, file in enumerate(stored, 1):
            target = local_path(folder, file.path)
            while target in taken:  # another task of the job has the same output
                target = target.with_name(f"{number}-{target.name}")
            taken.add(target)
            placed.setdefault(job_id, []).append((file, target))
    return placed


def _entry(
    directory: Path,
    job: Mapping[str, Any],
    run: JobRun | None,
    placed: Sequence[tuple[StoredFile, Path]],
) -> JobEntry:
    """Describe a job for the page, with its files on this disk."""
    node, started = run or JobRun()
    files = tuple(
        FileEntry(target.relative_to(directory).as_posix(), file.size, is_console=file.is_console)
        for file, target in placed
        if target.is_file()
    )
    state = common_state(job.get("eval_status"))
    console = next((file.path for file in files if file.is_console), None)
    return JobEntry(
        job=str(job.get("name") or job["id"]),
        state=state,
        seconds=job.get("elapsed_time"),
        started=started,
        values=_values(job),
        files=files,
        tail=console_tail(directory / console, TAIL_LINES) if console and state in FAILED else "",
        node=node,
    )


def _values(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a job, without its number."""
    values = dict(job.get("values") or {})
    values.pop(NUMBER_PARAMETER, None)
    return values


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts `job-2` before `job-10`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]
