"""From jobs that are under way to results on this disk, by whatever engine: watch, collect, tell of those that failed.

outcome = follow(engine, engine.find("eval - 10 jobs"), directory=Path("results"))
outcome.raise_if_failed()
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.engine import (
    FAILED,
    Counts,
    Engine,
    Failure,
    ProjectState,
    Results,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, FetchError, JobsFailedError
from offline_bundle.wheelhouse.runtime.paths import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHOWN_FAILURES = 10
_SHORTEST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
_STANDSTILL_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """How the jobs of a project stand, and what was downloaded."""

    project_id: str
    name: str
    counts: Counts
    failures: tuple[Failure, ...]
    """The first that failed."""
    results: Results | None
    """None where no download was asked for, or where it failed."""
    fault: BundleError | None = None
    """Why the download failed."""

    def error(self) -> BundleError | None:
        """Return what went wrong, failed jobs before a failed download; None where all is well."""
        if not self.counts.failed:
            return self.fault
        problems = []
        for failure in self.failures:
            problems.append(f"{printable(failure.job)}: {failure.state}")
            problems += [f"  | {printable(line)}" for line in failure.tail.splitlines()]
        if self.counts.failed > len(self.failures):
            problems.append(f"… and {self.counts.failed - len(self.failures)} more")
        if self.fault:
            problems += [
                "and the download:",
                *(f"  {line}" for line in str(self.fault).splitlines()),
            ]
        return JobsFailedError(
            f"{self.counts.failed} of {self.counts.total} jobs of {self.name} failed",
            problems=problems,
            hint=self.fault.hint if self.fault else _where_consoles_are(self.results),
        )

    def raise_if_failed(self) -> None:
        """Raise `JobsFailedError`, or what stopped the download."""
        error = self.error()
        if error:
            raise error

    def document(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        results = self.results
        return {
            "project": {"id": self.project_id, "name": self.name},
            "jobs": {"total": self.counts.total, "states": dict(self.counts.by_state)},
            "failed": [
                {"job": failure.job, "state": failure.state, "console": failure.tail}
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
    """Ctrl-C while watching: exit 130, and the jobs go on."""

    exit_code = 130


def watch(
    engine: Engine,
    project: ProjectState,
    show: Callable[[Counts], None] = lambda _: None,
    *,
    notice: Callable[[str], None] = lambda _: None,
) -> Counts:
    """Wait until no job is under way; *show* gets every look, *notice* a standstill, once.

    A look comes after a twentieth of the time that has passed, so that the end is noticed soon after short jobs and
    asked for seldom during long ones; never sooner than a quarter of a second, nor later than five. Raises
    `BundleError` where the engine stays away or the project goes.
    """
    begin = time.monotonic()
    is_noticed = False
    while True:
        counts = engine.look(project)
        show(counts)
        if counts.under_way == 0:
            return counts
        is_waiting = counts.by_state.get("pending") == counts.total
        if is_waiting and not is_noticed and time.monotonic() - begin > _STANDSTILL_SECONDS:
            notice(f"no job has been started yet: {engine.standstill(project)}")
            is_noticed = True
        passed = time.monotonic() - begin
        time.sleep(min(max(passed / 20, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS))


def follow(  # noqa: PLR0913
    engine: Engine,
    project: ProjectState,
    *,
    waits: bool = True,
    directory: Path | None = None,
    show: Callable[[Counts], None] = lambda _: None,
    show_bytes: Callable[[int, int], None] = lambda _done, _total: None,
    notice: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Wait for the jobs if asked to, have what they left in *directory* if that is given, and find failed ones.

    *show* gets the counts at every look, *show_bytes* how far the download is, *notice* what deserves a line.
    Raises `BundleError`; failed jobs and files that did not arrive are in the outcome.
    """
    counts = watch(engine, project, show, notice=notice) if waits else project.counts
    results = fault = None
    if directory:
        try:
            results = engine.results(project, directory, show_bytes)
        except FetchError as error:
            fault = error
    failures = _failures(engine, project, results) if counts.failed else []
    return Outcome(project.project_id, project.name, counts, tuple(failures), results, fault)


def how_to_return(engine: Engine, project: ProjectState, directory: Path | None) -> str:
    """Return the command line that takes a project up again; nothing in it is secret."""
    return shlex.join(["offline-bundle", "jobs", *engine.way_back(project, directory)])


def _failures(engine: Engine, project: ProjectState, results: Results | None) -> list[Failure]:
    if results is None:
        return engine.failures(project, SHOWN_FAILURES)
    failed = [job for job in results.jobs if job.state in FAILED]
    return [Failure(job.name, job.state, job.tail) for job in failed[:SHOWN_FAILURES]]


def _where_consoles_are(results: Results | None) -> str:
    if results:
        return f"all that a job said is in {results.directory}/JOB/console_output.txt"
    return "--download DIR brings all that the jobs said and left"
