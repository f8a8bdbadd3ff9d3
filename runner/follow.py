"""Follow the jobs of any engine to their end: poll, collect the results, report failed jobs.

outcome = follow(engine, engine.find("eval - 10 jobs"), directory=Path("results"))
outcome.raise_if_failed()
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_bundle.runner.engine import Engine
from offline_bundle.runner.model import FAILED, Counts, Failure, ProjectState, Results, job_name
from offline_bundle.runner.results.failures import FailureGroup, group_failures
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    FetchError,
    InputError,
    JobsFailedError,
)
from offline_bundle.wheelhouse.runtime.text import printable

SHOWN_FAILURES = 10
"""Groups of failed jobs in an error."""

_GROUPED_FAILURES = 100
"""Failed jobs whose consoles are read to form groups."""

_SHOWN_NAMES = 5
_SHORTEST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
_PENDING_NOTICE_SECONDS = 60.0
_CONSOLE_SECONDS = 0.5
"""Longest time until a new line of a followed console is shown."""


@dataclass(frozen=True)
class Outcome:
    """Job counts of a project, and its downloaded results."""

    project_id: str
    name: str
    counts: Counts
    failures: tuple[Failure, ...]
    """The first failed jobs."""
    results: Results | None
    """None without a download, or if it failed."""
    fault: BundleError | None = None
    """The error of the download."""
    scheduler_jobs: tuple[str, ...] = ()
    """As in `ProjectState`."""

    def error(self) -> BundleError | None:
        """Return the error to raise: failed jobs before a failed download; None on success."""
        if not self.counts.failed:
            return self.fault
        problems = []
        groups = group_failures(self.failures)[:SHOWN_FAILURES]
        for group in groups:
            problems.append(printable(_describe(group)))
            problems += [f"  | {printable(line)}" for line in group.failures[0].tail.splitlines()]
        more = self.counts.failed - sum(len(group.failures) for group in groups)
        problems += [f"… and {more} more"] if more > 0 else []
        if self.fault:
            lines = str(self.fault).splitlines()
            problems += ["and the download:", *(f"  {line}" for line in lines)]
        return JobsFailedError(
            f"{self.name}: {self.counts.failed} of {self.counts.total} jobs failed",
            problems=problems,
            hint=self.fault.hint if self.fault else _console_hint(self.results),
        )

    def raise_if_failed(self) -> None:
        """Raise `JobsFailedError`, or the error of the download."""
        error = self.error()
        if error:
            raise error

    def document(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        results = self.results
        return {
            "project": {
                "id": self.project_id,
                "name": self.name,
                "scheduler_jobs": list(self.scheduler_jobs),
            },
            "jobs": {"total": self.counts.total, "states": dict(self.counts.by_state)},
            "failed": [
                {
                    "job": failure.job,
                    "state": failure.state,
                    "console": failure.tail,
                    "node": failure.node or None,
                    "scheduler_job": failure.job_id or None,
                    "seconds": failure.seconds,
                    "started": failure.started.isoformat() if failure.started else None,
                }
                for failure in self.failures
            ],
            "download": results
            and {
                "directory": str(results.directory.absolute()),
                "page": str(results.page.absolute()),
                "files": results.files,
                "bytes": results.size,
            },
        }


class JobsGoOnError(BundleError):
    """Ctrl-C while waiting, exit code 130. The jobs continue."""

    exit_code = 130


def watch(
    engine: Engine,
    project: ProjectState,
    show: Callable[[Counts], None] = lambda _: None,
    *,
    notice: Callable[[str], None] = lambda _: None,
    longest_pause: float = _LONGEST_PAUSE_SECONDS,
) -> Counts:
    """Poll until no job is under way. *show* gets all counts, *notice* a pending reason once.

    The pause between polls is a twentieth of the time since the start, from 0.25 to 5 seconds: the
    end of short jobs is noticed soon, and long jobs are polled seldom. Raises `BundleError` if the
    engine cannot be reached or the project was removed.
    """
    start = time.monotonic()
    is_noticed = False
    while True:
        counts = engine.poll(project)
        show(counts)
        if counts.under_way == 0:
            return counts
        seconds = time.monotonic() - start
        is_pending = counts.by_state.get("pending") == counts.total
        if is_pending and not is_noticed and seconds > _PENDING_NOTICE_SECONDS:
            reason = engine.pending_reason(project)
            notice(f"no job has started after {_PENDING_NOTICE_SECONDS:.0f} s: {reason}")
            is_noticed = True
        time.sleep(min(max(seconds / 20, _SHORTEST_PAUSE_SECONDS), longest_pause))


def follow(  # noqa: PLR0913
    engine: Engine,
    project: ProjectState,
    *,
    wait: bool = True,
    directory: Path | None = None,
    show: Callable[[Counts], None] = lambda _: None,
    show_bytes: Callable[[int, int], None] = lambda _done, _total: None,
    notice: Callable[[str], None] = lambda _: None,
    console: tuple[str, Callable[[str], None]] | None = None,
) -> Outcome:
    """Wait for the jobs if *wait*, collect results in *directory* if given, find failed jobs.

    *show* gets the counts of every poll, *show_bytes* the progress of the download, *notice*
    messages for the user. *console* is the name or number of a job, and a function that gets its
    console as it is written. Raises `BundleError`; failed jobs and downloads are in the outcome.
    """
    if wait and console:
        counts = _watch_console(engine, project, show, notice, console)
    else:
        counts = watch(engine, project, show, notice=notice) if wait else project.counts
    results = fault = None
    if directory:
        try:
            results = engine.results(project, directory, show_bytes)
        except FetchError as error:
            fault = error
    failures = _failures(engine, project, results) if counts.failed else []
    return Outcome(
        project_id=project.project_id,
        name=project.name,
        counts=counts,
        failures=tuple(failures),
        results=results,
        fault=fault,
        scheduler_jobs=engine.scheduler_jobs(project),
    )


def _watch_console(
    engine: Engine,
    project: ProjectState,
    show: Callable[[Counts], None],
    notice: Callable[[str], None],
    console: tuple[str, Callable[[str], None]],
) -> Counts:
    """Poll as `watch` does; after each poll show what the job has added to its console."""
    job, show_console = console
    name = job_name(int(job), project.counts.total) if job.isdecimal() else job
    show_console(engine.read_console(project, name))  # an unknown job is an error at once

    def show_both(counts: Counts) -> None:
        show(counts)
        show_console(engine.read_console(project, name))

    counts = watch(engine, project, show_both, notice=notice, longest_pause=_CONSOLE_SECONDS)
    show_console(engine.read_console(project, name, is_last=True))
    return counts


def check_followed(job: str, jobs: int) -> None:
    """Raise InputError if *job* is neither the name nor the number of one of *jobs* new jobs."""
    names = [job_name(number, jobs) for number in range(1, jobs + 1)]
    if job not in names and not (job.isdecimal() and 1 <= int(job) <= jobs):
        hint = f"name one of {names[0]} to {names[-1]}, or its number"
        raise InputError(f"there is no job {job}", hint=hint)


def resume_command(engine: Engine, project: ProjectState, directory: Path | None) -> str:
    """Return the command line that continues with a project, without secrets."""
    return shlex.join(["offline-bundle", "jobs", *engine.resume_arguments(project, directory)])


def _failures(engine: Engine, project: ProjectState, results: Results | None) -> Sequence[Failure]:
    if results is None:
        return engine.failures(project, _GROUPED_FAILURES)
    failed = [job for job in results.jobs if job.state in FAILED]
    return failed[:_GROUPED_FAILURES]


def _describe(group: FailureGroup) -> str:
    """Return the first line about jobs that failed alike."""
    first, *others = group.failures
    if not others:
        return f"{first.job}: {first.state}{first.place}"
    names = ", ".join(failure.job for failure in group.failures[:_SHOWN_NAMES])
    more = len(group.failures) - _SHOWN_NAMES
    names += f" and {more:,} more" if more > 0 else ""
    nodes = ", ".join(sorted({failure.node for failure in group.failures if failure.node}))
    return f"{names}: {group.state}{nodes and f' on {nodes}'}, for the same reason"


def _console_hint(results: Results | None) -> str:
    if results:
        return f"see {results.directory}/JOB/console_output.txt for all output of a job"
    return "download all output and files with --download DIR"
