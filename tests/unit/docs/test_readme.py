"""README: its links lead somewhere; the commands of all pages and their options exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import pytest

from offline_bundle.cli import cli
from tests.support.pages import own_commands
from tests.support.readme_cases import ROOT, TEXT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [
    path
    for folder in ("docs", "examples")
    for path in (ROOT / folder).rglob("*.md")
    if "adr" not in path.parts
] + [ROOT / "README.md"]
LINK = re.compile(r"\[([^]]+)\]\(([^)\s]+)\)")


def test_links_lead_to_files_and_have_titles() -> None:
    links = [(title, target) for title, target in LINK.findall(TEXT) if "://" not in target]
    assert len(links) > 20
    for title, target in links:
        assert (ROOT / target.partition("#")[0]).exists(), target
        assert not title.endswith((".md", ".py")), title


def test_first_screen_has_purpose_audience_example_and_comparison() -> None:
    screen = "\n".join(TEXT.splitlines()[:40])
    for text in ("It is for", "build-offline-bundle", "run.py eval.py", "Why not `pip download`?"):
        assert text in screen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_all_pages_and_their_options_exist(page: Path) -> None:
    for name, *arguments in own_commands(page):
        if name.isupper() or name.startswith("-"):
            continue  # COMMAND stands for any
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        options = {
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts, "--help")
        }
        assert {word for word in arguments if re.match(r"--?[A-Za-z]", word)} <= options


def test_pages_have_commands() -> None:
    assert len([words for page in PAGES for words in own_commands(page)]) > 150
