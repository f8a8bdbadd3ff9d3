"""The page over a project's results: one self-contained file beside the jobs' folders. Pure: entries in, HTML out.

Pictures are the jobs' own files, by relative path, loaded when they come into view, and only jobs that are looked at
are laid out: the page of 10,000 jobs is some megabytes of text and opens at once. It reaches for nothing outside its
folder, and its Content-Security-Policy says so. All that jobs say is escaped. Without JavaScript the first jobs are
there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from offline_bundle.runner.engine import FAILED, SUCCEEDED
from offline_bundle.wheelhouse.cli.output import count, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

_WITHOUT_SCRIPT = 300
"""So many jobs are part of the document itself; the others wait in a template, where they cost next to nothing."""

_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".avif"}
_STATE_CLASSES = {
    "running": "busy",
    **dict.fromkeys(SUCCEEDED, "good"),
    **dict.fromkeys(FAILED, "bad"),
}


@dataclass(frozen=True)
class FileEntry:
    """A file that is there to look at."""

    path: str
    """Relative to the page, with `/`."""
    size: int
    """In bytes."""
    is_console: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether a browser shows it in an `img`."""
        return PurePosixPath(self.path).suffix.lower() in _PICTURES


@dataclass(frozen=True)
class JobEntry:
    """A job as the page shows it."""

    name: str
    state: str
    """One of `offline_bundle.runner.engine.STATES`, or a newer one."""
    seconds: float | None = None
    """How long it ran."""
    started: datetime | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()
    tail: str = ""
    """The end of the console output of a job that failed."""


def render_page(title: str, jobs: Sequence[JobEntry]) -> str:
    """Render the page of a project."""
    states = Counter(job.state for job in jobs)
    chips = "".join(
        f'<button type="button" class="chip {_state_class(state)}" data-state="{escape(state)}" aria-pressed="false">'
        f"{number:,} {escape(state)}</button>"
        for state, number in states.most_common()
    )
    names = list(dict.fromkeys(name for job in jobs for name in job.values))
    choices = [
        ("", "job"),
        ("state", "state"),
        ("time", "time"),
        *((f"v:{name}", name) for name in names),
    ]
    options = "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in choices
    )
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n",
            f"<header>\n<h1>{escape(title)}</h1>\n",
            f'<p class="summary">{_summary(jobs)}</p>\n<div class="chips">{chips}</div>\n',
            '<div class="controls" hidden>\n',
            '<input id="search" type="search" placeholder="Filter by name, value, message" aria-label="Filter">\n',
            f'<label>Sort by <select id="sort">{options}</select></label>\n',
            '<label><input id="reverse" type="checkbox"> reversed</label>\n',
            '<label><input id="rows" type="checkbox"> as a list</label>\n',
            '<output id="shown" aria-live="polite"></output>\n</div>\n</header>\n',
            f'<main><ol id="jobs">\n{"".join(map(_job, jobs[:_WITHOUT_SCRIPT]))}</ol>\n',
            f'<template id="rest">\n{"".join(map(_job, jobs[_WITHOUT_SCRIPT:]))}</template>\n',
            '<p id="none" hidden>No job matches.</p><div id="end"></div></main>\n',
            f"<script>{_SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def _summary(jobs: Sequence[JobEntry]) -> str:
    times = [job.seconds for job in jobs if job.seconds is not None]
    files = [file for job in jobs for file in job.files]
    parts = [
        count(len(jobs), "job"),
        f"{count(len(files), 'file')}, {megabytes(sum(file.size for file in files))}",
    ]
    if times:
        parts.append(f"the slowest {_time(max(times))}, together {_time(sum(times))}")
    return " · ".join(parts)


