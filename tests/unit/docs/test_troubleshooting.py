"""The troubleshooting page quotes messages of the program as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGE = re.compile(r"``(.*?)``|`([^`]*)`")


def quoted_messages() -> list[str]:
    """Return the messages in the first column of the page's tables."""
    rows = re.findall(r"^\| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(twice or once).strip() for row in rows for twice, once in MESSAGE.findall(row)]


@pytest.fixture(scope="module")
def program_text() -> str:
    """Return the program's source with adjacent string literals joined, and its error snapshots."""
    paths = [ROOT / "tests" / "snapshots" / "errors.txt"]
    for folder in ("builder", "runner", "wheelhouse"):
        paths += sorted((ROOT / folder).rglob("*.py"))
    texts = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in paths)
    return re.sub(r"\" f?\"", "", texts)


def test_quoted_messages_all_exist_in_the_program(program_text: str) -> None:
    messages = quoted_messages()
    assert len(messages) > 20
    fragments = {part.strip(" :") for message in messages for part in message.split("…")}
    assert {part for part in fragments if part not in program_text} == set()
