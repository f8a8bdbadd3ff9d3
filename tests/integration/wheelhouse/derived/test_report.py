from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.derived.report.report import render_report
from tests.support.browser import visit
from tests.support.devtools import Browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

from tests.support.report_cases import _Elements, attested, audit, everything, shelf
from tests.support.reviewed import Shelf

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


CONTRAST = """
(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backdrop = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("h1, h2, p, td, th, a, .badge")].map((element) => {
    const one = light(getComputedStyle(element).color), two = light(backdrop(element));
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    return [ratio, element.textContent.trim().slice(0, 40)];
  }).sort((a, b) => a[0] - b[0])[0];
})()
"""
"""The lowest contrast of text on the page; WCAG 2.2 demands 4.5."""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "report.html"
    shelf = Shelf()
    manifest = attested(everything(shelf))
    page.write_bytes(render_report(manifest, shelf.metadata, everything(Shelf()), audit()))
    with Browser(folder / "profile") as browser:
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(page)
        yield browser


@pytest.fixture
def browser(tab: Browser) -> Browser:
    """One page, opened once without JavaScript, in its first state."""
    tab.resize(1200, 900)
    tab.emulate()
    return tab


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_fits_its_width(width: int, browser: Browser) -> None:
    browser.resize(width, 800, mobile=width < 500)
    scroll, client = browser.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert scroll == client
    assert width - 20 < client <= width  # a scroll bar beside the page


def test_on_a_phone_each_cell_has_its_title(browser: Browser) -> None:
    browser.resize(360, 800, mobile=True)
    cell = "document.querySelector('#vulnerabilities td[data-title=\"fixed in\"]')"
    assert browser.evaluate(f"getComputedStyle({cell}, '::before').content") == '"fixed in: "'
    assert browser.evaluate(f"getComputedStyle({cell}).display") == "block"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str, browser: Browser) -> None:
    browser.emulate(scheme=scheme)
    page = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert page == {"light": "rgb(246, 247, 249)", "dark": "rgb(20, 23, 29)"}[scheme]
    ratio, text = browser.evaluate(CONTRAST)
    assert ratio >= 4.5, text


def test_the_keyboard_reaches_each_section(browser: Browser) -> None:
    reached = []
    for _ in range(5):
        browser.press("Tab", 9)
        reached.append(browser.evaluate("document.activeElement.getAttribute('href')"))
    assert reached == ["#verdict", "#vulnerabilities", "#rules", "#provenance", "#changes"]
    outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    browser.press("Enter", 13)
    assert browser.evaluate("location.hash") == "#changes"
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.tagName") == "SUMMARY"
    browser.press("Enter", 13)
    assert browser.evaluate("document.activeElement.parentElement.open") is True


def test_print_is_dark_on_white_and_shows_what_is_collapsed(browser: Browser) -> None:
    browser.emulate(media="print", scheme="dark")
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(28, 35, 48)"
    browser.resize(720, 1000)  # A4 between its margins
    assert browser.evaluate("document.documentElement.scrollWidth") <= 720
    hidden = "[...document.querySelectorAll('details div')].filter((e) => !e.checkVisibility({contentVisibilityAuto: true})).length"
    assert browser.evaluate(hidden) == 0
    assert browser.evaluate("document.querySelectorAll('details div').length") > 5
    browser.emulate()
    assert browser.evaluate(hidden) > 5
