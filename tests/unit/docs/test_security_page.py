"""Each promise of the security page names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`T/([\w/]+\.py)(?:::(\w+))?`", PAGE)
ROWS = [line for line in PAGE.partition("## Attackers")[2].split("\n") if line.startswith("| ")]


def test_every_attacker_has_tests() -> None:
    section = PAGE.partition("## Attackers")[2].partition("\n## ")[0]
    for part in section.split("\n### ")[1:]:
        assert part.count("`T/") >= 3, part.splitlines()[0]


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda value: value)
def test_the_named_test_exists(path: str, name: str) -> None:
    source = (ROOT / "tests" / path).read_text(encoding="utf-8")
    assert re.search(rf"^\s*(?:async )?def {name}\(", source, re.MULTILINE)


@pytest.mark.parametrize("row", [row for row in ROWS if "| attempt |" not in row])
def test_each_row_names_a_test_or_that_the_attempt_succeeds(row: str) -> None:
    assert re.search(r"`T/[\w/]+\.py::\w+`", row) or "**succeeds**" in row