def _job(job: JobEntry) -> str:
    pictures = [file for file in job.files if file.is_picture]
    others = [file for file in job.files if not file.is_picture]
    started = (
        f' title="started {escape(job.started.isoformat(" ", "seconds"))}"' if job.started else ""
    )
    time = (
        f'<span class="time"{started}>{_time(job.seconds)}</span>'
        if job.seconds is not None
        else ""
    )
    sortable = escape(json.dumps(dict(job.values), default=str))
    tail = (
        f"<details><summary>the end of its console</summary><pre>{escape(job.tail)}</pre></details>"
    )
    return (
        f'<li data-state="{escape(job.state)}" data-time="{job.seconds if job.seconds is not None else ""}"'
        f' data-values="{sortable}">'
        f"{_pictures(job, pictures)}"
        f'<div class="text"><h2>{escape(job.name)}</h2>'
        f'<p class="how"><span class="state {_state_class(job.state)}">{escape(job.state)}</span>{time}</p>'
        f"{_values(job.values)}{_files(others)}{tail if job.tail else ''}</div></li>\n"
    )


def _pictures(job: JobEntry, pictures: Iterable[FileEntry]) -> str:
    links = "".join(
        f'<a href="{quote(file.path)}"><img loading="lazy" decoding="async" src="{quote(file.path)}"'
        f' alt="{escape(f"{job.name}: {PurePosixPath(file.path).name}")}"></a>'
        for file in pictures
    )
    last = job.tail.strip().rpartition("\n")[2]
    message = f'<span class="message">{escape(last)}</span>' if last else "<span>no picture</span>"
    return f'<div class="pictures">{links or message}</div>'


def _values(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_value(value))}</dd></div>"
        for name, value in values.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _files(files: Iterable[FileEntry]) -> str:
    links = ", ".join(
        f'<a href="{quote(file.path)}" title="{megabytes(file.size)}">{escape(PurePosixPath(file.path).name)}</a>'
        for file in files
    )
    return f'<p class="files">{links}</p>' if links else ""


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _state_class(state: str) -> str:
    return _STATE_CLASSES.get(state, "other")


def _source(text: str) -> str:
    """Name an inline style or script by its digest, as a Content-Security-Policy does."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1b1f24; --soft: #5b6470; --line: #dde1e6;
  --good: #116329; --good-back: #dafbe1; --bad: #a40e26; --bad-back: #ffebe9; --busy: #0550ae; --busy-back: #ddf4ff;
  --other-back: #eaeef2; --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1318; --card: #181d24; --ink: #e6e9ed; --soft: #9aa4b0;
  --line: #2c333c; --good: #7ee2a0; --good-back: #12361f; --bad: #ff9c94; --bad-back: #4a1a1c; --busy: #8ec7ff;
  --busy-back: #10304f; --other-back: #2a313a; --link: #8ec7ff; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
header { background: var(--page); border-bottom: 1px solid var(--line); padding: 14px 24px; }
@media (min-width: 700px) and (min-height: 600px) { header { position: sticky; top: 0; z-index: 1; } }
h1 { margin: 0; font-size: 21px; overflow-wrap: anywhere; }
.summary { margin: 2px 0 10px; color: var(--soft); }
.chips, .controls { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; }
.chips { gap: 8px; }
.controls { margin-top: 10px; color: var(--soft); }
.chip, .state { border-radius: 999px; padding: 1px 10px; font: inherit; font-size: 13px; border: 1px solid transparent;
  background: var(--other-back); color: var(--ink); }
.chip { cursor: pointer; }
.chip[aria-pressed=true] { border-color: currentcolor; font-weight: 600; }
.good { background: var(--good-back); color: var(--good); }
.bad { background: var(--bad-back); color: var(--bad); }
.busy { background: var(--busy-back); color: var(--busy); }
input[type=search], select { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: 4px 8px; }
input[type=search] { flex: 1 1 260px; max-width: 420px; }
#shown { margin-left: auto; }
main { padding: 20px 24px 60px; }
#jobs { list-style: none; margin: 0; padding: 0; display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); }
#jobs > li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden;
  content-visibility: auto; contain-intrinsic-size: auto 290px; }
.pictures { display: grid; grid-auto-flow: column; gap: 1px; aspect-ratio: 4 / 3; background: var(--line);
  align-items: stretch; }
.pictures a { display: grid; min-width: 0; min-height: 0; background: #fff; }
.pictures img { width: 100%; height: 100%; object-fit: contain; min-height: 0; color: #333; font-size: 12px; }
.pictures span { display: grid; place-items: center; color: var(--soft); background: var(--card); font-size: 13px; }
.pictures .message { padding: 16px; color: var(--bad); overflow: hidden; overflow-wrap: anywhere; }
.text { padding: 10px 14px 12px; min-width: 0; }
h2 { margin: 0; font-size: 15px; overflow-wrap: anywhere; }
.how { margin: 4px 0 0; display: flex; gap: 10px; align-items: center; }
.time { color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums; }
dl { margin: 8px 0 0; display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; }
dl div { display: flex; gap: 5px; min-width: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.files { margin: 6px 0 0; font-size: 13px; overflow-wrap: anywhere; }
a { color: var(--link); }
details { margin-top: 6px; font-size: 13px; }
pre { margin: 6px 0 0; padding: 8px; max-height: 240px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--page); border-radius: 6px; font-size: 12px; }
#jobs.rows { display: block; }
#jobs.rows > li { display: flex; border-radius: 0; border-width: 0 0 1px; contain-intrinsic-size: auto 52px; }
#jobs.rows .pictures { flex: 0 0 64px; aspect-ratio: auto; height: 50px; }
#jobs.rows .pictures span { visibility: hidden; }
#jobs.rows .text { flex: 1; display: flex; flex-wrap: wrap; gap: 2px 18px; align-items: center; padding: 6px 14px; }
#jobs.rows h2, #jobs.rows .how { flex: 0 0 170px; margin: 0; }
#jobs.rows dl, #jobs.rows .files, #jobs.rows details { margin: 0; }
#jobs.rows details[open] { flex-basis: 100%; }
"""

