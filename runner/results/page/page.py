"""The page over a project's results: one self-contained file, and the same table as CSV.

The page has its data as JSON: a table that is built as far as it is visible, a plot of any value
against any other, and pictures, which are the jobs' own files by relative path. So the page of
10,000 jobs is two megabytes and opens at once. It loads nothing from outside its folder; its
Content-Security-Policy enforces that. All text from jobs is shown as text, never as markup.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from offline_bundle.runner.model import FAILED, SUCCEEDED, FileEntry, JobEntry, ResultsOrigin
from offline_bundle.runner.results.failures import FailureGroup, error_line, group_failures
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

_FOLDER = Path(__file__).parent
_SURROGATES = re.compile("[\ud800-\udfff]")
"""UTF-8 cannot encode these; they come from file names and values of jobs."""
_SHOWN_GROUPS = 50
_SHOWN_NAMES = 20
_LONGEST_MESSAGE = 200
_STATE_CLASSES = {
    "running": "busy",
    SUCCEEDED: "good",
    **dict.fromkeys(FAILED, "bad"),
}


def render_page(
    title: str, jobs: Sequence[JobEntry], origin: ResultsOrigin, table_name: str
) -> str:
    """Render the page of a project; *table_name* is the CSV file beside it."""
    style, script = _asset("page.css"), _asset("page.js")
    states = Counter(job.state for job in jobs).most_common()
    groups = group_failures([job for job in jobs if job.state in FAILED])
    text = _template().render(
        title=title,
        policy=(
            f"default-src 'none'; img-src 'self' file:; style-src {_source(style)}; "
            f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
        ),
        style=style,
        script=script,
        summary=_summary(jobs),
        origin=_origin(jobs, origin),
        states=[
            {"name": state, "number": f"{number:,}", "css_class": _state_class(state)}
            for state, number in states
        ],
        failures=[_group(group) for group in groups[:_SHOWN_GROUPS]],
        more_failures=max(0, len(groups) - _SHOWN_GROUPS),
        table_name=table_name,
        data=_data(jobs, [state for state, _ in states]),
    )
    return _SURROGATES.sub("\ufffd", text)


def render_table(jobs: Sequence[JobEntry]) -> str:
    """Render all jobs as CSV: one row each, with values in full precision."""
    values = _value_names(jobs)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["job", "state", "seconds", "started", "node", "scheduler_job", *values])
    for job in jobs:
        started = job.started.isoformat() if job.started else ""
        fixed = [job.job, job.state, job.seconds, started, job.node, job.job_id]
        writer.writerow([*fixed, *(_plain(job.values.get(name)) for name in values)])
    return _SURROGATES.sub("\ufffd", stream.getvalue())


def _data(jobs: Sequence[JobEntry], states: Sequence[str]) -> str:
    """Return what the script shows as JSON that cannot end its element."""
    values = _value_names(jobs)
    document = {
        "values": values,
        "classes": {state: _state_class(state) for state in states},
        "jobs": [_row(job, values) for job in jobs],
    }
    text = json.dumps(document, default=str, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _row(job: JobEntry, values: Sequence[str]) -> list[Any]:
    return [
        job.job,
        job.state,
        job.seconds,
        "" if job.seconds is None else _time(job.seconds),
        job.started.isoformat(" ", "seconds") if job.started else "",
        " · ".join(filter(None, [job.node, job.job_id and f"job {job.job_id}"])),
        [_shown(job.values.get(name)) for name in values],
        [_file(file) for file in job.files],
        error_line(job.tail)[:_LONGEST_MESSAGE],
    ]


def _value_names(jobs: Sequence[JobEntry]) -> list[str]:
    return list(dict.fromkeys(name for job in jobs for name in job.values))


def _shown(value: object) -> object:
    """Return *value* as JSON can hold it: no NaN, no infinity."""
    if isinstance(value, bool | None):
        return value
    is_finite = not isinstance(value, float) or math.isfinite(value)
    return _plain(value) if is_finite else str(value)


def _plain(value: object) -> object:
    """Return *value* for a cell: numbers and text as they are, all else as JSON."""
    if value is None or isinstance(value, str | float) or type(value) is int:
        return value
    return json.dumps(value, default=str)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2")


@cache
def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _summary(jobs: Sequence[JobEntry]) -> str:
    times = [job.seconds for job in jobs if job.seconds is not None]
    files = [file for job in jobs for file in job.files]
    parts = [
        count(len(jobs), "job"),
        f"{count(len(files), 'file')}, {format_size(sum(file.size for file in files))}",
    ]
    if times:
        parts.append(f"slowest job {_time(max(times))}, total {_time(sum(times))}")
    return " · ".join(parts)


def _origin(jobs: Sequence[JobEntry], origin: ResultsOrigin) -> list[tuple[str, str]]:
    """Return the lines on top of the page; what is unknown has none."""
    begins = [job.started for job in jobs if job.started]
    lines = {
        "submitted": origin.submitted.isoformat(" ", "seconds") if origin.submitted else "",
        "started": min(begins).isoformat(" ", "seconds") if begins else "",
        "bundle": origin.bundle,
        "command": origin.command,
    }
    return [(name, text) for name, text in lines.items() if text]


def _group(group: FailureGroup) -> Mapping[str, str]:
    names = [f"{failure.job}{failure.place}" for failure in group.failures[:_SHOWN_NAMES]]
    more = len(group.failures) - len(names)
    return {
        "number": f"{count(len(group.failures), 'job')} {group.state}",
        "message": group.message,
        "jobs": ", ".join(names) + (f" and {more:,} more" if more else ""),
        "tail": group.failures[0].tail,
    }


def _file(file: FileEntry) -> list[object]:
    """Return URL, name, size, and whether it is a picture."""
    url = quote(file.path.encode(errors="surrogateescape"))  # a name may be any bytes
    name = PurePosixPath(file.path).name
    return [url, name, format_size(file.size), int(file.is_picture)]


def _time(seconds: float) -> str:
    if not 60 <= seconds < math.inf:  # a server may answer anything that is JSON
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {remainder} s"


def _state_class(state: str) -> str:
    return _STATE_CLASSES.get(state, "other")


def _source(text: str) -> str:
    """Return the digest of an inline style or script, as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
