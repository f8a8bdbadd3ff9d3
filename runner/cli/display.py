"""The progress of jobs on stderr, shown by the one progress display."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.progress import show_progress
from offline_bundle.wheelhouse.runtime.text import printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offline_bundle.runner.model import Counts
    from offline_bundle.wheelhouse.cli.kit.progress import Progress


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
