"""Files and tasks of a project, as HPS describes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

from offline_bundle.runner.engines.hps.connection.session import Session
from offline_bundle.runner.engines.hps.software import find_host_names

CONSOLE_NAME = "console_output.txt"
"""The file in which HPS stores stdout and stderr of a task."""

IDS_PER_REQUEST = 100
"""Identifiers are in the URL of a request, and servers limit its length."""

JOBS_PER_REQUEST = 1000
"""Jobs are in the body of a request."""

TASK_FIELDS = ["id", "job_id", "output_file_ids", "running_time", "host_id"]
_FILE_FIELDS = ["id", "name", "evaluation_path", "storage_id", "size", "hash", "type"]
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class StoredFile:
    """A file that HPS stores for a job. Every text in it is from the server: not trusted."""

    name: str
    path: str
    """Relative to the job's directory; see `local_paths.local_path`."""
    storage_id: str
    size: int
    """In bytes."""
    checksum: str | None
    """xxh64 in hex; None if the server has none."""

    @property
    def is_console(self) -> bool:
        """True if the file has the stdout and stderr of the task."""
        return PurePosixPath(self.path).name == CONSOLE_NAME or self.name == "console_output"


class JobRun(NamedTuple):
    """Where and when a job ran, as far as HPS reports it."""

    node: str = ""
    started: datetime | None = None


def find_files(
    session: Session,
    project_id: str,
    job_ids: Sequence[str],
    tasks: Iterable[Mapping[str, Any]],
) -> dict[str, list[StoredFile]]:
    """Return the output files of each job."""
    job_of_file = {
        str(file_id): str(task["job_id"])
        for task in tasks
        for file_id in task.get("output_file_ids") or ()
    }
    files: dict[str, list[StoredFile]] = {job_id: [] for job_id in job_ids}
    for ids in batches(job_of_file, IDS_PER_REQUEST):
        for entry in _request(
            session, project_id, "get_files", id=ids, fields=_FILE_FIELDS, limit=len(ids)
        ):
            job_id = job_of_file.get(str(entry["id"]))
            is_stored = entry.get("storage_id") and (entry.get("hash") or entry.get("size"))
            if job_id in files and is_stored:
                files[job_id].append(_stored_file(entry))
    return {job: sorted(stored, key=lambda file: file.path) for job, stored in files.items()}


def find_tasks(
    session: Session, project_id: str, job_ids: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Return the tasks of these jobs."""
    return [
        task
        for ids in batches(job_ids, IDS_PER_REQUEST)
        for task in _request(session, project_id, "get_tasks", job_id=ids, fields=TASK_FIELDS)
    ]


def find_runs(session: Session, tasks: Iterable[Mapping[str, Any]]) -> dict[str, JobRun]:
    """Return where and when the jobs of *tasks* ran; a job starts with its first task."""
    hosts = find_host_names(session)
    runs: dict[str, JobRun] = {}
    for task in tasks:
        job_id = str(task["job_id"])
        node, before = runs.get(job_id, JobRun())
        moments = filter(None, (before, _parse_time(task.get("running_time"))))
        node = hosts.get(str(task.get("host_id")), node)
        runs[job_id] = JobRun(node, min(moments, default=None))
    return runs


def _parse_time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of up to *size* items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _stored_file(entry: Mapping[str, Any]) -> StoredFile:
    checksum = str(entry.get("hash") or "").lower()
    return StoredFile(
        name=str(entry.get("name") or ""),
        path=str(entry.get("evaluation_path") or entry.get("name") or entry["id"]),
        storage_id=str(entry["storage_id"]),
        size=int(entry.get("size") or 0),
        checksum=checksum if re.fullmatch(r"[0-9a-f]{16}", checksum) else None,
    )


def _request(session: Session, project_id: str, name: str, **filters: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    entries: list[dict[str, Any]] = session.retry_until_available(
        lambda: getattr(session.project(project_id), name)(as_objects=False, **filters)
    )
    return entries
