"""Input values of jobs: from `--set NAME=VALUE`, and from a CSV file with one job per row.

    >>> plan_values(["material=steel"], None, jobs=2).rows
    ({'material': 'steel'}, {'material': 'steel'})

The text decides the type: `3` is an int, `0.5` a float, `true` a bool, all else a string. A column
of a CSV file has the one type that fits all its cells. All problems are reported together.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.sizes import count

Value = int | float | bool | str

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
"""Leading zeros: treat as text."""

_LARGEST_INTEGER = 2**63 - 1
_MOST_DIGITS = 20
_BOOLS = {"true": True, "false": False}
_SHOWN_PROBLEMS = 10
_SHOWN_CHARACTERS = 80
_OTHER_SEPARATORS = {
    "\t": "tabs",
    ";": "semicolons",
    "|": "bars",
    ":": "colons",
    "\uff0c": "full-width commas",
    "\u3001": "ideographic commas",
    "\u060c": "Arabic commas",
    "\uff1b": "full-width semicolons",
}
_HEADER_HINT = "the first line names the values, and each further line is one job"


@dataclass(frozen=True)
class JobValues:
    """The input values of every job."""

    types: Mapping[str, str]
    """Name → `int`, `float`, `bool` or `string`."""
    rows: tuple[Mapping[str, Value], ...]
    """One per job, in order, each with all names."""


def plan_values(settings: Sequence[str], table: Path | None, *, jobs: int) -> JobValues:
    """Combine `NAME=VALUE` *settings*, for all jobs, with the rows of *table*, one job each.

    Without a table there are *jobs* jobs. Raises `InputError` with all wrong settings or lines.
    """
    constants = _parse_settings(settings)
    columns = _read_table(table) if table else {}
    duplicates = sorted(constants.keys() & columns.keys())
    if duplicates:
        names = ", ".join(duplicates)
        raise InputError(f"given by --set and by {table}: {names}", hint="give each value once")
    types = {name: _type_of([text]) for name, text in constants.items()}
    types |= {name: _type_of(cells) for name, cells in columns.items()}
    common = {name: _CONVERTERS[types[name]](text) for name, text in constants.items()}
    converted = {
        name: [_CONVERTERS[types[name]](cell) for cell in cells] for name, cells in columns.items()
    }
    count = len(next(iter(columns.values()))) if columns else jobs
    rows = tuple(
        {**common, **{name: cells[row] for name, cells in converted.items()}}
        for row in range(count)
    )
    return JobValues(types=types, rows=rows)


def values_of_rows(rows: Sequence[Mapping[str, Any]]) -> JobValues:
    """Return the values of *rows*, one job each, all with the same names.

    Values are int, float, bool or str, or numbers of NumPy. Raises `InputError` with all faults.
    """
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    names = list(plain[0]) if plain else []
    problems = [
        f"row {number} has the values {', '.join(row) or 'none'}, the first one {', '.join(names)}"
        for number, row in enumerate(plain, 1)
        if row.keys() != set(names)
    ]
    columns = {name: [row.get(name) for row in plain] for name in names}
    types = {name: _common_type(cells) for name, cells in columns.items()}
    problems += [f"{name} is not of one type" for name, kind in types.items() if kind is None]
    if problems or not plain:
        raise InputError(
            "the rows are not a table of jobs" if plain else "there are no rows of values",
            problems=problems[:_SHOWN_PROBLEMS],
            hint="each row has the same names, and each name int, float, bool or str values",
        )
    return JobValues(types={name: str(kind) for name, kind in types.items()}, rows=tuple(plain))


def _plain(value: Any) -> Any:  # noqa: ANN401
    return value.item() if hasattr(value, "item") else value


def _common_type(cells: Sequence[object]) -> str | None:
    kinds = {type(cell) for cell in cells}
    is_finite = all(math.isfinite(cell) for cell in cells if isinstance(cell, float))
    if kinds in ({int, float}, {float}):
        return "float" if is_finite else None
    names = {bool: "bool", int: "int", str: "string"}
    return names.get(kinds.pop()) if len(kinds) == 1 else None


def _parse_settings(settings: Sequence[str]) -> dict[str, str]:
    constants: dict[str, str] = {}
    problems = []
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            problems.append(f"{setting!r} is not NAME=VALUE")
        elif name.strip() in constants:
            problems.append(f"{name.strip()} is given twice")
        constants[name.strip()] = text.strip()
    if problems:
        raise InputError(
            "--set is not valid", problems=problems, hint="for example --set thickness=0.5"
        )
    return constants


def _read_table(path: Path) -> dict[str, list[str]]:
    """Read the columns of a CSV file, in order."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            lines = [
                (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)
            ]
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", hint="check its path and permissions"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        hint = "save it as CSV: UTF-8 text, values separated by commas"
        raise InputError(f"{path} is not a CSV file: {error}", hint=hint) from error
    if len(lines) < 2:
        raise InputError(f"{path} has no rows of values", hint=_HEADER_HINT)
    names = lines[0][1]
    _check_separator(path, names, lines[1:])
    problems = [*_header_problems(names), *_row_problems(names, lines[1:])]
    if problems:
        shown = problems[:_SHOWN_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"… and {len(problems) - len(shown)} more")
        raise InputError(f"{path} is not a table of jobs", problems=shown, hint=_HEADER_HINT)
    return {name: [row[column] for _, row in lines[1:]] for column, name in enumerate(names)}


