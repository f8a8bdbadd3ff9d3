"""Telling the user how a build goes: a bar on a terminal, plain lines in a log, nothing when quiet."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from offline_bundle.builder.fetch.model import NoProgress
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from offline_bundle.builder.fetch.model import Download, FetchProgress
    from offline_bundle.builder.model import BuildProgress

# Between two lines about downloads that go on, in a log.
_QUIET_SECONDS = 10.0


@contextmanager
def make_progress(*, is_quiet: bool) -> Iterator[BuildProgress]:
    """The progress that fits where stderr goes."""
    if is_quiet:
        yield _Quiet()
    elif sys.stderr.isatty():
        bar = _Bar()
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield _Lines()


class _Quiet:
    def __init__(self) -> None:
        self.transfer: FetchProgress = NoProgress()

    def step(self, text: str) -> None:
        pass

    def waiting(self, directory: Path) -> None:
        pass


class _Lines:
    """One line per step."""

    def __init__(self) -> None:
        self.transfer: FetchProgress = _TransferLines()

    def step(self, text: str) -> None:
        click.echo(f"{text} …", err=True)

    def waiting(self, directory: Path) -> None:
        click.echo(f"Another build is writing {directory}: waiting for it to finish …", err=True)


class _TransferLines:
    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._left = self._size = 0

    def begin(self, files: int, size: int | None) -> None:
        self._started = self._last = time.monotonic()
        self._left = files
        known = f", {format_size(size)}" if size else ""
        if files:
            click.echo(f"Fetching {count(files, 'file')}{known} …", err=True)

    def advance(self, size: int) -> None:
        self._size += size

    def done(self, download: Download) -> None:
        del download
        self._left -= 1
        seconds = time.monotonic() - self._last
        if seconds > _QUIET_SECONDS and self._left:
            self._last += seconds
            rate = format_size(int(self._size / (self._last - self._started)))
            click.echo(
                f"  {format_size(self._size)} so far, {rate}/s, {count(self._left, 'file')} to go",
                err=True,
            )


class _Bar:
    """A live bar: bytes, rate and files."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs rich
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("{task.fields[files]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=None, files="")
        self.transfer: FetchProgress = _TransferBar(self._progress, self._task)

    def step(self, text: str) -> None:
        self._progress.update(self._task, description=f"{text} …")

    def waiting(self, directory: Path) -> None:
        self.step(f"Waiting for another build of {directory}")

    def close(self) -> None:
        self._progress.stop()


class _TransferBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._files = self._done = 0

    def begin(self, files: int, size: int | None) -> None:
        self._files, self._done = files, 0
        self._progress.update(
            self._task, description="Fetching", total=size, completed=0, files=f"0/{files} files"
        )

    def advance(self, size: int) -> None:
        self._progress.update(self._task, advance=size)

    def done(self, download: Download) -> None:
        del download
        self._done += 1
        self._progress.update(self._task, files=f"{self._done}/{self._files} files")
