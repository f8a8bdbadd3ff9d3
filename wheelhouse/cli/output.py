"""Words, numbers and tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    Cell = str | tuple[str, str]
    """Text; or text and the colour that it has on a terminal."""

_UNLIMITED = 100_000


def count(number: int, noun: str) -> str:
    """`1 file`, `12 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def megabytes(size: int) -> str:
    """A size in bytes with three digits and a decimal unit: `40.7 MB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError(size)


def print_table(
    titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, numbers: Collection[str] = ()
) -> None:
    """Print the one kind of table there is to stdout; columns named in *numbers* stand to the right.

    On a terminal what is too wide is folded to its width. Elsewhere (a file, a pipe) each row is one line without
    colours, however long: for grep and awk. NO_COLOR is heeded. Cells are shown as they are: what comes from outside
    goes through `unpack.printable` first.
    """
    from rich.console import Console  # noqa: PLC0415 - slow to import, and not every command prints a table
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else Text(*cell) for cell in row))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.out(line.rstrip(), highlight=False)
