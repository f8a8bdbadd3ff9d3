"""Errors as GitHub annotations or SARIF 2.1.0, each at a line of a script.

    ::error file=eval.py,line=3,title=bad-script::`numpyy>` is not a requirement; …

GitHub: https://docs.github.com/actions/reference/workflow-commands-for-github-actions.
Code scanning needs a location for each result of SARIF.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from offline_bundle.builder.inputs.scripts import read_script
from offline_bundle.wheelhouse.derived.sarif import sarif_log
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.python.pep723 import OPENING
from offline_bundle.wheelhouse.runtime.text import printable_lines

# By exit code.
_RULES = {
    1: ("failed", "The bundle could not be built on this machine"),
    2: ("bad-script", "The script or the command line cannot be used"),
    3: ("unresolvable", "The script's requirements have no solution for a target"),
    4: ("not-fetched", "A file could not be fetched or built"),
    5: ("integrity", "A file does not match its digest"),
    6: ("signature", "A signature is missing or wrong"),
    7: ("not-in-bundle", "The bundle does not have what the script or node needs"),
    9: ("out-of-date", "The bundle is out of date"),
}


@dataclass(frozen=True)
class LocatedProblem:
    """A problem and its location."""

    rule: str
    message: str
    path: Path
    line: int
    """From 1."""


def locate_problems(error: BundleError, scripts: Sequence[Path]) -> list[LocatedProblem]:
    """Return the problems of *error*, each at the script and line in its text.

    Reads the scripts for the line of the requirement that a problem names.
    """
    rule, _ = _RULES.get(error.exit_code, _RULES[1])
    hint = f"\n{error.hint}" if error.hint else ""
    return [
        LocatedProblem(rule, text + hint, path, line or _line_of(path, text))
        for path, line, text in _texts_by_script(error, scripts)
    ]


def github_annotations(problems: Iterable[LocatedProblem]) -> str:
    """Return workflow commands, one per line."""
    return "".join(
        f"::error file={_property(_relative(problem.path))},line={problem.line},"
        f"title={problem.rule}::{_data(problem.message)}\n"
        for problem in problems
    )


def sarif(problems: Sequence[LocatedProblem], exit_code: int) -> dict[str, Any]:
    """Return a SARIF log of one run; without results where there are no problems."""
    used = sorted({problem.rule for problem in problems})
    texts = dict(_RULES.values())
    results = [
        {
            "ruleId": problem.rule,
            "ruleIndex": used.index(problem.rule),
            "level": "error",
            "message": {"text": problem.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": _artifact(problem.path),
                        "region": {"startLine": problem.line},
                    }
                }
            ],
        }
        for problem in problems
    ]
    invocation = {"executionSuccessful": exit_code == 0, "exitCode": exit_code}
    return sarif_log({rule: texts[rule] for rule in used}, results, invocation)


def _texts_by_script(
    error: BundleError, scripts: Sequence[Path]
) -> list[tuple[Path, int | None, str]]:
    """Return script, line (where the text has one) and text of each problem that names a script.

    Other problems belong to the one before them; without any, the whole error is one problem.
    """
    located: list[tuple[Path, int | None, list[str]]] = []
    for problem in error.problems:
        location = _location(problem, scripts)
        if location:
            path, line, text = location
            located.append((path, line, [text]))
        elif located:
            located[-1][2].append(problem)
    if located:
        return [(path, line, "\n".join(lines)) for path, line, lines in located]
    named = [path for path in scripts if str(path) in error.message]
    return [(path, None, str(error)) for path in (named or scripts)[:1]]


def _location(problem: str, scripts: Sequence[Path]) -> tuple[Path, int | None, str] | None:
    for path in scripts:
        match = re.match(rf"{re.escape(str(path))}(?::(\d+))?:? (.*)", problem, re.DOTALL)
        if match:
            return path, int(match[1]) if match[1] else None, match[2]
        if re.match(rf"{re.escape(path.stem)}(?::| for | is )", problem):
            return path, None, problem
    return None


def _line_of(path: Path, text: str) -> int:
    """Return the line of the first requirement in *text*, else that of the metadata block."""
    try:
        script = read_script(path)
    except InputError:
        return 1
    lines = script.source.decode().splitlines()
    for requirement in script.dependencies:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        words = canonicalize_name(name[0]).replace("-", "[-_.]") if name else "(?!)"
        if re.search(rf"(?<![\w.-]){words}(?![\w-])", text, re.IGNORECASE):
            return next((number for number, line in enumerate(lines, 1) if requirement in line), 1)
    return next((number for number, line in enumerate(lines, 1) if line.strip() == OPENING), 1)


def _relative(path: Path) -> str:
    """Return the path as CI has it: relative to the working folder, with `/`."""
    relative = os.path.relpath(path)
    return path.resolve().as_posix() if relative.startswith("..") else Path(relative).as_posix()


def _artifact(path: Path) -> dict[str, str]:
    relative = _relative(path)
    if Path(relative).is_absolute():
        return {"uri": Path(relative).as_uri()}
    return {"uri": quote(relative), "uriBaseId": "%SRCROOT%"}


def _data(text: str) -> str:
    return printable_lines(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
