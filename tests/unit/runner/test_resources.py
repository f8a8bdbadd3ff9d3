"""Resources that the values of jobs give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from offline_bundle.runner.request import Request
from offline_bundle.runner.resources import RESOURCES, column_problems, take_columns
from offline_bundle.runner.values import values_of_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS = [
    {"c": 2, "m": "1G", "t": 0.5},
    {"c": 1, "m": "1G", "t": 0.5},
    {"c": 2, "m": "1G", "t": 0.5},
]


def request(**fields: object) -> Request:
    return Request(script=Path("eval.py"), values=values_of_rows(ROWS), **take_columns(fields))


def test_jobs_with_the_same_resources_are_together() -> None:
    asked = request(cores="{c}", memory="{m}", max_execution_time="{t}", gpus=1)
    groups = asked.by_resources()
    assert [numbers for _, numbers in groups] == [[1, 3], [2]]
    assert [
        (part.cores, part.memory, part.max_execution_time, part.gpus) for part, _ in groups
    ] == [(2, 1 << 30, 0.5, 1), (1, 1 << 30, 0.5, 1)]
    assert [part.variables["OMP_NUM_THREADS"] for part, _ in groups] == ["2", "1"]


def test_without_columns_there_is_one_group() -> None:
    ((part, numbers),) = request(cores=4).by_resources()
    assert (part.cores, part.columns, numbers) == (4, {}, [1, 2, 3])


def test_columns_that_are_missing_and_values_that_are_not_valid_are_named() -> None:
    def problems(columns: Mapping[str, str]) -> list[str]:
        return column_problems(columns, values_of_rows(ROWS))

    assert problems({"cores": "c", "memory": "m"}) == []
    assert problems({"max_execution_time": "x"}) == [
        "--max-execution-time {x}: there is no such value; the values are c, m, t"
    ]
    assert problems({"cores": "m"})[0] == "job 1: invalid value for --cores {m}: '1G'"
    assert problems({"gpus": "t"})[0] == "job 1: invalid value for --gpus {t}: 0.5"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, text) for name in ("cores", "max_execution_time") for text in ("nan", "inf", "0")),
        *(("memory", text) for text in ("0", "0.1", "0G")),
    ],
)
def test_amounts_that_no_job_can_have_are_refused(name: str, text: str) -> None:
    with pytest.raises(click.BadParameter):
        RESOURCES[name].convert(text, None, None)
    rows = values_of_rows([{"x": text}])
    assert len(column_problems({name: "x"}, rows)) == 1
