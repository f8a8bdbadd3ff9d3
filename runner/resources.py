"""Resources of jobs that their values give: `--cores {cores}` is the column `cores` of each row."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import click

from offline_bundle.runner.values import JobValues
from offline_bundle.wheelhouse.cli.kit.options import SizeType

_COLUMN = re.compile(r"\{([^{}]+)\}")
_SHOWN_PROBLEMS = 10


class ResourceType(click.ParamType[Any]):
    """The value of a resource, or `{name}` for a value of each job."""

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self.kind = kind
        self.name = kind.name

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401 - click's
        """Parse the text of an option."""
        is_column = isinstance(value, str) and _COLUMN.fullmatch(value)
        return value if is_column else self.kind.convert(value, param, ctx)


class _PositiveType(click.FloatRange):
    """A finite number: `nan` is in every range."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Parse the text of an option."""
        number = float(super().convert(value, param, ctx))
        return number if math.isfinite(number) else self.fail(f"{value} is not finite", param, ctx)


RESOURCES: Mapping[str, ResourceType] = {
    "cores": ResourceType(_PositiveType(min=0, min_open=True)),
    "memory": ResourceType(SizeType(min=1)),
    "max_execution_time": ResourceType(_PositiveType(min=0, min_open=True)),
    "gpus": ResourceType(click.IntRange(min=1)),
}
"""The resources that jobs of one submission may have different amounts of."""


def take_columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a request, with resources that are written as `{name}` in `columns`."""
    columns = {
        name: match[1] for name in RESOURCES if (match := _COLUMN.fullmatch(str(fields.get(name))))
    }
    return {**fields, **dict.fromkeys(columns), "columns": columns}


def column_problems(columns: Mapping[str, str], values: JobValues) -> list[str]:
    """Return a line for each column that is missing, and each value that is not valid."""
    known = ", ".join(values.types) or "none"
    problems = [
        f"--{name.replace('_', '-')} {{{column}}}: there is no such value; the values are {known}"
        for name, column in columns.items()
        if column not in values.types
    ]
    if problems:
        return problems
    for number, row in enumerate(values.rows, 1):
        for name, column in columns.items():
            try:
                _amounts({name: column}, row)
            except click.BadParameter:
                option = f"--{name.replace('_', '-')} {{{column}}}"
                problems.append(f"job {number}: invalid value for {option}: {row[column]!r}")
    return problems[:_SHOWN_PROBLEMS]


def group_by_amounts(
    columns: Mapping[str, str], values: JobValues
) -> dict[tuple[Any, ...], list[int]]:
    """Return the numbers of jobs by their amounts of the resources in *columns*, in that order.

    The values must have no `column_problems`.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, row in enumerate(values.rows, 1):
        groups.setdefault(_amounts(columns, row), []).append(number)
    return groups


def _amounts(columns: Mapping[str, str], row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        RESOURCES[name].kind.convert(str(row[column]), None, None)
        for name, column in columns.items()
    )