def _check_separator(
    path: Path, names: Sequence[str], lines: Sequence[tuple[int, Sequence[str]]]
) -> None:
    """Raise InputError where the first line has another separator, or no names."""
    if names[0].startswith(("#", "<", "{", "[")) or "=" in "".join(names):
        message = f"{path}: the first line is not one of names: {names[0][:_SHOWN_CHARACTERS]}"
        raise InputError(message, hint=_HEADER_HINT)
    separators = dict(_OTHER_SEPARATORS)
    words = len(names[0].split())
    if len(names) == 1 and all(len(" ".join(row).split()) == words for _, row in lines):
        separators[" "] = "spaces"  # else it is a name of several words
    for separator, name in separators.items():
        if any(separator in text for text in names):
            hint = f"separate values by commas, not by {name}; quote a cell that contains a comma"
            raise InputError(f"{path}: the first line is separated by {name}", hint=hint)


def _header_problems(names: Sequence[str]) -> list[str]:
    problems = [f"column {column} has no name" for column, name in enumerate(names, 1) if not name]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    # such as a second byte order mark, or the NUL characters of UTF-16
    odd = [name for name in names if not name.isprintable()]
    problems += [f"the name {name!a} has invisible characters" for name in odd]
    return problems + [f"two columns are named {name}" for name in twice]


def _row_problems(names: Sequence[str], lines: Sequence[tuple[int, Sequence[str]]]) -> list[str]:
    problems = []
    for number, row in lines:
        if len(row) != len(names):
            problems.append(
                f"line {number}: {count(len(row), 'value')} for {count(len(names), 'name')}"
            )
        else:
            missing = [name for name, cell in zip(names, row, strict=True) if name and not cell]
            problems += [f"line {number}: NUL characters"] if "\0" in "".join(row) else []
            problems += [f"line {number}: no value for {', '.join(missing)}"] if missing else []
    return problems


def _type_of(cells: Sequence[str]) -> str:
    if all(cell.lower() in _BOOLS for cell in cells):
        return "bool"
    if all(_is_integer(cell) for cell in cells):
        return "int"
    return "float" if all(_is_number(cell) for cell in cells) else "string"


def _is_integer(cell: str) -> bool:
    is_short = len(cell) <= _MOST_DIGITS  # int() refuses 4,300 digits and more
    return is_short and _INTEGER.fullmatch(cell) is not None and abs(int(cell)) <= _LARGEST_INTEGER


def _is_number(cell: str) -> bool:
    """Return True for a finite decimal number: JSON has no NaN, and `1_000` is text."""
    try:
        return (
            math.isfinite(float(cell))
            and "_" not in cell
            and (_is_integer(cell) or not cell.strip("+-").isdigit())
        )
    except ValueError:
        return False


_CONVERTERS: dict[str, Callable[[str], Value]] = {
    "bool": lambda cell: _BOOLS[cell.lower()],
    "int": int,
    "float": float,
    "string": str,
}
