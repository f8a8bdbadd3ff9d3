"""Show jobs and their results: what `submit` and `jobs` have in common."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.progress import Progress, show_progress
from offline_bundle.wheelhouse.runtime.text import printable_lines

if TYPE_CHECKING:
    from offline_bundle.runner.engine import Engine
    from offline_bundle.runner.follow import Outcome
    from offline_bundle.runner.model import Counts, ProjectState

DOWNLOAD = click.option(
    "--download",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Download the outputs to DIR.",
)


FOLLOW = click.option(
    "--follow",
    "followed",
    metavar="JOB",
    help="Print the console of a job, by name or number, as it is written; on stderr.",
)


def follow_jobs(  # noqa: PLR0913
    engine: Engine,
    project: ProjectState,
    *,
    wait: bool,
    directory: Path | None,
    is_quiet: bool,
    followed: str | None = None,
) -> Outcome:
    """Follow the jobs of *project* with a progress display, or with the console of *followed*.

    Ctrl-C raises JobsGoOnError, with the command that continues.
    """
    from offline_bundle.runner.follow import JobsGoOnError, follow, resume_command

    try:
        with job_progress(is_quiet=is_quiet or bool(followed)) as progress:
            return follow(
                engine,
                project,
                wait=wait,
                directory=directory,
                show=progress.counts,
                show_bytes=progress.downloaded,
                notice=notice,
                console=(followed, _print_console) if followed else None,
            )
    except KeyboardInterrupt:
        ended = engine.on_interrupt(project)
        if ended:
            again = shlex.join(["offline-bundle", "jobs", project.project_id, "--retry-failed"])
            is_kept = Path(project.project_id).is_dir()  # those of an embedded HPS are not
            hint = f"to run the others: {again}" if is_kept else None
            raise JobsGoOnError(f"interrupted: {ended}", hint=hint) from None
        hint = f"to continue: {resume_command(engine, project, directory)}"
        message = f"interrupted; the jobs of {project.name} continue"
        raise JobsGoOnError(message, hint=hint) from None


def _print_console(text: str) -> None:
    if text:
        click.echo(printable_lines(text), err=True, nl=False)


def print_outcome(
    context: click.Context, outcome: Outcome, *, as_json: bool, is_quiet: bool
) -> None:
    """Print the results; raise JobsFailedError if jobs failed."""
    error = outcome.error()
    if as_json:
        from offline_bundle.wheelhouse.cli.kit.output import error_document

        click.echo(json.dumps(outcome.document() | error_document(error), indent=2))
        context.exit(error.exit_code if error else 0)
    if not is_quiet:
        from offline_bundle.wheelhouse.runtime.sizes import count, format_size

        title = printable_lines(f"{outcome.name} ({outcome.project_id})")
        click.echo(f"{title}: {outcome.counts.describe()}")
        if outcome.results:
            results = outcome.results
            files = f"{count(results.files, 'file')}, {format_size(results.size)}"
            click.echo(f"{files}; open {results.page}")
    if error:
        raise error


def notice(text: str) -> None:
    """Print a message that is shown even with `--quiet`."""
    click.echo(printable_lines(text), err=True)


@contextmanager
def submission_steps(*, is_quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a step of a submission, on a terminal only."""
    with show_progress(is_quiet=is_quiet, in_log=False) as progress:
        yield progress.step


class JobProgress:
    """Shows the states of jobs, then the download of their outputs."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._downloaded: int | None = None

    def counts(self, counts: Counts) -> None:
        """Show how many jobs have ended, and the states of all."""
        self._progress.items(
            "jobs", done=counts.finished, total=counts.total, text=counts.describe()
        )

    def downloaded(self, done: int, total: int) -> None:
        """Show how many of *total* bytes are downloaded."""
        if self._downloaded is None:
            self._downloaded = 0
            self._progress.begin("Downloading", size=total)
        self._progress.advance(done - self._downloaded)
        self._downloaded = done


@contextmanager
def job_progress(*, is_quiet: bool) -> Iterator[JobProgress]:
    """Yield the display of running jobs."""
    with show_progress(is_quiet=is_quiet) as progress:
        yield JobProgress(progress)
