"""Tables, notes and JSON, the same for all commands."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from offline_bundle.wheelhouse.runtime.text import printable, printable_lines

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.runtime.errors import BundleError

    Cell = str | tuple[str, str]
    """Text; or text and its colour on a terminal."""

_UNLIMITED = 100_000


def print_json(document: object) -> None:
    """Print the result for `--json`."""
    click.echo(json.dumps(document, indent=1))


def print_note(text: str) -> None:
    """Print a note, which may have untrusted text, to stderr."""
    click.secho(printable_lines(f"note: {text}"), fg="yellow", err=True)


def error_document(error: BundleError | None) -> dict[str, Any]:
    """Return what `--json` prints for an error, or an empty object."""
    if error is None:
        return {}
    return {"error": {"code": error.exit_code, "message": str(error), "hint": error.hint}}


def print_table(
    titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, numbers: Collection[str] = ()
) -> None:
    """Print a table to stdout; columns named in *numbers* are aligned to the right.

    On a terminal, cells are wrapped to fit. Elsewhere each row is one line of any length without
    colours, for grep and awk. NO_COLOR is respected. Cells may be untrusted text.
    """
    from rich.console import Console  # slow to import, and most commands print no table
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        justify: Literal["left", "right"] = "right" if title in numbers else "left"
        table.add_column(title, justify=justify, overflow="fold")  # words: allow
    for row in rows:
        cells = ((cell, "") if isinstance(cell, str) else cell for cell in row)
        table.add_row(*(Text(printable(text), colour) for text, colour in cells))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.out(line.rstrip(), highlight=False)
