"""The documentation site: built, opened in a browser from a folder, without a network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click

from offline_bundle.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType
from tests.support.site_cases import ROOT, gather, pages, site

__all__ = ["gather", "pages", "site"]


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield each command with its name and context."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command
        yield name, command, click.Context(command, context, info_name=name)


def test_links_within_the_site_all_resolve(site: Path) -> None:
    dead = []
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its links are absolute: servers show it for any address
            continue
        for link in re.findall(r"\bhref=\"([^\"]*)\"", page.read_text(encoding="utf-8")):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            if not (page.parent / unquote(parts.path)).resolve().exists():
                dead.append((page.name, link))
    assert dead == []


def test_links_in_the_checkout_all_resolve() -> None:
    """Pages are read on a hosting site too. `commands.md` is a stub there, but it exists."""
    dead = []
    for page in (*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not urlsplit(link).scheme]
        dead += [(page.name, link) for link in links if not (page.parent / unquote(link)).exists()]
    assert dead == []


def test_paths_in_the_pages_all_exist() -> None:
    """`builder/wheels/closure` may stand for a module."""
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.name != "benchmarks.md"]
    named = {
        (page.name, path)
        for page in pages
        for path in re.findall(
            r"`((?:builder|runner|wheelhouse|offline_bundle|tests|benchmarks|docs|ci|templates)"
            r"/[\w./]*)`",
            page.read_text(encoding="utf-8"),
        )
    }
    assert len(named) > 20
    missing = {
        (page, path)
        for page, path in named
        if not (ROOT / path).exists() and not (ROOT / f"{path}.py").exists()
    }
    assert missing == set()


def test_environment_variables_are_all_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("builder", "runner", "wheelhouse")
        for path in (ROOT / folder).rglob("*.py")
    ]
    used = set(re.findall(r"\bOFFLINE_BUNDLE[A-Z_]*\b", "".join(sources)))
    used -= {"OFFLINE_BUNDLE_GIT_USER_", "OFFLINE_BUNDLE_GIT_PASSWORD_"}  # the builder sets them
    assert "OFFLINE_BUNDLE_CACHE" in used
    assert {name for name in used if f"`{name}`" not in page} == set()


def test_link_texts_are_titles_not_file_names() -> None:
    texts = [
        (page.name, text)
        for page in (ROOT / "docs").rglob("*.md")
        for text in re.findall(r"\[([^]`]*)\]\([^)]*\.md[^)]*\)", page.read_text(encoding="utf-8"))
    ]
    assert texts
    names = [(page, text) for page, text in texts if re.search(r"\.md$|/", text)]
    assert names == [("changelog.md", "CHANGELOG.md")]


def test_command_reference_lists_every_command_and_option(pages: Path) -> None:
    text = (pages / "reference" / "commands.md").read_text(encoding="utf-8")
    for name, command, _ in commands():
        assert f"\n## {name}\n" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[-1] in text


def test_command_reference_does_not_cut_help(pages: Path) -> None:
    text = (pages / "reference" / "commands.md").read_text(encoding="utf-8")
    for _, command, _ in commands():
        assert command.get_short_help_str(10_000).replace("<", "&lt;") in text
    assert "..." not in "".join(re.findall(r"^\| \[.*$", text, re.MULTILINE))


def test_options_all_have_a_description() -> None:
    """A default or a variable alone does not describe an option."""
    bare = [
        f"{name} {option.opts[0]}"
        for name, command, context in commands()
        for option in command.get_params(context)
        if isinstance(option, click.Option)
        and not option.hidden
        and not re.sub(r"\[.*?\]", "", option.help or "").strip()
    ]
    assert bare == []


def test_command_reference_preformatted_help_is_code(gather: ModuleType) -> None:
    text = "\n    Print it.\n\n    \b\n    bash:  complete >> ~/.bashrc\n    zsh:   complete\n"
    assert gather._paragraphs(text) == [
        "Print it.",
        "",
        "```text",
        "bash:  complete >> ~/.bashrc\nzsh:   complete",
        "```",
        "",
    ]


def test_navigation_lists_every_page(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {"404.html"}
    linked = set(re.findall(r"href=\"([^\"#]+\.html)", index))
    assert pages - linked == set()
