"""What is shown on stderr while jobs are submitted, run and downloaded."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offline_bundle.runner.model import Counts

    Shows = tuple[Callable[[Counts], None], Callable[[int, int], None]]

_SECONDS_BETWEEN_LINES = 5.0


class Display:
    """What is shown on stderr while things go on: a line that changes on a terminal, else a line now and then."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.is_quiet = is_quiet
        self._is_live = sys.stderr.isatty() and not is_quiet
        self._last_line = float("-inf")
        self._said = ""

    def notice(self, text: str) -> None:
        """Say what deserves a line even where all else is quiet."""
        click.echo(text, err=True)

    @contextlib.contextmanager
    def steps(self) -> Iterator[Callable[[str], None]]:
        """Show the steps of a submission."""
        if not self._is_live:
            yield lambda _: None
            return

        from rich.console import Console  # noqa: PLC0415 - `--help` does without

        with Console(stderr=True).status("submitting") as status:
            yield status.update

    @contextlib.contextmanager
    def progress(self, total: int) -> Iterator[Shows]:
        """Show jobs by their states, then the download."""
        if self.is_quiet:
            yield lambda _: None, lambda _done, _total: None
        elif self._is_live:
            with self._bars(total) as shows:
                yield shows
        else:
            yield self._print_counts, lambda _done, _total: None

    def _print_counts(self, counts: Counts) -> None:
        line = f"{counts.finished:,} of {counts.total:,} jobs: {counts.describe()}"
        is_time = (
            time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES or not counts.under_way
        )
        if line != self._said and is_time:
            self._said, self._last_line = line, time.monotonic()
            click.echo(line, err=True)

    @contextlib.contextmanager
    def _bars(self, total: int) -> Iterator[Shows]:

        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            jobs = progress.add_task("", total=total)
            transfer = progress.add_task("MB downloaded", total=None, visible=False)

            def show(counts: Counts) -> None:
                progress.update(
                    jobs,
                    completed=counts.finished,
                    total=counts.total,
                    description=counts.describe(),
                )

            def show_bytes(done: int, of: int) -> None:
                progress.update(transfer, completed=done // 10**6, total=of // 10**6, visible=True)

            yield show, show_bytes
