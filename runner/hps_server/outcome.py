"""What came of a task: which outputs are there, and whether its success criteria are met. No database, no process."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offline_bundle.runner.hps_server.database import Body

_ALLOWED = (
    *(
        ast.Expression,
        ast.BoolOp,
        ast.BinOp,
        ast.UnaryOp,
        ast.Compare,
        ast.Constant,
        ast.Subscript,
        ast.Name,
        ast.Load,
    ),
    *(ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)


def inside(directory: Path, name: str) -> Path:
    """Return the path of *name* in *directory*. Raises OSError for one that leaves it."""
    path = directory / name.replace("\\", "/")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise OSError(f"{name!r} is not inside the task's directory")
    return path


def collect(directory: Path, wanted: Sequence[Body]) -> list[tuple[Body, Path]]:
    """Return the outputs that are there: regular files inside the directory, one pattern may fit several."""
    found = []
    for file in wanted:
        pattern = (file["evaluation_path"] or file["name"]).replace("\\", "/")
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            continue
        if pattern.startswith("**") and not pattern.startswith("**/"):
            pattern = f"**/*{pattern[2:]}"
        matches = (
            sorted(directory.glob(pattern))
            if any(sign in pattern for sign in "*?[")
            else [directory / pattern]
        )
        found += [(file, path) for path in matches if _is_own(directory, path)]
    return found


def _is_own(directory: Path, path: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(directory.resolve())


def judge(
    result: Body, criteria: Body, wanted: Sequence[Body], found: Sequence[tuple[Body, Path]]
) -> list[str]:
    """Return what went wrong with the run or its files; nothing where all is well."""
    problems = []
    if result.get("error"):
        problems.append(f"{result['error']}")
    expected, code = criteria.get("return_code"), result.get("return_code")
    if expected is not None and code is not None and code != expected and not problems:
        problems.append(f"the return code is {code}, not {expected}")
    there = {file["id"] for file, _ in found}
    required = set(criteria.get("required_output_file_ids") or ())
    for file in wanted:
        is_required = criteria.get("require_all_output_files") or file["id"] in required
        if is_required and file["id"] not in there:
            problems.append(
                f"the output file {file['name']} ({file['evaluation_path']}) is missing"
            )
    return problems


def judge_values(criteria: Body, outputs: Sequence[Body], values: dict[str, Any]) -> list[str]:
    """Return which output parameters are missing and which expressions do not hold."""
    required = set(criteria.get("required_output_parameter_ids") or ())
    problems = [
        f"the output parameter {parameter['name']} is missing"
        for parameter in outputs
        if (criteria.get("require_all_output_parameters") or parameter["id"] in required)
        and values.get(parameter["name"]) is None
    ]
    for expression in criteria.get("expressions") or ():
        try:
            holds = holds_for(expression, values)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with an expression, it does not hold
            problems.append(f"the success criterion {expression!r} cannot be judged: {error}")
        else:
            problems += [] if holds else [f"the success criterion {expression!r} does not hold"]
    return problems


def holds_for(expression: str, values: dict[str, Any]) -> bool:
    """Judge such as `values['weight'] < 5`: comparisons, arithmetic, and nothing else. Raises ValueError."""
    tree = ast.parse(expression.strip(), mode="eval")
    for node in ast.walk(tree):
        if (
            not isinstance(node, _ALLOWED)
            or isinstance(node, ast.Pow)
            or getattr(node, "id", "values") != "values"
        ):
            raise ValueError("only comparisons and arithmetic over values['…'] are understood")
    return bool(eval(compile(tree, "criterion", "eval"), {"__builtins__": {}}, {"values": values}))  # noqa: S307