_SCRIPT = """
"use strict";
const list = document.getElementById("jobs"), search = document.getElementById("search");
const sort = document.getElementById("sort"), reverse = document.getElementById("reverse");
const rows = document.getElementById("rows"), end = document.getElementById("end");
const chips = [...document.querySelectorAll(".chip")];
const jobs = [...list.children, ...document.getElementById("rest").content.children].map((node, place) => ({
  node, place, state: node.dataset.state, time: node.dataset.time === "" ? null : Number(node.dataset.time) }));
let matching = jobs, attached = 0;
function text(job) { return job.text ??= job.node.textContent.toLowerCase(); }
function values(job) { return job.values ??= JSON.parse(job.node.dataset.values); }
function key(job) {
  if (sort.value === "state") return job.state;
  if (sort.value === "time") return job.time;
  return sort.value ? values(job)[sort.value.slice(2)] : job.place;
}
function compare(a, b) {
  const noA = a.key === undefined || a.key === null, noB = b.key === undefined || b.key === null;
  if (noA || noB) return noA - noB || a.place - b.place;
  const order = typeof a.key === "string" || typeof b.key === "string"
    ? String(a.key).localeCompare(String(b.key), "en", { numeric: true }) : a.key - b.key;
  return (reverse.checked ? -order : order) || a.place - b.place;
}
function arrange() {
  const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
  const states = chips.filter(chip => chip.getAttribute("aria-pressed") === "true").map(chip => chip.dataset.state);
  matching = jobs.filter(job => (!states.length || states.includes(job.state))
    && words.every(word => text(job).includes(word)));
  for (const job of matching) job.key = key(job);
  matching.sort(compare);
  list.replaceChildren();
  attached = 0;
  attach();
  document.getElementById("shown").textContent = matching.length === jobs.length ? ""
    : `${matching.length.toLocaleString("en")} of ${jobs.length.toLocaleString("en")} shown`;
  document.getElementById("none").hidden = matching.length > 0;
}
function attach() {
  list.append(...matching.slice(attached, attached + 120).map(job => job.node));
  attached = list.children.length;
  watcher.unobserve(end);
  if (attached < matching.length) watcher.observe(end);
}
const watcher = new IntersectionObserver(
  entries => { if (entries.some(entry => entry.isIntersecting)) attach(); }, { rootMargin: "1500px" });
function layOut() { list.classList.toggle("rows", rows.checked); }
for (const chip of chips) chip.addEventListener("click", () => {
  chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
  arrange();
});
search.addEventListener("input", arrange);
sort.addEventListener("change", arrange);
reverse.addEventListener("change", arrange);
rows.addEventListener("change", layOut);
document.querySelector(".controls").hidden = false;
layOut();
arrange();
"""
