"""A folder of results: its owner and, where jobs work in it, the outcome of each job.

DIRECTORY/index.html                the page: state, time, values and pictures of each job
DIRECTORY/results.csv               the same table
DIRECTORY/job-0001/plot.png         an output of the job
DIRECTORY/job-0001/console_output.txt
DIRECTORY/job-0001/.job.json        its outcome, written before the folder gets its name
DIRECTORY/.offline-bundle.json      the owner: results of another project are refused
DIRECTORY/.submission/              state of the engine
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from offline_bundle.runner.job_files.names import CONSOLE_NAME, OUTPUT_PARAMETERS, RECORD_NAME
from offline_bundle.runner.model import (
    FAILED,
    TAIL_LINES,
    Counts,
    Failure,
    FileEntry,
    JobEntry,
    ProjectState,
    Results,
    ResultsOrigin,
    job_name,
)
from offline_bundle.runner.results.console import console_tail
from offline_bundle.runner.results.documents import ODD_JSON, read_document
from offline_bundle.runner.results.job_sets import jobs_between, members
from offline_bundle.runner.results.live_console import LiveConsole
from offline_bundle.runner.results.owner import read_owner
from offline_bundle.runner.standalone.job_rules import Outputs
from offline_bundle.wheelhouse.runtime.disk.files import write_atomic
from offline_bundle.wheelhouse.runtime.disk.safe_folder import flush_tree
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

PAGE_NAME = "index.html"
TABLE_NAME = "results.csv"
PRIVATE_NAME = ".submission"
ATTEMPTS = "attempts"


@dataclass(frozen=True)
class JobOutcome:
    """State, duration in seconds and start of a job that ended."""

    state: str
    seconds: float | None = None
    started: datetime | None = None
    node: str = ""
    """The node that ran it; empty if unknown."""
    job_id: str = ""
    """Its identifier in the scheduler; empty without one."""


@dataclass(frozen=True)
class SubmissionRecord:
    """A submission whose jobs work in the folder: what resuming it needs."""

    name: str
    engine: str
    rows: tuple[Mapping[str, Any], ...]
    """The values of each job."""
    outputs: Outputs
    """The files that are results."""
    details: Mapping[str, Any]
    """State of the engine, JSON-compatible."""

    @property
    def names(self) -> list[str]:
        """Names of the jobs, in order."""
        return [job_name(number, len(self.rows)) for number in range(1, len(self.rows) + 1)]


def write_page(directory: Path, title: str, jobs: Sequence[JobEntry]) -> Path:
    """Write the page of all jobs, and the same table as CSV; return the page's path."""
    from offline_bundle.runner.results.page.page import render_page, render_table

    owner = read_owner(directory)
    page = directory / PAGE_NAME
    try:
        write(directory / TABLE_NAME, render_table(jobs))
        write(
            page, render_page(title, jobs, owner.origin if owner else ResultsOrigin(), TABLE_NAME)
        )
    except OSError as error:
        hint = "free some space, or check the permissions of that folder"
        raise BundleError(f"{page} cannot be written: {error.strerror}", hint=hint) from error
    return page


def write(path: Path, text: str) -> None:
    """Write a text file atomically, with the permissions that the umask leaves."""
    write_atomic(path, text.encode(), mode=0o666)


def plan_path(directory: Path) -> Path:
    """Return the file with what resuming the submission needs."""
    return directory / PRIVATE_NAME / "submission.json"


def was_interrupted(directory: Path) -> bool:
    """Return True if a submission was ended (`kill -9`) before any job was submitted."""
    path = plan_path(directory)
    try:
        return path not in path.parent.iterdir()
    except OSError:
        return False


def write_submission(directory: Path, plan: SubmissionRecord) -> None:
    """Write what resuming the submission needs."""
    document = {
        "format": 1,
        "name": plan.name,
        "engine": plan.engine,
        "rows": [dict(row) for row in plan.rows],
        "outputs": plan.outputs._asdict(),
        "details": dict(plan.details),
    }
    path = plan_path(directory)
    if not path.exists():
        flush_tree(path.parent)  # what jobs read; later they add and remove files there
    # durable: after a power cut, its jobs may still run
    write_atomic(path, json.dumps(document).encode(), durable=True, mode=0o666)


