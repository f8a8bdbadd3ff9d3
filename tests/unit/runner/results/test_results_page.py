from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.model import FileEntry, JobEntry, ResultsOrigin
from offline_bundle.runner.results.page.page import render_page, render_table
from tests.support.results_page_cases import job

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">"\'&</script><!--'


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


def render(title: str, jobs: Sequence[JobEntry], **origin: Any) -> str:  # noqa: ANN401
    return render_page(title, jobs, ResultsOrigin(**origin), "results.csv")


def data(text: str) -> dict[str, Any]:
    """What the script of the page shows."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    document: dict[str, Any] = json.loads(found[1])
    return document


def test_a_job_has_its_state_time_values_pictures_and_files() -> None:
    files = (
        FileEntry("j/a b.png", 10),
        FileEntry("j/c.svg", 10),
        FileEntry("j/console_output.txt", 5, is_console=True),
    )
    started = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    entry = job(1, "failed", files=files, seconds=3723.0, started=started, tail="it\nbroke")
    text = render("Study", [entry])
    shown = data(text)
    assert shown["values"] == ["thickness", "material"]
    (row,) = shown["jobs"]
    assert row[:7] == [
        "job-0001",
        "failed",
        3723.0,
        "1 h 2 min",
        "2026-11-22 12:00:00+00:00",
        "",
        [0.1, "steel"],
    ]
    assert row[7] == [
        ["j/a%20b.png", "a b.png", "10 B", 1],
        ["j/c.svg", "c.svg", "10 B", 1],
        ["j/console_output.txt", "console_output.txt", "5 B", 0],
    ]
    assert row[8] == "broke"
    assert "1 job · 3 files, 25 B · slowest job 1 h 2 min" in text


def test_the_top_has_date_bundle_and_command() -> None:
    submitted = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    text = render(
        "Study",
        [],
        submitted=submitted,
        bundle="/shared/b",
        command="offline-bundle submit eval.py",
    )
    for shown in ("2026-11-22 12:00:00+00:00", "/shared/b", "offline-bundle submit eval.py"):
        assert f"<dd>{shown}</dd>" in text
    assert "<dt>" not in render("Study", [])


def test_jobs_that_failed_alike_are_one_group() -> None:
    jobs = [
        job(number, "failed", tail=f"step {number}\nKeyError: 'x'\nexit code 1", node="n7")
        for number in range(1, 31)
    ]
    jobs += [job(31, "timeout", tail="Slurm ended the job: time limit exceeded"), job(32)]
    text = render("Study", jobs)
    assert text.count('<details class="failure">') == 2
    assert "<b>30 jobs failed</b> <code>KeyError: &#39;x&#39;</code>" in text
    assert "job-0001 on n7 after 1.0 s" in text or "job-0001 on n7" in text
    assert "and 10 more</p>" in text
    assert text.index("30 jobs failed") < text.index("1 job timeout")


def test_output_of_jobs_is_only_text() -> None:
    hostile = JobEntry(
        HOSTILE,
        "failed",
        HOSTILE,
        seconds=1.0,
        values={HOSTILE: HOSTILE, "odd": float("nan"), "deep": [float("inf")]},
        files=(FileEntry(f"j/{HOSTILE}.png", 1), FileEntry("j/y", 1)),
    )
    text = render(HOSTILE, [hostile], command=HOSTILE)
    page = Page(text)
    assert len(page.all("script")) == 2
    assert page.all("img") == []
    assert all("onerror" not in attributes for _, attributes in page.tags)
    row = data(text)["jobs"][0]
    assert row[0] == HOSTILE
    assert row[6] == [HOSTILE, "nan", "[Infinity]"]
    assert row[7][0][0].startswith("j/%3Cscript%3Ealert%281%29%3C/script%3E%3Cimg%20src%3Dx")


def test_nothing_is_asked_of_a_network() -> None:
    text = render("Study", [job(1), job(2)])
    assert re.findall(r"(?:https?:)?//[a-z]", text) == []
    assert "@import" not in text
    assert "url(" not in text
    policy = next(meta["content"] for meta in Page(text).all("meta") if "http-equiv" in meta)
    assert policy
    assert policy.startswith("default-src 'none'; img-src 'self' file:;")
    assert "unsafe" not in policy


def test_no_jobs_are_a_page_too() -> None:
    assert "0 jobs · 0 files" in render("Study", [])
    assert render_table([]) == "job,state,seconds,started,node,scheduler_job\n"


def test_ten_thousand_jobs_stay_a_page_that_can_be_sent() -> None:
    text = render("Study", [job(number) for number in range(10_000)])
    assert len(text) < 2_000_000
    assert len(data(text)["jobs"]) == 10_000


def test_the_table_has_all_values_in_full() -> None:
    jobs = [
        job(1, values={"x": 0.1 + 0.2, "name": 'a,"b"'}, node="n7", job_id="12_3"),
        job(2, values={"x": True, "list": [1, 2]}),
    ]
    rows = list(csv.DictReader(io.StringIO(render_table(jobs))))
    assert rows[0]["x"] == "0.30000000000000004"
    assert (rows[0]["name"], rows[0]["list"], rows[0]["node"]) == ('a,"b"', "", "n7")
    assert (rows[1]["x"], rows[1]["list"], rows[0]["scheduler_job"]) == ("true", "[1, 2]", "12_3")
