"""The documentation site: built, opened in a browser from a folder, without a network."""

from __future__ import annotations

import re
import subprocess
import zipfile
from typing import TYPE_CHECKING

from tests.support.browser import visit

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import pytest
from tests.support.site_cases import ROOT, gather, pages, site

__all__ = ["gather", "pages", "site"]


LOADS = re.compile(
    r"<(?:script|img|source|iframe|link|video|audio|embed|object)\b[^>]*>", re.IGNORECASE
)


ADDRESS = re.compile(r"\b(?:src|href|data)=\"?((?:https?:)?//[^\"\s>]+)", re.IGNORECASE)


def search_results(dom: str) -> str:
    """Return the list of search results, as HTML."""
    results = dom[dom.index("md-search-result__list") :]
    return results[: results.index("</ol>")]


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
    leftover = tmp_path / "examples" / "plot-jobs"
    leftover.mkdir()
    (leftover / "README.md").write_text("# Mine\n")
    assert gather.example_folders() == [example]
