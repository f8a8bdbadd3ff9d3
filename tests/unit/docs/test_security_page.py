"""Each promise of the security page names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`T/([\w/]+\.py)(?:::(\w+))?`", PAGE)


def test_every_attacker_has_tests() -> None:
    section = PAGE.partition("## Attackers")[2].partition("\n## ")[0]
    for part in section.split("\n### ")[1:]:
        assert part.count("`T/") >= 3, part.splitlines()[0]


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda value: value)
def test_the_named_test_exists(path: str, name: str) -> None:
    source = (ROOT / "tests" / path).read_text(encoding="utf-8")
    assert f"def {name}(" in source if name else "def test_" in source
