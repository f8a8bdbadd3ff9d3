"""README: its example runs, its links lead somewhere, and its options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from offline_bundle.cli import cli
from tests.support.pages import shell_blocks, type_in

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
LINK = re.compile(r"\[([^]]+)\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^ {4}((?:build-)?offline-bundle (?:.*\\\n)*.*)$", re.MULTILINE)


def commands() -> list[list[str]]:
    """Return the words of each command line, as arguments of `offline-bundle`."""
    lines = [line.replace("\\\n", " ").replace("…", "") for line in COMMAND.findall(TEXT)]
    words = [shlex.split(re.sub(r"\s# .*|>>.*", "", line)) for line in lines]
    return [["build", *rest] if name.startswith("build-") else rest for name, *rest in words]


@pytest.mark.registry
def test_first_example_runs(tmp_path: Path) -> None:
    [header] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert header.startswith("# eval.py\n# /// script\n")
    (tmp_path / "eval.py").write_text(
        header + "import numpy\nprint('sum', numpy.arange(4).sum())\n"
    )
    [example] = shell_blocks(README)
    done = type_in([example.replace("/shared/bundle", "shared/bundle")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("sum 6\n")


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
