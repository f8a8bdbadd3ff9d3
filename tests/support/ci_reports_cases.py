"""Shared by the unit and integration tests: Errors as GitHub annotations and as SARIF, at the lines
of the scripts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import HERE, Told, call

if TYPE_CHECKING:
    from pathlib import Path


def script(path: Path, *dependencies: str) -> Path:
    lines = ["#!/usr/bin/env python3", "# /// script", "# dependencies = ["]
    lines += [f"#   {json.dumps(text)}," for text in dependencies]
    path.write_text("\n".join([*lines, "# ]", f'# requires-python = "=={HERE}"', "# ///", ""]))
    return path


def build(folder: Path, *arguments: str) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return call("build", *arguments)


def results(path: Path) -> list[tuple[str, str, int]]:
    [run] = json.loads(path.read_text())["runs"]
    found = []
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        found.append(
            (result["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"])
        )
    return found
