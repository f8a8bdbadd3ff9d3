from __future__ import annotations

import json
import re
import struct
import zlib
from typing import TYPE_CHECKING

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
  const shown = () => [...document.querySelectorAll("#jobs > li h2")].map(node => node.textContent);
  const set = (id, value, name) => { const field = document.getElementById(id);
    if (typeof value === "boolean") field.checked = value; else field.value = value;
    field.dispatchEvent(new Event(name)); };
  const report = { all: shown(), pictures: [...document.images].filter(image => image.naturalWidth === 8).length };
  set("search", "WOOD 0.2", "input"); report.search = shown();
  set("search", "", "input"); set("sort", "v:thickness", "change"); set("reverse", true, "change");
  report.sorted = shown();
  document.querySelector(".chip.bad").click(); report.failed = shown();
  set("search", "nothing like it", "input"); report.none = !document.getElementById("none").hidden;
  set("rows", true, "change"); report.rows = document.getElementById("jobs").className;
  report.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.title = JSON.stringify(report);
}, 800));</script>
"""


def test_a_browser_shows_filters_and_sorts_it(tmp_path: Path) -> None:
    jobs = [job(number, "failed" if number == 3 else "evaluated") for number in range(1, 6)]
    for entry in jobs:
        (tmp_path / entry.name).mkdir()
        (tmp_path / entry.name / "plot.png").write_bytes(picture())
    text = render_page("Study", jobs)
    # The probe is no part of the page: its policy has to let it in.
    page = tmp_path / "index.html"
    page.write_text(re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text) + PROBE)
    title = re.search(r"<title>(.*?)</title>", browse(page, tmp_path / "profile").dom)
    assert title
    report = json.loads(title[1].replace("&quot;", '"'))
    names = [f"job-{number:04}" for number in range(1, 6)]
    assert report == {
        "all": names,
        "pictures": 5,
        "search": ["job-0002"],
        "sorted": names[::-1],
        "failed": ["job-0003"],
        "none": True,
        "rows": "rows",
        "dark": False,
    }


def test_a_browser_runs_the_page_under_its_own_policy_and_lays_out_what_is_looked_at(
    tmp_path: Path,
) -> None:
    page = tmp_path / "index.html"
    page.write_text(render_page("Study", [job(number) for number in range(1, 2001)]))
    seen = browse(page, tmp_path / "profile")
    assert seen.requests == ()
    assert [line for line in seen.console if "Security" in line] == []
    assert '<div class="controls">' in seen.dom
    laid_out = seen.dom[: seen.dom.index("<template")].count("<li ")
    assert 100 < laid_out < 1000
