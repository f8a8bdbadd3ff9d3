"""Claims about speed, compared with docs/benchmarks.md, which benchmarks/ writes."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "benchmarks.md"
NOT_TIMES = {"tools"}
"""Sections without measurements."""


def sections() -> dict[str, str]:
    """Map the anchor of each heading to the text of its section."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    slugs = [
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in parts[::2]
    ]
    return dict(zip(slugs, parts[1::2], strict=True))


def test_readme_claims_all_have_a_row() -> None:
    """The section that a bullet links to has a row for its `at most N`, and the claim holds."""
    told = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("## How fast\n")[2]
        .partition("\n## ")[0]
    )
    bullets = [" ".join(bullet.split()) for bullet in told.split("\n- ")[1:]]
    assert bullets
    for bullet in bullets:
        [anchor] = re.findall(r"\(docs/benchmarks\.md#([^)]*)\)", bullet)
        limits = re.findall(r"at most [0-9.]+(?: ms)?", bullet)
        assert limits, f"a claim without a figure: {bullet}"
        lines = sections()[anchor].splitlines()
        for limit in limits:
            held = [
                line for line in lines if limit in line and re.search(r"\| yes \||: holds\.", line)
            ]
            assert held, f"no row of #{anchor} says that {limit!r} holds"


def test_readme_outside_its_section_makes_no_claims_about_speed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition("## How fast\n")
    others = before + rest.partition("\n## ")[2]
    assert (
        re.findall(
            r"[0-9.]+ ?(?:ms|seconds|minutes)\b|\b(?:faster|slower|quicker|times as)\b", others
        )
        == []
    )


@pytest.mark.parametrize("slug", sections())
def test_sections_all_have_a_command_and_a_picture(slug: str) -> None:
    text = sections()[slug]
    if slug in NOT_TIMES:
        return
    [harness, *_] = re.findall(r"`python (benchmarks/\w+\.py)[^`]*--write`", text)
    assert "--write" in (ROOT / harness).read_text(encoding="utf-8")
    if "|---" in text:
        [picture] = re.findall(r"!\[[^]]*\]\(([^)]*\.svg)\)", text)
        tree = ET.fromstring((PAGE.parent / picture).read_text(encoding="utf-8"))
        assert tree.tag.endswith("}svg")
        assert not [
            name for element in tree.iter() for name in element.attrib if name.endswith("href")
        ]


def test_plan_for_many_nodes_uses_the_measured_figures() -> None:
    plan = (ROOT / "docs" / "explanation" / "scale.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\|[^|]*(first start|every further start|start in an env)[^|]*\|([^|]*\|[^|]*)\|",
        plan,
        re.MULTILINE,
    )
    assert len(rows) == 3
    for title, figures in rows:
        assert f"|{figures}|" in PAGE.read_text(encoding="utf-8"), title
