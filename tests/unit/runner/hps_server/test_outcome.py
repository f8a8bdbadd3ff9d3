from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.runner.hps_server.evaluation.outcome import (
    collect,
    find_problems,
    find_value_problems,
    holds_for,
    inside,
)

if TYPE_CHECKING:
    from pathlib import Path


def found_by(directory: Path, pattern: str) -> list[str]:
    wanted = [{"id": "1", "name": "x", "evaluation_path": pattern}]
    return [path.relative_to(directory).as_posix() for _, path in collect(directory, wanted)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", ["a.txt"]),
        ("sub\\c.jpg", ["sub/c.jpg"]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("**.jpg", ["sub/c.jpg"]),
        ("sub", []),
        ("../secret", []),
        ("sub/../../secret", []),
        ("/etc/hostname", []),
        ("link", []),
        ("nothing", []),
    ],
)
def test_collect(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    (tmp_path / "secret").touch()
    task = tmp_path / "task"
    (task / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "sub/c.jpg"):
        (task / name).touch()
    (task / "link").symlink_to(tmp_path / "secret")
    assert found_by(task, pattern) == expected


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..\\x"])
def test_inputs_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="not inside"):
        inside(tmp_path, name)


def test_required_files(tmp_path: Path) -> None:
    wanted = [{"id": name, "name": name, "evaluation_path": name} for name in "ab"]
    (tmp_path / "a").touch()
    found = collect(tmp_path, wanted)
    assert find_problems({}, {}, wanted, found) == []
    missing = ["the output file b (b) is missing"]
    assert find_problems({}, {"require_all_output_files": True}, wanted, found) == missing
    assert find_problems({}, {"required_output_file_ids": ["b"]}, wanted, found) == missing
    assert find_problems({}, {"required_output_file_ids": ["a"]}, wanted, found) == []


def test_values() -> None:
    outputs: list[dict[str, Any]] = [{"id": "1", "name": "x"}, {"id": "2", "name": "y"}]
    assert find_value_problems({"require_all_output_parameters": True}, outputs, {"x": 0}) == [
        "the output parameter y is missing"
    ]
    assert find_value_problems({"required_output_parameter_ids": ["1"]}, outputs, {"x": 0}) == []
    criteria = {"expressions": ["values['x'] == 0", "values['x'] > 1", "values['z'] > 1"]}
    problems = find_value_problems(criteria, outputs, {"x": 0})
    assert [problem.split(":")[0] for problem in problems] == [
        "the success criterion \"values['x'] > 1\" is not met",
        "the success criterion \"values['z'] > 1\" cannot be evaluated",
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "values.keys()",
        "[x for x in values]",
        "open",
        "9**9**9",
        "lambda: 1",
        "",
    ],
)
def test_expressions_do_nothing_but_compare(expression: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        holds_for(expression, {})


def test_expressions() -> None:
    assert holds_for("values['a'] * 2 >= 4 and not values['b'] == 'x'", {"a": 2, "b": "y"})
