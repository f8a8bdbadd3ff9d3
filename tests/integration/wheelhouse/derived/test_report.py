from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.derived.report.report import render_report
from tests.support.browser import visit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.reviewed import Shelf

from tests.support.report_cases import _Elements, everything, shelf

__all__ = ["shelf"]


class TestInABrowser:
    def test_browser_shows_it_without_any_request(self, shelf: Shelf, tmp_path: Path) -> None:
        page = tmp_path / "report.html"
        page.write_bytes(render_report(everything(shelf), shelf.metadata))
        seen = visit(page, tmp_path / "profile")
        assert seen.console == ()
        assert seen.requests == ()
        parsed = _Elements(seen.dom)
        assert not {name for name, _ in parsed.elements} & {"script", "img"}
        assert "<title>Offline bundle: eval, study</title>" in seen.dom
        for shown in (
            "numpy",
            "Where it comes from",
            "it eats your data",
            "libc 2.17 or newer",
            "built from source",
        ):
            assert shown in seen.dom

    def test_browser_check_detects_requests_and_scripts(self, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        page.write_text("<img src=http://evil.example/x><script>console.log('owned')</script>")
        seen = visit(page, tmp_path / "profile")
        assert any("evil.example/x" in request for request in seen.requests)
        assert any("owned" in line for line in seen.console)
