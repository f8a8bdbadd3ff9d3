from __future__ import annotations

import json
import re
import struct
import zlib
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from offline_bundle.runner.model import FileEntry, JobEntry
from offline_bundle.runner.results.page.page import render_page
from tests.support.browser import visit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.browser import Visit

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">"\'&'


class Page(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def job(number: int, state: str = "evaluated", **changes: object) -> JobEntry:
    name = f"job-{number:04}"
    given: dict[str, object] = {
        "name": name,
        "state": state,
        "seconds": float(number),
        "values": {"thickness": number / 10, "material": "steel" if number % 2 else "wood"},
        "files": (FileEntry(f"{name}/plot.png", 1000),),
    }
    return JobEntry(**(given | changes))  # type: ignore[arg-type]


def test_a_job_shows_its_state_time_values_pictures_and_files() -> None:
    files = (
        FileEntry("j/a b.png", 10),
        FileEntry("j/c.svg", 10),
        FileEntry("j/console_output.txt", 5, is_console=True),
    )
    started = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    text = render_page(
        "Study", [job(1, "failed", files=files, seconds=3723.0, started=started, tail="it\nbroke")]
    )
    page = Page(text)
    assert [image["src"] for image in page.all("img")] == ["j/a%20b.png", "j/c.svg"]
    assert {link["href"] for link in page.all("a")} == {
        "j/a%20b.png",
        "j/c.svg",
        "j/console_output.txt",
    }
    for shown in (
        ">failed<",
        ">1 h 2 min<",
        ">thickness<",
        ">0.1<",
        ">steel<",
        "it\nbroke",
        "2026-11-22 12:00:00",
    ):
        assert shown in text
    assert "1 job · 3 files, 25 B · slowest job 1 h 2 min" in text


def test_what_jobs_say_is_only_text() -> None:
    hostile = JobEntry(
        HOSTILE,
        HOSTILE,
        1.0,
        None,
        {HOSTILE: HOSTILE},
        (FileEntry(f"j/{HOSTILE}.png", 1), FileEntry("j/y", 1)),
        HOSTILE,
    )
    page = Page(render_page(HOSTILE, [hostile]))
    assert len(page.all("script")) == 1
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert [image["src"] for image in page.all("img")] == [
        "j/%3Cscript%3Ealert%281%29%3C/script%3E%3Cimg%20src%3Dx%20onerror%3D%22alert%282%29%22%3E%22%27%26.png"
    ]


def test_nothing_is_asked_of_a_network() -> None:
    text = render_page("Study", [job(1), job(2)])
    assert re.findall(r"(?:https?:)?//[a-z]", text) == []
    assert "@import" not in text
    assert "url(" not in text
    policy = next(meta["content"] for meta in Page(text).all("meta") if "http-equiv" in meta)
    assert policy
    assert policy.startswith("default-src 'none'; img-src 'self' file:;")
    assert "unsafe" not in policy


def test_no_jobs_are_a_page_too() -> None:
    assert "0 jobs · 0 files" in render_page("Study", [])


def test_ten_thousand_jobs_stay_a_page_that_can_be_sent() -> None:
    text = render_page("Study", [job(number) for number in range(10_000)])
    assert len(text) < 8_000_000
    assert (
        text.index("<template")
        < text.index("job-0300")
        < text.index("job-9999")
        < text.index("</template>")
    )


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
