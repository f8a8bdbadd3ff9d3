"""The outcome of a task: existing outputs and success criteria. No database, no process."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offline_bundle.runner.hps_server.store.database import Body

_ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant),
    *(ast.Subscript, ast.Name, ast.Load, ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)


def inside(directory: Path, name: str) -> Path:
    """Return the path of *name* in *directory*. Raises OSError if it is outside."""
    path = directory / name.replace("\\", "/")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise OSError(f"{name!r} is not inside the task's directory")
    return path


def collect(directory: Path, wanted: Sequence[Body]) -> list[tuple[Body, Path]]:
    """Return existing outputs: regular files in *directory*; a pattern may match several."""
    found = []
    for file in wanted:
        pattern = (file["evaluation_path"] or file["name"]).replace("\\", "/")
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            continue
        if pattern.startswith("**") and not pattern.startswith("**/"):
            pattern = f"**/*{pattern[2:]}"
        has_wildcards = any(sign in pattern for sign in "*?[")
        matches = sorted(directory.glob(pattern)) if has_wildcards else [directory / pattern]
        found += [(file, path) for path in matches if _is_own(directory, path)]
    return found


def _is_own(directory: Path, path: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(directory.resolve())


def find_problems(
    result: Body, criteria: Body, wanted: Sequence[Body], found: Sequence[tuple[Body, Path]]
) -> list[str]:
    """Return the problems of the run and its files, or an empty list."""
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


def find_value_problems(
    criteria: Body, outputs: Sequence[Body], values: dict[str, Any]
) -> list[str]:
    """Return missing output parameters and success criteria that are not met."""
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
        except Exception as error:  # noqa: BLE001 - an expression that fails is not met
            problems.append(f"the success criterion {expression!r} cannot be evaluated: {error}")
        else:
            problems += [] if holds else [f"the success criterion {expression!r} is not met"]
    return problems


def holds_for(expression: str, values: dict[str, Any]) -> bool:
    """Evaluate an expression such as `values['weight'] < 5`.

    Comparisons and arithmetic only. Raises ValueError.
    """
    tree = ast.parse(expression.strip(), mode="eval")
    for node in ast.walk(tree):
        if (
            not isinstance(node, _ALLOWED)
            or isinstance(node, ast.Pow)
            or getattr(node, "id", "values") != "values"
        ):
            raise ValueError("only comparisons and arithmetic over values['…'] are allowed")
    return bool(eval(compile(tree, "criterion", "eval"), {"__builtins__": {}}, {"values": values}))  # noqa: S307
