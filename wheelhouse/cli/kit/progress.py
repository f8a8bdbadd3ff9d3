"""The progress display of all commands, on stderr: live on a terminal, lines in a log, or nothing.

with show_progress(is_quiet=quiet) as progress:
    progress.step("Resolving eval.py")
    progress.begin("Fetching", files=12, size=40_000_000)
    progress.advance(65_536)                    # bytes, from one thread at a time
    progress.file_done()
    progress.items("jobs", done=3, total=10, text="2 running, 5 pending")
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from offline_bundle.wheelhouse.runtime.sizes import count, format_size
from offline_bundle.wheelhouse.runtime.text import printable_lines

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """The display of nothing, and the interface of the others."""

    def step(self, text: str) -> None:
        """Show the step that starts now; a count, if any, has ended."""

    def report(self, text: str) -> None:
        """Print a line that stays."""

    def begin(self, text: str, *, files: int = 0, size: int | None = None) -> None:
        """Start to count the bytes of a transfer of *files* with *size* bytes, None if unknown."""

    def advance(self, size: int) -> None:
        """Add *size* bytes to the transfer."""

    def file_done(self) -> None:
        """Count one of the files of the transfer."""

    def items(self, noun: str, *, done: int, total: int, text: str) -> None:
        """Show that *done* of *total* are finished; *text* describes the others."""

    def close(self) -> None:
        """Remove the display."""


@contextmanager
def show_progress(*, is_quiet: bool, in_log: bool = True) -> Iterator[Progress]:
    """Yield the display for stderr; without *in_log*, only a terminal has one."""
    progress = Progress()
    if not is_quiet and sys.stderr.isatty():
        progress = _Live()
    elif not is_quiet and in_log:
        progress = _Lines()
    try:
        yield progress
    finally:
        progress.close()


class _Transfer:
    """The numbers of one transfer."""

    def __init__(self, files: int, size: int | None) -> None:
        self.files = files
        self.size = size
        self.done_files = 0
        self.done_size = 0
        self._started = time.monotonic()

    @property
    def rate(self) -> str:
        seconds = time.monotonic() - self._started
        return f"{format_size(int(self.done_size / seconds) if seconds else 0)}/s"


class _Lines(Progress):
    """For logs: one line for each step, and for long ones another now and then."""

    def __init__(self) -> None:
        self._transfer = _Transfer(0, None)
        self._last_time = float("-inf")
        self._last_line = ""

    def step(self, text: str) -> None:
        click.echo(f"{printable_lines(text)} …", err=True)

    def report(self, text: str) -> None:
        click.echo(printable_lines(text), err=True)

    def begin(self, text: str, *, files: int = 0, size: int | None = None) -> None:
        self._transfer = _Transfer(files, size)
        self._last_time = time.monotonic()
        amounts = [count(files, "file")] if files else []
        amounts += [format_size(size)] if size else []
        line = f"{text} {', '.join(amounts)}".rstrip()
        click.echo(f"{printable_lines(line)} …", err=True)

    def advance(self, size: int) -> None:
        self._transfer.done_size += size

    def file_done(self) -> None:
        transfer = self._transfer
        transfer.done_files += 1
        left = transfer.files - transfer.done_files
        if left > 0 and self._is_time():
            done = format_size(transfer.done_size)
            click.echo(
                f"  {done} so far, {transfer.rate}, {count(left, 'file')} remaining", err=True
            )

    def items(self, noun: str, *, done: int, total: int, text: str) -> None:
        line = f"{done:,} of {total:,} {noun}: {text}"
        if line != self._last_line and (done >= total or self._is_time()):
            self._last_line = line
            click.echo(printable_lines(line), err=True)

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last_time < _SECONDS_BETWEEN_LINES:
            return False
        self._last_time = now
        return True


class _Live(Progress):
    """For terminals: one line with a bar, removed at the end."""

    def __init__(self) -> None:
        from rich.console import Console  # slow to import
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Display

        self._display = Display(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._display.add_task("", total=None, detail="")
        self._transfer = _Transfer(0, None)
        self._display.start()

    def step(self, text: str) -> None:
        self._display.update(self._task, description=f"{printable_lines(text)} …", detail="")
        self._display.reset(self._task, total=None)

    def report(self, text: str) -> None:
        self._display.console.print(printable_lines(text), markup=False, highlight=False)

    def begin(self, text: str, *, files: int = 0, size: int | None = None) -> None:
        self._transfer = _Transfer(files, size)
        self._display.update(self._task, description=printable_lines(text), detail="")
        self._display.reset(self._task, total=size)

    def advance(self, size: int) -> None:
        self._transfer.done_size += size
        self._display.update(self._task, advance=size, detail=self._amounts())

    def file_done(self) -> None:
        self._transfer.done_files += 1
        self._display.update(self._task, detail=self._amounts())

    def items(self, noun: str, *, done: int, total: int, text: str) -> None:
        detail = f"{done:,}/{total:,} {noun}"
        description = printable_lines(text)
        self._display.update(
            self._task, description=description, completed=done, total=total, detail=detail
        )

    def close(self) -> None:
        self._display.stop()

    def _amounts(self) -> str:
        transfer = self._transfer
        done = format_size(transfer.done_size)
        size = f"{done} of {format_size(transfer.size)}" if transfer.size else done
        files = f", {transfer.done_files}/{transfer.files} files" if transfer.files else ""
        return f"{size}, {transfer.rate}{files}"
