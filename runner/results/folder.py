"""A folder of results: whose it is, and, for engines whose jobs work in it, how each job ended.

DIRECTORY/index.html                every job: its state, time, values, and a picture where it left one
DIRECTORY/job-0001/plot.png         what the job left
DIRECTORY/job-0001/console_output.txt
DIRECTORY/job-0001/.job.json        how it ended: there since the moment the folder has its name, or not at all
DIRECTORY/.offline-bundle.json      whose results these are: another project's are not mixed in
DIRECTORY/.submission/              what the engine keeps
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.console import console_tail
from offline_bundle.runner.model import (
    FAILED,
    TAIL_LINES,
    Counts,
    Failure,
    FileEntry,
    JobEntry,
    ProjectState,
    Results,
    job_name,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


PAGE_NAME = "index.html"
CONSOLE_NAME = "console_output.txt"
RECORD_NAME = ".job.json"
PRIVATE_NAME = ".submission"
INPUT_PARAMETERS = "input_parameters.json"
OUTPUT_PARAMETERS = "output_parameters.json"
_OWNER_NAME = ".offline-bundle.json"
_PLAN_NAME = "submission.json"


@dataclass(frozen=True)
class Owner:
    """Whose results a folder holds."""

    project: str
    name: str
    engine: str = "hps"


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    state: str
    seconds: float | None = None
    started: datetime | None = None


@dataclass(frozen=True)
class Plan:
    """A submission whose jobs work in the folder: what it takes to come back to them."""

    name: str
    engine: str
    rows: tuple[Mapping[str, Any], ...]
    """The values of each job."""
    inputs: tuple[str, ...]
    """Names of the files that each job was given: they are not its results."""
    details: Mapping[str, Any]
    """What the engine keeps, as JSON has it."""

    @property
    def names(self) -> list[str]:
        """The jobs' names, in order."""
        return [job_name(number, len(self.rows)) for number in range(1, len(self.rows) + 1)]


def check_free(directory: Path) -> None:
    """Raise `InputError` where a new project's results cannot go: to be asked before its jobs run, not after."""
    try:
        is_taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    except OSError as error:
        hint = "name another folder"
        raise BundleError(f"{directory} cannot be read: {error.strerror}", hint=hint) from error
    if is_taken:
        raise InputError(
            f"{directory} is there already, and not empty; nothing was submitted",
            hint="name another directory with --download, or move that one away",
        )


def owner_of(directory: Path) -> Owner | None:
    """Read whose results a folder holds; None where it says nothing of it."""
    try:
        found = json.loads((directory / _OWNER_NAME).read_text(encoding="utf-8"))
        return Owner(str(found["project"]), str(found.get("name")), str(found.get("engine", "hps")))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def claim(directory: Path, owner: Owner) -> None:
    """Make the directory this project's; refuse one that holds something else's results."""
    note = directory / _OWNER_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = owner_of(directory)
        foreign = found is None and any(directory.iterdir())
        if foreign or (found is not None and found.project != owner.project):
            whose = (
                "files of something else"
                if found is None
                else f"the results of the project {found.name}"
            )
            raise InputError(
                f"{directory} holds {whose}; nothing was downloaded or changed",
                hint="name another directory with --download",
            )
        if found is None:
            document = {"project": owner.project, "name": owner.name, "engine": owner.engine}
            write(note, json.dumps(document))
    except OSError as error:
        hint = "name a directory that can be written with --download"
        raise BundleError(f"{directory} cannot be used: {error.strerror}", hint=hint) from error


