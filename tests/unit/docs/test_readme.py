"""README: its example runs, its links lead somewhere, and its options exist."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from offline_bundle.cli import cli
from tests.support.readme_cases import ROOT, TEXT

LINK = re.compile(r"\[([^]]+)\]\(([^)\s]+)\)")


COMMAND = re.compile(r"^ {4}((?:build-)?offline-bundle (?:.*\\\n)*.*)$", re.MULTILINE)


def commands() -> list[list[str]]:
    """Return the words of each command line, as arguments of `offline-bundle`."""
    lines = [line.replace("\\\n", " ").replace("…", "") for line in COMMAND.findall(TEXT)]
    words = [shlex.split(re.sub(r"\s# .*|>>.*", "", line)) for line in lines]
    return [["build", *rest] if name.startswith("build-") else rest for name, *rest in words]


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


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_their_options_exist(words: list[str]) -> None:
    name, *arguments = words
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in arguments if re.match(r"--?[A-Za-z]", word)} <= options
