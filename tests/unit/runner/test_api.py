"""The Python interface: lazy import, rows of values, and its display in notebooks."""

from __future__ import annotations

import contextlib
import sys
from types import ModuleType
from typing import Any

import pytest

import offline_bundle.runner
from offline_bundle.runner.api import Jobs, submit
from offline_bundle.runner.model import Counts, ProjectState
from offline_bundle.runner.values import values_of_rows
from offline_bundle.wheelhouse.runtime.errors import InputError


class NumpyNumber:
    """What a cell of a data frame is."""

    def item(self) -> float:
        return 0.5


def test_rows_get_one_type_for_each_name() -> None:
    rows = [
        {"n": 1, "x": 1, "s": "a", "b": True},
        {"n": 2, "x": NumpyNumber(), "s": "", "b": False},
    ]
    values = values_of_rows(rows)
    assert values.types == {"n": "int", "x": "float", "s": "string", "b": "bool"}
    assert values.rows[1]["x"] == 0.5


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"x": 1}, {"x": True}], "x is not of one type"),
        ([{"x": float("nan")}], "x is not of one type"),
        ([{"x": [1]}], "x is not of one type"),
        ([{"x": 1}, {}], "row 2 has the values none, the first one x"),
    ],
)
def test_rows_that_are_not_a_table_are_refused(rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        values_of_rows(rows)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"outputs": "plot.png"}, r"outputs is a list, not one text: plot\.png"),
        ({"inputs": "mesh.txt"}, "inputs is a list"),
        ({"arguments": "--x 1"}, "arguments is a list"),
        ({"run_with": "mpirun -n 2"}, "run_with is a list"),
        ({"engine": "slurm", "slurm_options": "qos=long"}, "slurm_options is a list"),
        ({"jobs": 0}, "invalid number of jobs: 0"),
        ({"environment": ["A=1"]}, "environment is a mapping, not"),
        ({"values": {"n": [1, 2]}}, "values is not a list of rows"),
        ({"values": [{1: 2}]}, "values is not a list of rows"),
        ({"cores": "two"}, "invalid value for cores: 'two' is not a valid float"),
        ({"cores": float("nan")}, "invalid value for cores: nan is not finite"),
        ({"memory": 0}, "invalid value for memory: 0 is too small"),
        ({"engine": "slurm", "dry_run": True}, "dry_run is not supported here"),
    ],
)
def test_options_that_are_not_valid_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        submit("eval.py", bundle="bundle", **given)


class EndsAtTheSecondPoll:
    """An engine whose jobs have ended when they are polled again."""

    polls = 0

    def poll(self, _: ProjectState) -> Counts:
        self.polls += 1
        return Counts({"done": 2} if self.polls > 1 else {"running": 2})

    def scheduler_jobs(self, _: ProjectState) -> tuple[str, ...]:
        return ()


def test_a_notebook_shows_one_display_and_updates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, jobs: Jobs) -> None:
            shown.append(jobs._repr_html_())

    display = ModuleType("IPython.display")
    display.display = lambda *_, **__: Handle()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    project = ProjectState("1", "<beam>", counts=Counts({"pending": 2}))
    stack = contextlib.ExitStack()
    jobs = Jobs(EndsAtTheSecondPoll(), project, None, stack, print)  # type: ignore[arg-type]
    jobs.wait()
    assert [text.partition("</progress> ")[2] for text in shown] == [
        "&lt;beam&gt;: 2 running</div>",
        "&lt;beam&gt;: 2 done</div>",
    ]


def test_unknown_names_are_attribute_errors() -> None:
    assert offline_bundle.runner.Jobs is Jobs
    with pytest.raises(AttributeError, match="no attribute 'sumbit'"):
        _ = offline_bundle.runner.sumbit
