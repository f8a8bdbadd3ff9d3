from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.values import plan_values
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "values.csv"


def test_without_values_every_job_has_none() -> None:
    values = plan_values([], None, jobs=3)
    assert values.rows == ({}, {}, {})
    assert values.types == {}


def test_settings_go_to_every_job_and_are_what_they_look_like() -> None:
    values = plan_values(
        ["n=3", "x=0.5", "fast=True", "name=steel=mild", "id=007", "bad=nan"], None, jobs=2
    )
    assert values.rows[0] == {
        "n": 3,
        "x": 0.5,
        "fast": True,
        "name": "steel=mild",
        "id": "007",
        "bad": "nan",
    }
    assert values.rows[1] == values.rows[0]
    assert values.types == {
        "n": "int", "x": "float", "fast": "bool", "name": "string", "id": "string", "bad": "string",
    }  # fmt: skip


def test_a_row_of_the_table_is_a_job(table: Path) -> None:
    table.write_text(
        '\ufeffthickness, material ,"n"\n1,steel,1\n2.5,"a, b",2\n\n3,Größe,3\n', encoding="utf-8"
    )
    values = plan_values(["kind=plot"], table, jobs=10)
    assert values.types == {
        "kind": "string",
        "thickness": "float",
        "material": "string",
        "n": "int",
    }
    assert values.rows == (
        {"kind": "plot", "thickness": 1.0, "material": "steel", "n": 1},
        {"kind": "plot", "thickness": 2.5, "material": "a, b", "n": 2},
        {"kind": "plot", "thickness": 3.0, "material": "Größe", "n": 3},
    )
    assert isinstance(values.rows[0]["thickness"], float)


def test_a_column_has_one_type_for_all_its_cells(table: Path) -> None:
    table.write_text("a,b,c,d\n1,true,1_000,9223372036854775808\n01,1,2,1\n")
    assert plan_values([], table, jobs=1).types == {
        "a": "string",
        "b": "string",
        "c": "string",
        "d": "string",
    }


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "a,b\n1\n1,2\n1,\n",
            ["line 2: 1 value for 2 names", "line 4: no value for b"],
        ),
        ("a,,a\n1,2,3\n", ["column 2 has no name", "two columns are named a"]),
        ("a,\n1,\n", ["column 2 has no name"]),
        ("a,\ufeffb\n1,2\n", ["the name '\\ufeffb' has invisible characters"]),
        (
            "a\0,b\n1,2\0\n",
            ["the name 'a\\x00' has invisible characters", "line 2: NUL characters"],
        ),
    ],
)
def test_every_fault_of_the_table_is_named(table: Path, text: str, problems: list[str]) -> None:
    table.write_text(text)
    with pytest.raises(InputError) as raised:
        plan_values([], table, jobs=1)
    assert list(raised.value.problems) == problems
    assert str(table) in raised.value.message


def test_many_faults_are_cut_short(table: Path) -> None:
    table.write_text("a,b\n" + "1\n" * 5000)
    with pytest.raises(InputError) as raised:
        plan_values([], table, jobs=1)
    assert raised.value.problems[-1] == "… and 4990 more"


@pytest.mark.parametrize("content", [b"a\n\xff\n", b'a\n"unfinished\n'])
def test_what_is_not_csv_is_refused(table: Path, content: bytes) -> None:
    table.write_bytes(content)
    with pytest.raises(InputError, match="is not a CSV file"):
        plan_values([], table, jobs=1)


def test_a_table_without_jobs_or_without_a_file_is_refused(table: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        plan_values([], table, jobs=1)
    table.write_text("a,b\n")
    with pytest.raises(InputError, match="has no rows"):
        plan_values([], table, jobs=1)


def test_faulty_settings_are_all_named() -> None:
    with pytest.raises(InputError) as raised:
        plan_values(["a", "=1", "b=1", "b=2"], None, jobs=1)
    assert list(raised.value.problems) == [
        "'a' is not NAME=VALUE",
        "'=1' is not NAME=VALUE",
        "b is given twice",
    ]


def test_a_value_comes_from_one_place(table: Path) -> None:
    table.write_text("a\n1\n")
    with pytest.raises(InputError, match=r"given by --set and by .*: a"):
        plan_values(["a=1"], table, jobs=1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("thick;mat\n1;steel\n", "is separated by semicolons"),
        ("thick\tmat\n1\tsteel\n", "is separated by tabs"),
        ("thick|mat\n1|steel\n", "is separated by bars"),
        ("thick:mat\n1:steel\n", "is separated by colons"),
        ("thick mat\n1   steel\n2 copper\n", "is separated by spaces"),
        ("thick\uff1bmat\n1\uff1bsteel\n", "is separated by full-width semicolons"),
        ("thick\u3001mat\n1\u3001steel\n", "is separated by ideographic commas"),
        ('{"thick": 1}\n{"thick": 2}\n', 'is not one of names: {"thick": 1}'),
        ("thick;mat,other\n1;2,3\n", "is separated by semicolons"),
        ("sep=;\nthick;mat\n1;steel\n", "is not one of names: sep=;"),
        ("# jobs of May\nthick,mat\n1,steel\n", "is not one of names: # jobs of May"),
    ],
)
def test_another_separator_and_a_comment_are_refused_by_name(
    table: Path, text: str, fault: str
) -> None:
    table.write_text(text)
    with pytest.raises(InputError, match=fault):
        plan_values([], table, jobs=1)