def write(path: Path, text: str) -> None:
    """Write a file in one step."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105


def write_plan(directory: Path, plan: Plan) -> None:
    """Keep what it takes to come back."""
    document = {
        "format": 1,
        "name": plan.name,
        "engine": plan.engine,
        "rows": [dict(row) for row in plan.rows],
        "inputs": list(plan.inputs),
        "details": dict(plan.details),
    }
    write(directory / PRIVATE_NAME / _PLAN_NAME, json.dumps(document))


def read_plan(directory: Path, engine: str) -> Plan:
    """Read what it takes to come back. Raises `InputError` where *directory* holds no jobs of this engine."""
    hint = f"name the folder that `offline-bundle submit --engine {engine}` spoke of"
    try:
        document = json.loads((directory / PRIVATE_NAME / _PLAN_NAME).read_text(encoding="utf-8"))
        plan = Plan(
            name=document["name"],
            engine=document["engine"],
            rows=tuple(document["rows"]),
            inputs=tuple(document["inputs"]),
            details=document["details"],
        )
    except FileNotFoundError as error:
        raise InputError(f"{directory} holds no jobs", hint=hint) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "name a folder that jobs were submitted into"
        raise BundleError(
            f"{directory / PRIVATE_NAME / _PLAN_NAME} cannot be read: {error}", hint=hint
        ) from error
    if plan.engine != engine:
        raise InputError(
            f"the jobs in {directory} are those of the engine {plan.engine}, not {engine}",
            hint=hint,
        )
    return plan


def record(folder: Path, state: str, **details: object) -> None:
    """Write how the job of this folder ended."""
    write(folder / RECORD_NAME, json.dumps({"state": state, **details}))


def read_record(folder: Path) -> Ended | None:
    """Read how a job ended; None while it has not."""
    try:
        found = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        state = str(found.get("state") or ("done" if found["code"] == 0 else "failed"))
        started, ended = found.get("started"), found.get("ended")
        return Ended(
            state=state,
            seconds=float(ended) - float(started) if started and ended else None,
            started=datetime.fromtimestamp(float(started), UTC) if started else None,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return Ended(
            "lost"
        )  # there, and not what was written: a disk that was full, or somebody's hand


class Ledger:
    """The jobs of a plan that have ended; each job's record is read once, however often it is asked."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory = directory
        self.plan = plan
        self.ended: dict[int, Ended] = {}
        """By the job's number, from 1."""
        self.numbers = range(1, len(plan.rows) + 1)
        self._names = plan.names

    def look(self, numbers: Iterable[int]) -> list[int]:
        """Read the records of these jobs; return those that have none."""
        missing = []
        for number in numbers:
            if number not in self.ended:
                found = read_record(self.directory / self.name(number))
                if found:
                    self.ended[number] = found
                else:
                    missing.append(number)
        return missing

    def name(self, number: int) -> str:
        """Name a job."""
        return self._names[number - 1]

    def counts(self, running: int = 0) -> Counts:
        """Count the jobs; those that neither ended nor run wait. Another thread may note the ends of jobs meanwhile."""
        ended = list(self.ended.values())
        states = Counter(end.state for end in ended)
        running = min(running, len(self._names) - len(ended))
        states["running"] += running
        states["pending"] += len(self._names) - len(ended) - running
        return Counts.of(states)

    def state(self, project_id: str, running: int = 0) -> ProjectState:
        """Describe the project."""
        return ProjectState(project_id, self.plan.name, is_active=True, counts=self.counts(running))

    def failures(self, limit: int) -> list[Failure]:
        """Tell of the first jobs that failed, with the ends of their consoles."""
        failed = [number for number in sorted(self.ended) if self.ended[number].state in FAILED]
        return [
            Failure(self.name(number), self.ended[number].state, self._tail(number))
            for number in failed[:limit]
        ]

    def results(
        self, directory: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
    ) -> Results:
        """Write the page of what is there. Raises `InputError` where the results are wanted in another *directory*."""
        from offline_bundle.runner.results.page.page import render_page

        if directory.absolute() != self.directory:
            raise InputError(
                f"the results are in {self.directory}, where the jobs have worked",
                hint="leave out --download, and copy that folder if need be",
            )
        entries = [self._entry(number, row) for number, row in enumerate(self.plan.rows, 1)]
        page = self.directory / PAGE_NAME
        try:
            write(page, render_page(self.plan.name, entries))
        except OSError as error:
            hint = "make room, or check the permissions of that folder"
            raise BundleError(f"{page} cannot be written: {error.strerror}", hint=hint) from error
        sizes = [file.size for entry in entries for file in entry.files]
        progress(sum(sizes), sum(sizes))
        return Results(self.directory, page, tuple(entries), len(sizes), sum(sizes))

    def _entry(self, number: int, row: Mapping[str, Any]) -> JobEntry:
        ended = self.ended.get(number) or Ended("pending")
        folder = self.directory / self.name(number)
        files = (
            list_files(folder, (*self.plan.inputs, RECORD_NAME, INPUT_PARAMETERS))
            if number in self.ended
            else ()
        )
        return JobEntry(
            name=self.name(number),
            state=ended.state,
            seconds=ended.seconds,
            started=ended.started,
            values={**row, **_produced(folder)},
            files=tuple(
                FileEntry(f"{self.name(number)}/{path}", size, is_console=path == CONSOLE_NAME)
                for path, size in files
            ),
            tail=self._tail(number) if ended.state in FAILED else "",
        )

    def _tail(self, number: int) -> str:
        return console_tail(self.directory / self.name(number) / CONSOLE_NAME, TAIL_LINES)


def list_files(folder: Path, omitted: Sequence[str]) -> list[tuple[str, int]]:
    """List the regular files of a job's folder, (relative path, bytes), sorted; nothing that leads out of it."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if relative not in omitted and path.is_file() and not path.is_symlink():
                found.append((relative, path.stat().st_size))
    return sorted(found)


def _produced(folder: Path) -> dict[str, Any]:
    """Read what the script gave back, if that is an object."""
    try:
        found = json.loads((folder / OUTPUT_PARAMETERS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
