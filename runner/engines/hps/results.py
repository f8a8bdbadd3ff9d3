"""The results of a project on this disk, with a page to look at them.

    DIRECTORY/index.html                every job: its state, time, values, and a picture where it left one
    DIRECTORY/job-0001/plot.png         what HPS collected for the job, verified by its checksum
    DIRECTORY/job-0001/console_output.txt
    DIRECTORY/.offline-bundle.json      whose results these are: another project's are not mixed in

Downloading again into the same directory transfers only what is not there yet.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.console import console_tail
from offline_bundle.runner.engines.hps.downloads import (
    fetch,
    find_files,
    safe_path,
)
from offline_bundle.runner.engines.hps.projects import find_project
from offline_bundle.runner.model import FAILED, TAIL_LINES, FileEntry, JobEntry, Results
from offline_bundle.runner.results.folder import (
    PAGE_NAME,
    Owner,
    claim,
    write,
)
from offline_bundle.runner.results.page.page import render_page
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.sizes import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from offline_bundle.runner.engines.hps.downloads import StoredFile
    from offline_bundle.runner.engines.hps.session import Session

_JOBS_PER_REQUEST = 500
_SHOWN_FAULTS = 10
_LONGEST_NAME = 100

_JOB_FIELDS = ["id", "name", "eval_status", "values", "elapsed_time"]
_TASK_FIELDS = ["id", "job_id", "output_file_ids", "running_time", "elapsed_time"]
_RESERVED_NAME = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def download(
    session: Session,
    project_id: str,
    directory: Path,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Results:
    """Download every file that HPS has collected for the jobs of a project, and write the page.

    *progress* is told the bytes that are there, and all of them. Raises `InputError` where *directory* holds the
    results of another project, `FetchError` naming the files that did not arrive: what did is kept, and on the page.
    """
    project = find_project(session, project_id)
    claim(directory, Owner(project.project_id, project.name))
    jobs = _list_jobs(session, project_id)
    tasks = _list_tasks(session, project_id)
    files = find_files(session, project_id, [str(job["id"]) for job in jobs], tasks)
    folders = name_folders([(str(job["id"]), str(job.get("name") or "")) for job in jobs])
    placed = _place(directory, folders, files)
    total = sum(file.size for file, _ in placed)
    done = 0

    def advance(_files: int, size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    try:
        faults = fetch(session, project_id, placed, advance)
    except OSError as error:
        raise FetchError(
            f"{error.filename or directory} cannot be written: {error.strerror}",
            hint="make room or name another directory with --download, and start the download again: it goes on",
        ) from error
    entries = _entries(directory, jobs, tasks, folders, files)
    page = directory / PAGE_NAME
    write(page, render_page(project.name, entries))
    if faults:
        problems = [
            f"{fault.target.relative_to(directory)}: {fault.reason}"
            for fault in faults[:_SHOWN_FAULTS]
        ]
        if len(faults) > _SHOWN_FAULTS:
            problems.append(f"… and {len(faults) - _SHOWN_FAULTS} more")
        message = f"{count(len(faults), 'file')} of {len(placed):,} could not be downloaded"
        hint = "start the download again: what is there is kept and not transferred twice"
        raise FetchError(message, problems=problems, hint=hint)
    return Results(directory, page, tuple(entries), len(placed), total)


def name_folders(jobs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Give each job, (identifier, name), a folder: its name where that can be one and nobody else has it."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for job_id, name in jobs:
        folder = _folder_name(name)
        if not folder or folder.lower() in taken:
            folder = _folder_name(f"{folder or 'job'}-{job_id}")
        taken.add(folder.lower())
        folders[job_id] = folder
    return folders


def _folder_name(name: str) -> str:
    folder = re.sub(r"[^\w.+=@-]+", "_", name)[:_LONGEST_NAME].strip("._ ")
    return (
        f"{folder}_" if _RESERVED_NAME.fullmatch(folder) or folder.lower() == PAGE_NAME else folder
    )


def _list_jobs(session: Session, project_id: str) -> list[Mapping[str, Any]]:
    jobs = list(_pages(session, project_id, "get_jobs", _JOB_FIELDS))
    return sorted(jobs, key=lambda job: _natural(str(job.get("name") or "")))


def _list_tasks(session: Session, project_id: str) -> list[Mapping[str, Any]]:
    return list(_pages(session, project_id, "get_tasks", _TASK_FIELDS))


def _pages(
    session: Session, project_id: str, name: str, fields: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Go through a collection in requests of bounded size."""
    start = 0
    while True:
        page: list[Mapping[str, Any]] = session.retry_until_available(
            lambda start=start: getattr(session.project(project_id), name)(  # type: ignore[misc]
                as_objects=False,
                fields=list(fields),
                sort="id",
                limit=_JOBS_PER_REQUEST,
                offset=start,
            )
        )
        yield from page
        start += len(page)
        if len(page) < _JOBS_PER_REQUEST:
            return


def _place(
    directory: Path, folders: Mapping[str, str], files: Mapping[str, Sequence[StoredFile]]
) -> list[tuple[StoredFile, Path]]:
    """Give each file its place; one whose path would leave its job's folder goes by its identifier."""
    placed = []
    taken: set[Path] = set()
    for job_id, found in files.items():
        for file in found:
            target = directory / folders[job_id] / (safe_path(file.path) or file.file_id)
            if target in taken:  # another task of the job has put out the same
                target = target.with_name(f"{file.file_id}-{target.name}")
            taken.add(target)
            placed.append((file, target))
    return placed


def _entries(
    directory: Path,
    jobs: Sequence[Mapping[str, Any]],
    tasks: Sequence[Mapping[str, Any]],
    folders: Mapping[str, str],
    files: Mapping[str, Sequence[StoredFile]],
) -> list[JobEntry]:
    """Describe each job for the page, with the files that are on this disk now."""
    started: dict[str, list[datetime]] = {}
    for task in tasks:
        moment = _moment(task.get("running_time"))
        if moment:
            started.setdefault(str(task["job_id"]), []).append(moment)
    places: dict[str, list[FileEntry]] = {}
    by_target = _place(directory, folders, files)
    owners = [job_id for job_id, found in files.items() for _ in found]
    for job_id, (file, target) in zip(owners, by_target, strict=True):
        if target.exists():
            entry = FileEntry(
                target.relative_to(directory).as_posix(), file.size, is_console=file.is_console
            )
            places.setdefault(job_id, []).append(entry)
    entries = []
    for job in jobs:
        job_id, state = str(job["id"]), str(job.get("eval_status"))
        listed = tuple(places.get(job_id, ()))
        console = next((entry.path for entry in listed if entry.is_console), None)
        entries.append(
            JobEntry(
                name=str(job.get("name") or job_id),
                state=state,
                seconds=job.get("elapsed_time"),
                started=min(started[job_id]) if job_id in started else None,
                values=dict(job.get("values") or {}),
                files=listed,
                tail=console_tail(directory / console, TAIL_LINES)
                if console and state in FAILED
                else "",
            )
        )
    return entries


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


def _natural(name: str) -> list[tuple[int, str]]:
    """Order `job-2` before `job-10`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]
