"""Progress of a build on the display of all commands (`wheelhouse.cli.kit.progress`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.cli.kit.progress import Progress, show_progress
from offline_bundle.wheelhouse.runtime.sizes import format_size

if TYPE_CHECKING:
    from offline_bundle.builder.fetch.model import Download
    from offline_bundle.builder.model import BuildProgress


@contextmanager
def build_progress(*, is_quiet: bool) -> Iterator[BuildProgress]:
    """Yield the progress of a build for stderr."""
    with show_progress(is_quiet=is_quiet) as display:
        yield _BuildDisplay(display)


class _BuildDisplay:
    def __init__(self, display: Progress) -> None:
        self._display = display
        self.step = display.step
        self.advance = display.advance

    def begin(self, files: int, size: int | None, largest: Sequence[tuple[str, int]]) -> None:
        if files > len(largest):
            names = [f"{_package(name)} {format_size(part)}" for name, part in largest if part]
            total = f" of {format_size(size)}" if size else ""
            if names:
                self._display.report(f"Largest{total}: {', '.join(names)}")
        self._display.begin("Fetching", files=files, size=size)

    def done(self, _: Download) -> None:
        self._display.file_done()


def _package(filename: str) -> str:
    return filename.partition("-")[0]
