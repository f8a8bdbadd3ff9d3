"""The documentation site: built, opened in a browser from a folder, without a network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click
import pytest

from offline_bundle.cli import cli
from tests.support.browser import visit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[2]
LOADS = re.compile(
    r"<(?:script|img|source|iframe|link|video|audio|embed|object)\b[^>]*>", re.IGNORECASE
)
ADDRESS = re.compile(r"\b(?:src|href|data)=\"?((?:https?:)?//[^\"\s>]+)", re.IGNORECASE)


@pytest.fixture(scope="module")
def gather() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gather", ROOT / "docs" / "gather.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(gather: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pages") / "docs"
    gather.gather(folder)
    return folder


@pytest.fixture(scope="module")
def site(pages: Path) -> Path:
    """Build the site as `make docs` does, in folders of this test."""
    settings = pages.parent / "mkdocs.yml"
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings.write_text(text.replace("docs_dir: build/docs", "docs_dir: docs"), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pages.parent / "site"


def search_results(dom: str) -> str:
    """Return the list of search results, as HTML."""
    results = dom[dom.index("md-search-result__list") :]
    return results[: results.index("</ol>")]


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield each command with its name and context."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command
        yield name, command, click.Context(command, context, info_name=name)


def test_site_loads_nothing_from_the_network(site: Path) -> None:
    html = sorted(site.rglob("*.html"))
    assert len(html) > 10
    tags = [
        (page.name, tag) for page in html for tag in LOADS.findall(page.read_text(encoding="utf-8"))
    ]
    remote = [(name, tag) for name, tag in tags if ADDRESS.search(tag)]
    assert remote == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", styles) == []


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
    used -= {"OFFLINE_BUNDLE_GIT_USER", "OFFLINE_BUNDLE_GIT_PASSWORD"}  # the builder sets them
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


def test_browser_shows_and_searches_the_site_from_a_folder(site: Path, tmp_path: Path) -> None:
    visited = visit(
        site / "index.html", tmp_path / "a", "--virtual-time-budget=10000", query="?q=cantilever"
    )
    assert "first-bundle.html" in search_results(visited.dom)
    assert (visited.console, visited.requests) == ((), ())


def test_browser_shows_and_searches_pages_in_folders(site: Path, tmp_path: Path) -> None:
    page = site / "examples" / "parameter_study.html"
    visited = visit(page, tmp_path / "b", "--virtual-time-budget=10000", query="?q=revoked")
    assert "linalg" in visited.dom
    assert "review.html" in search_results(visited.dom)
    assert (visited.console, visited.requests) == ((), ())


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


def test_example_zip_has_the_same_bytes_each_time(
    gather: ModuleType, pages: Path, tmp_path: Path
) -> None:
    for folder in gather.example_folders():
        published = pages / "examples" / f"{folder.name}.zip"
        gather.write_zip(folder, tmp_path / published.name)
        assert (tmp_path / published.name).read_bytes() == published.read_bytes()
        with zipfile.ZipFile(published) as archive:
            for entry in archive.infolist():
                assert archive.read(entry) == (ROOT / "examples" / entry.filename).read_bytes()


def test_example_files_after_a_run_are_only_the_tracked_ones(
    gather: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gather, "ROOT", tmp_path)
    example = tmp_path / "examples" / "plot"
    (example / "bundle" / "scripts").mkdir(parents=True)
    (example / "README.md").write_text("# Plot\n")
    (example / "bundle" / "scripts" / "plot.py").write_text("import numpy\n")
    assert len(gather.example_files(example)) == 2, "no checkout: all files"
    for command in ("init -q", "add examples/plot/README.md"):
        subprocess.run(["git", "-C", str(tmp_path), *command.split()], check=True)
    assert gather.example_files(example) == [example / "README.md"]


def test_navigation_lists_every_page(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {"404.html"}
    linked = set(re.findall(r"href=\"([^\"#]+\.html)", index))
    assert pages - linked == set()
