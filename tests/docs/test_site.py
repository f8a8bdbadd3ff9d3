"""The documentation as its readers have it: a folder, a browser, no network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.browser import visit

if TYPE_CHECKING:
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
    """The site as `make docs` makes it, but from and to folders of this test."""
    settings = pages.parent / "mkdocs.yml"
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings.write_text(text.replace("docs_dir: build/docs", "docs_dir: docs"), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pages.parent / "site"


def search_results(dom: str) -> str:
    """The list of what was found, as HTML."""
    found = dom[dom.index("md-search-result__list") :]
    return found[: found.index("</ol>")]


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    html = sorted(site.rglob("*.html"))
    assert len(html) > 10
    tags = [
        (page.name, tag) for page in html for tag in LOADS.findall(page.read_text(encoding="utf-8"))
    ]
    foreign = [(name, tag) for name, tag in tags if ADDRESS.search(tag)]
    assert foreign == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", styles) == []


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    dead = []
    for page in site.rglob("*.html"):
        if (
            page.name == "404.html"
        ):  # its links are absolute: it is shown for any address of a server
            continue
        for link in re.findall(r"\bhref=\"([^\"]*)\"", page.read_text(encoding="utf-8")):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            if not (page.parent / unquote(parts.path)).resolve().exists():
                dead.append((page.name, link))
    assert dead == []


def test_a_browser_shows_it_and_searches_it_from_a_folder(site: Path, tmp_path: Path) -> None:
    found = visit(
        site / "index.html", tmp_path / "a", "--virtual-time-budget=10000", query="?q=cantilever"
    )
    assert "first-bundle.html" in search_results(found.dom)
    assert (found.console, found.requests) == ((), ())


def test_pages_in_folders_are_shown_too(site: Path, tmp_path: Path) -> None:
    page = site / "examples" / "parameter_study.html"
    found = visit(page, tmp_path / "b", "--virtual-time-budget=10000", query="?q=policy.json")
    assert "linalg" in found.dom
    assert "review.html" in search_results(found.dom)
    assert (found.console, found.requests) == ((), ())


def test_each_command_and_option_is_in_the_reference(pages: Path) -> None:
    import click

    from offline_bundle.cli import cli

    text = (pages / "commands.md").read_text(encoding="utf-8")
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command
        assert f"\n## {name}\n" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[0] in text


def test_an_example_can_be_downloaded_and_has_the_same_bytes_each_time(
    gather: ModuleType, pages: Path, tmp_path: Path
) -> None:
    for folder in gather.example_folders():
        made = pages / "examples" / f"{folder.name}.zip"
        gather.write_zip(folder, tmp_path / made.name)
        assert (tmp_path / made.name).read_bytes() == made.read_bytes()
        with zipfile.ZipFile(made) as archive:
            for entry in archive.infolist():
                assert archive.read(entry) == (ROOT / "examples" / entry.filename).read_bytes()


def test_every_page_is_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {"404.html"}
    linked = set(re.findall(r"href=\"([^\"#]+\.html)", index))
    assert pages - linked == set()