def read_submission(directory: Path, engine: str) -> SubmissionRecord:
    """Read a submission; raise InputError if *directory* has no jobs of this engine."""
    hint = f"name the folder that `offline-bundle submit --engine {engine}` printed"
    try:
        _check_own(directory / PRIVATE_NAME)
        document = read_document(plan_path(directory))
        plan = SubmissionRecord(
            name=document["name"],
            engine=document["engine"],
            rows=tuple(document["rows"]),
            outputs=Outputs.read(document["outputs"]),
            details=document["details"],
        )
    except FileNotFoundError as error:
        message = f"no jobs in {directory}"
        if was_interrupted(directory):
            message += ": the submission was interrupted before any job was submitted"
            hint = "submit again with --overwrite, or remove the folder"
        raise InputError(message, hint=hint) from error
    except PermissionError as error:
        raise InputError(
            f"the jobs in {directory} belong to another user",
            hint="run the command as the user of that folder; index.html has the results",
        ) from error
    except (OSError, LookupError, TypeError, *ODD_JSON) as error:
        hint = "name a folder that jobs were submitted into"
        raise BundleError(f"{plan_path(directory)} cannot be read: {error}", hint=hint) from error
    if plan.engine != engine:
        raise InputError(
            f"the jobs in {directory} belong to the engine {plan.engine}, not {engine}",
            hint=hint,
        )
    return plan


def _check_own(folder: Path) -> None:
    """Raise PermissionError for a folder of another user: what is in it would run as this one."""
    # root's files on a network share may have another owner
    if os.name != "nt" and os.getuid() not in {0, folder.stat().st_uid}:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(folder))


def record(folder: Path, state: str, **details: object) -> None:
    """Write the outcome of the job of this folder."""
    write(folder / RECORD_NAME, json.dumps({"state": state, **details}))


def read_outcome(folder: Path) -> JobOutcome | None:
    """Read the outcome of a job; None while it has not ended."""
    try:
        found = read_document(folder / RECORD_NAME)
        state = str(found.get("state") or ("done" if found["code"] == 0 else "failed"))
        started, ended = found.get("started"), found.get("ended")
        seconds = float(ended) - float(started) if started and ended else None
        if not math.isfinite(seconds or 0):
            return JobOutcome("lost")
        return JobOutcome(
            state=state,
            seconds=seconds,
            started=datetime.fromtimestamp(float(started), UTC) if started else None,
            node=str(found.get("node") or ""),
            job_id=str(found.get("job_id") or ""),
        )
    except FileNotFoundError:
        return None
    except (OSError, LookupError, AttributeError, TypeError, *ODD_JSON):
        return JobOutcome("lost")  # corrupt: the disk was full, or the file was edited


