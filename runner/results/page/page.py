"""The page over a project's results: one self-contained file. Pure: entries in, HTML out.

Pictures are the jobs' own files, by relative path, loaded when they come into view. Only jobs that
are visible are laid out: the page of 10,000 jobs is some megabytes of text and opens at once. It
loads nothing from outside its folder; its Content-Security-Policy enforces that. All text from jobs
is escaped. Without JavaScript the first jobs are shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from offline_bundle.runner.model import FAILED, SUCCEEDED, FileEntry, JobEntry
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Template

_FOLDER = Path(__file__).parent
_SURROGATES = re.compile("[\ud800-\udfff]")
"""UTF-8 cannot encode these; they come from file names and values of jobs."""
_WITHOUT_SCRIPT = 300
"""Jobs in the document itself; the others are in a template element, where they cost little."""
_STATE_CLASSES = {
    "running": "busy",
    **dict.fromkeys(SUCCEEDED, "good"),
    **dict.fromkeys(FAILED, "bad"),
}


def render_page(title: str, jobs: Sequence[JobEntry]) -> str:
    """Render the page of a project."""
    style, script = _asset("page.css"), _asset("page.js")
    states = Counter(job.state for job in jobs).most_common()
    values = dict.fromkeys(name for job in jobs for name in job.values)
    text = _template().render(
        title=title,
        policy=(
            f"default-src 'none'; img-src 'self' file:; style-src {_source(style)}; "
            f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
        ),
        style=style,
        script=script,
        summary=_summary(jobs),
        states=[
            {"name": state, "number": f"{number:,}", "css_class": _state_class(state)}
            for state, number in states
        ],
        sort_keys=[
            ("", "job"),
            ("state", "state"),
            ("time", "time"),
            *((f"v:{name}", name) for name in values),
        ],
        first_jobs=map(_job, islice(jobs, _WITHOUT_SCRIPT)),
        other_jobs=map(_job, islice(jobs, _WITHOUT_SCRIPT, None)),
    )
    return _SURROGATES.sub("\ufffd", text)


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


def _job(job: JobEntry) -> dict[str, Any]:
    """Return what the template shows of a job: texts, not yet escaped."""
    return {
        "name": job.name,
        "state": job.state,
        "state_class": _state_class(job.state),
        "seconds": job.seconds,
        "time": None if job.seconds is None else _time(job.seconds),
        "started": job.started.isoformat(" ", "seconds") if job.started else "",
        "values_json": json.dumps(dict(job.values), default=str),
        "parameters": [(name, _value(value)) for name, value in job.values.items()],
        "pictures": [_file(file) for file in job.files if file.is_picture],
        "files": [_file(file) for file in job.files if not file.is_picture],
        "place": " · ".join(filter(None, [job.node, job.job_id and f"job {job.job_id}"])),
        "message": job.tail.strip().rpartition("\n")[2],
        "tail": job.tail,
    }


def _file(file: FileEntry) -> dict[str, str]:
    name = PurePosixPath(file.path).name
    url = quote(file.path.encode(errors="surrogateescape"))  # a name may be any bytes
    return {"url": url, "name": name, "size": format_size(file.size)}


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _time(seconds: float) -> str:
    if seconds < 60:
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
