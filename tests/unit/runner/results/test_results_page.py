from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

from offline_bundle.runner.model import FileEntry, JobEntry
from offline_bundle.runner.results.page.page import render_page
from tests.support.results_page_cases import job

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
