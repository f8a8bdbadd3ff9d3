from __future__ import annotations

import html
import json
import re
import shutil
import struct
import subprocess
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.runner.model import ResultsOrigin
from offline_bundle.runner.results.page.page import render_page
from tests.support.browser import visit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.browser import Visit
from tests.support.results_page_cases import job


def picture() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 8, 6, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes((200, 30, 30)) * 8 for _ in range(6)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def browse(page: Path, folder: Path) -> Visit:
    """Open a page in Chromium; all it would fetch from elsewhere is noted."""
    return visit(page, folder, "--window-size=1200,800", "--virtual-time-budget=4000")


PROBE = """
<script>addEventListener("load", () => setTimeout(() => {
  const shown = () => [...document.querySelectorAll("#jobs tbody th")].map(node => node.textContent);
  const set = (id, value, name) => { const field = document.getElementById(id);
    if (typeof value === "boolean") field.checked = value; else field.value = value;
    field.dispatchEvent(new Event(name)); };
  const sort = title => [...document.querySelectorAll("thead button")].find(button => button.textContent === title).click();
  const drawn = () => { const canvas = document.getElementById("canvas");
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(value => value); };
  const report = { all: shown(), drawn: drawn(),
    pictures: [...document.images].filter(image => image.naturalWidth === 8).length,
    titles: [...document.querySelectorAll("thead th")].map(node => node.textContent),
    cells: [...document.querySelectorAll("tbody tr:first-child > *")].map(node => node.textContent) };
  set("search", "WOOD 0.2", "input"); report.search = shown(); report.count = document.getElementById("shown").textContent;
  set("search", "", "input"); sort("thickness"); sort("thickness");
  report.sorted = shown(); report.order = document.querySelector("[aria-sort]").getAttribute("aria-sort");
  document.querySelector(".chip.bad").click(); report.failed = shown();
  set("search", "nothing like it", "input"); report.none = !document.getElementById("none").hidden;
  set("gallery", true, "change"); report.gallery = document.getElementById("jobs").className;
  set("x", "0", "change"); report.label = document.getElementById("canvas").getAttribute("aria-label");
  report.wide = document.scrollingElement.scrollWidth - innerWidth;
  document.title = JSON.stringify(report);
}, 800));</script>
"""


def probe(page: Path, text: str, script: str, folder: Path, *flags: str) -> dict[str, Any]:
    """Run a script in the page; return what it writes to the title."""
    # The script is no part of the page: its policy has to let it in.
    page.write_text(re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text) + script)
    seen = visit(
        page, folder, *(flags or ("--window-size=1200,800",)), "--virtual-time-budget=4000"
    )
    title = re.search(r"<title>(.*?)</title>", seen.dom)
    assert title
    report: dict[str, Any] = json.loads(html.unescape(title[1]))
    return report


def study(folder: Path, number: int = 5) -> str:
    """A page of jobs, the third of which failed, with their pictures."""
    jobs = [
        job(n, "failed", tail="no mesh\nexit code 1") if n == 3 else job(n)
        for n in range(1, number + 1)
    ]
    for entry in jobs:
        (folder / entry.name).mkdir()
        (folder / entry.name / "plot.png").write_bytes(picture())
    return render_page("Study", jobs, ResultsOrigin(bundle="/shared/bundle"), "results.csv")


def test_a_browser_shows_filters_sorts_and_plots(tmp_path: Path) -> None:
    report = probe(tmp_path / "index.html", study(tmp_path), PROBE, tmp_path / "profile")
    names = [f"job-{number:04}" for number in range(1, 6)]
    assert report.pop("wide") <= 0
    assert report == {
        "all": names,
        "drawn": True,
        "pictures": 5,
        "titles": ["Job", "State", "Time", "thickness", "material", "Pictures", "Message"],
        "cells": ["job-0001", "done", "1.0 s", "0.1", "steel", "", ""],
        "search": ["job-0002"],
        "count": "1 of 5 shown",
        "sorted": names[::-1],
        "order": "descending",
        "failed": ["job-0003"],
        "none": True,
        "gallery": "gallery",
        "label": "Plot of time in seconds against job number, 0 jobs",
    }


WIDTH = """
<script>addEventListener("load", () => setTimeout(() => {
  document.title = JSON.stringify({ page: document.scrollingElement.scrollWidth, frame: innerWidth });
}, 500));</script>
"""


def test_a_phone_scrolls_down_only(tmp_path: Path) -> None:
    """Headless Chromium has no window under 500 pixels: a frame of 380 shows the page."""
    inner = tmp_path / "inner.html"
    text = study(tmp_path).replace("Study", "A study with a long name " * 5)
    inner.write_text(re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text))
    outer = (
        "<!doctype html><title></title><iframe src='inner.html' width='380' height='800'></iframe>"
        "<script>addEventListener('load', () => setTimeout(() => { const inside = frames[0].document;"
        " document.title = JSON.stringify({ wide: inside.scrollingElement.scrollWidth,"
        " text: parseFloat(getComputedStyle(inside.querySelector('tbody td')).fontSize) }); }, 500));"
        "</script>"
    )
    flags = ("--allow-file-access-from-files", "--window-size=800,900")
    report = probe(tmp_path / "index.html", outer, "", tmp_path / "profile", *flags)
    assert report["wide"] <= 380
    assert report["text"] >= 13


def test_a_browser_runs_the_page_under_its_own_policy_and_lays_out_what_is_looked_at(
    tmp_path: Path,
) -> None:
    page = tmp_path / "index.html"
    jobs = [job(number) for number in range(1, 2001)]
    page.write_text(render_page("Study", jobs, ResultsOrigin(), "results.csv"))
    seen = browse(page, tmp_path / "profile")
    assert seen.requests == ()
    assert [line for line in seen.console if "Security" in line] == []
    assert '<div class="controls" id="controls">' in seen.dom
    laid_out = seen.dom.count("<tr>")
    assert 100 < laid_out < 1000


AXE = """
<script>addEventListener("load", () => axe.run().then(found => {
  document.title = JSON.stringify({ violations: found.violations.map(rule => [rule.id, rule.nodes.map(node => node.html)]),
    passes: found.passes.length });
}));</script>
"""


@pytest.mark.slow
@pytest.mark.registry
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_readers_out(tmp_path: Path, scheme: str) -> None:
    """axe-core checks contrast, names, roles and order; it is fetched by npm."""
    npm = shutil.which("npm")
    if npm is None:  # not a package of `make system-packages`: Debian's pulls in hundreds of others
        pytest.skip("npm is not installed")
    subprocess.run([npm, "pack", "--silent", "axe-core@4"], cwd=tmp_path, check=True)
    (archive,) = tmp_path.glob("axe-core-*.tgz")
    with tarfile.open(archive) as opened:
        member = opened.extractfile("package/axe.min.js")
        assert member
        axe = member.read().decode()
    text = study(tmp_path).replace("<details", "<details open")
    script = f"<script>{axe}</script>{AXE}"
    flags = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] * (scheme == "dark")
    report = probe(
        tmp_path / "index.html",
        text,
        script,
        tmp_path / "profile",
        "--window-size=1200,800",
        *flags,
    )
    assert report["violations"] == []
    assert report["passes"] > 20