class JobRecords:
    """Outcomes of the jobs of a submission; each record is read once."""

    def __init__(self, directory: Path, plan: SubmissionRecord) -> None:
        self.directory = directory
        self.plan = plan
        self.ended: dict[int, JobOutcome] = {}
        """By the job's number, from 1; changed by `end` and `reopen` only."""
        self.jobs = jobs_between(1, len(plan.rows))
        """The set of all jobs: see `job_sets`."""
        self.unfinished = self.jobs
        """The set of the jobs that are not in `ended`."""
        self.in_state: dict[str, int] = {}
        """State → the set of the jobs that ended so."""
        self._names = plan.names
        self._consoles: dict[str, LiveConsole] = {}

    def look(self, jobs: int) -> int:
        """Read the records of a set of jobs; return the set of those without one."""
        jobs &= self.unfinished
        for number in members(jobs):
            outcome = read_outcome(self.directory / self.name(number))
            if outcome:
                self.end(number, outcome)
        return jobs & self.unfinished

    def end(self, number: int, outcome: JobOutcome) -> None:
        """Note how a job ended."""
        self.ended[number] = outcome
        self.in_state[outcome.state] = self.in_state.get(outcome.state, 0) | 1 << number
        self.unfinished &= ~(1 << number)

    def reopen(self, numbers: Sequence[int]) -> dict[int, JobOutcome]:
        """Forget how these jobs ended, and return it."""
        outcomes = {number: self.ended.pop(number) for number in numbers if number in self.ended}
        for number, outcome in outcomes.items():
            self.in_state[outcome.state] &= ~(1 << number)
            self.unfinished |= 1 << number
        return outcomes

    def name(self, number: int) -> str:
        """Return the name of a job."""
        return self._names[number - 1]

    def counts(self, running: int = 0) -> Counts:
        """Count the jobs by state; safe while another thread records outcomes."""
        states = {state: jobs.bit_count() for state, jobs in list(self.in_state.items())}
        unfinished = len(self._names) - sum(states.values())
        running = min(running, unfinished)
        return Counts.of({**states, "running": running, "pending": unfinished - running})

    def state(
        self, project_id: str, running: int = 0, scheduler_jobs: tuple[str, ...] = ()
    ) -> ProjectState:
        """Describe the project."""
        return ProjectState(
            project_id,
            self.plan.name,
            counts=self.counts(running),
            scheduler_jobs=scheduler_jobs,
        )

    def failures(self, limit: int) -> list[Failure]:
        """Return the first failed jobs, with the last lines of their consoles."""
        failed = [number for number in sorted(self.ended) if self.ended[number].state in FAILED]
        return [self._entry(number) for number in failed[:limit]]

    def read_console(self, job: str) -> str:
        """Return what *job* has added to its console since the last call. Raises `InputError`."""
        if job not in self._consoles:
            if job not in self._names:
                hint = f"name one of {self._names[0]} to {self._names[-1]}, or its number"
                raise InputError(f"there is no job {job}", hint=hint)
            attempts = self.directory / PRIVATE_NAME / ATTEMPTS
            self._consoles[job] = LiveConsole(self.directory / job, attempts)
        return self._consoles[job].read()

    def results(self, directory: Path) -> Results:
        """Write the page; raise InputError if *directory* is not the one that the jobs use."""
        if directory.absolute() != self.directory:
            raise InputError(
                f"the results are in {self.directory}, where the jobs ran",
                hint="leave out --download; copy that folder if you need another one",
            )
        entries = [self._entry(number) for number in members(self.jobs)]
        page = write_page(self.directory, self.plan.name, entries)
        if not self.unfinished:
            # what is left is of nodes that failed: their jobs have ended elsewhere
            for attempt in (self.directory / PRIVATE_NAME / ATTEMPTS).glob("*"):
                if (self.directory / attempt.stem).exists():  # else it was started again just now
                    shutil.rmtree(attempt, ignore_errors=True)
        sizes = [file.size for entry in entries for file in entry.files]
        return Results(self.directory, page, tuple(entries), len(sizes), sum(sizes))

    def _entry(self, number: int) -> JobEntry:
        ended = self.ended.get(number) or JobOutcome("pending")
        folder = self.directory / self.name(number)
        files = self._files(folder) if number in self.ended else []
        return JobEntry(
            job=self.name(number),
            state=ended.state,
            seconds=ended.seconds,
            started=ended.started,
            values={**self.plan.rows[number - 1], **_produced(folder)},
            files=tuple(
                FileEntry(f"{self.name(number)}/{path}", size, is_console=path == CONSOLE_NAME)
                for path, size in files
            ),
            tail=self.tail(number) if ended.state in FAILED else "",
            node=ended.node,
            job_id=ended.job_id,
        )

    def _files(self, folder: Path) -> list[tuple[str, int]]:
        """Return the outputs and the console of a job that ended."""
        console = folder / CONSOLE_NAME
        files = self.plan.outputs.find(folder)
        return [*files, (CONSOLE_NAME, console.stat().st_size)] if console.is_file() else files

    def tail(self, number: int) -> str:
        """Return the last lines of the console of a job that ended."""
        return console_tail(self.directory / self.name(number) / CONSOLE_NAME, TAIL_LINES)


def _produced(folder: Path) -> dict[str, Any]:
    """Return the output parameters that the script wrote, if they are a JSON object."""
    try:
        found = read_document(folder / OUTPUT_PARAMETERS)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, *ODD_JSON):  # one job's odd values must not end all results
        return {OUTPUT_PARAMETERS: "not valid JSON"}
    return found if isinstance(found, dict) else {}
