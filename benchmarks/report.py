"""The report: Markdown sections for docs/benchmarks.md and the charts beside it. Text in, text out."""

import datetime as dt
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measure import Summary, redacted

PAGE = """# Benchmarks

`make bench` runs these measurements (`benchmarks/bench.py`). Tests assert no times. All tools run side by side
in one call, in rounds: A B C … A B C …, so that drift of machine and network affects all of them.
Each run starts with empty caches, an empty home and an empty output directory, uses the same index, and
ignores the caller's configuration. A run fails if a distribution is missing in its output, if a wheel has
another sha256 than the lock, or if its output cannot be resolved offline. Times are wall-clock seconds.
Compare the medians. Ratios are relative to the median of the *floor*: the same uv resolve, and eight plain
threads that download and hash the URLs of the lock.

Downloads come from the index or mirror nearest to the machine. On a slower network all tools wait longer for
the same bytes, and the ratios approach 1; on a faster network they diverge from it.

The text between the markers is written by the harness: `make bench`, or
`python benchmarks/bench.py --write docs/benchmarks.md`.

## Tools

<!-- bench:tools -->
<!-- /bench:tools -->

## S: numpy and matplotlib

<!-- bench:S -->
<!-- /bench:S -->

## M: ten packages of an engineer, with their dependencies

<!-- bench:M -->
<!-- /bench:M -->

## Jobs

<!-- bench:jobs -->
<!-- /bench:jobs -->

## Formats

`python benchmarks/forms.py --write` measures this and writes it here. The formats are described in
[Bundle formats](how-to/formats.md).

<!-- bench:forms -->
<!-- /bench:forms -->

## Archives

`python benchmarks/archive.py --write` measures this and writes it here.

<!-- bench:archive -->
<!-- /bench:archive -->

## Jobs through the embedded HPS

`python benchmarks/hps_scale.py --write` measures this and writes it here.

<!-- bench:hps -->
<!-- /bench:hps -->

## Many jobs, and what a start takes from the share

`python benchmarks/scale.py --write`, as root, measures this and writes it here; [scale.md](scale.md) reckons with it.

<!-- bench:scale -->
<!-- /bench:scale -->
"""


@dataclass(frozen=True)
class Row:
    """One tool in a table."""

    name: str
    version: str
    summary: Summary
    made: str


@dataclass(frozen=True)
class Claim:
    """What the project promises, what was measured, and whether that holds."""

    text: str
    measured: str
    holds: bool


@dataclass
class Section:
    """What one part of a run found."""

    key: str
    heading: str
    rows: list[Row] = field(default_factory=list)
    extras: list[Row] = field(default_factory=list)  # measured too, not compared
    claims: list[Claim] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    chart: str = ""


def render(section: Section) -> str:
    """Render a section as Markdown."""
    blocks = [redacted(section.heading)]
    if section.rows:
        blocks.append(table(section.rows))
    if section.extras:
        blocks.append(
            "Measured in the same rounds, not compared:\n\n" + plain_table(section.extras)
        )
    if section.chart:
        blocks.append(
            f"![Medians, with whiskers from the fastest to the slowest run]({section.chart})"
        )
    if section.failures:
        failed = "\n".join(
            f"- **{name}**: {redacted(why)}" for name, why in section.failures.items()
        )
        blocks.append("Did not finish:\n\n" + failed)
    if section.claims:
        lines = [
            f"| {claim.text} | {claim.measured} | {'yes' if claim.holds else '**no**'} |"
            for claim in section.claims
        ]
        blocks.append("| claim | measured | holds |\n|---|---|---|\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def table(rows: Sequence[Row]) -> str:
    floor = rows[0].summary.median
    lines = [
        f"| {row.name} | {row.version} | {row.summary.low:.2f} | **{row.summary.median:.2f}** | "
        f"{row.summary.high:.2f} | {row.summary.median / floor:.2f} | {row.summary.cpu:.2f} "
        f"| {row.made} |"
        for row in rows
    ]
    head = f"| tool | version | min | median | max | ÷ {rows[0].name} | CPU | made |"
    return "\n".join([head, "|---|---|--:|--:|--:|--:|--:|---|", *lines])


def plain_table(rows: Sequence[Row]) -> str:
    lines = [
        f"| {row.name} | {row.summary.low:.3f} | **{row.summary.median:.3f}** | "
        f"{row.summary.high:.3f} | {row.made} |"
        for row in rows
    ]
    return "| what | min | median | max | |\n|---|--:|--:|--:|---|\n" + "\n".join(lines)


def tools_section(
    made: Mapping[str, str], notes: Mapping[str, str], not_run: Mapping[str, str]
) -> str:
    lines = [f"| {name} | {made[name]} | {note} |" for name, note in notes.items()]
    text = "| tool | what it makes | how it is run |\n|---|---|---|\n" + "\n".join(lines)
    skipped = "\n".join(f"- **{name}**: {why}" for name, why in not_run.items())
    return f"{text}\n\nNot in the tables:\n\n{skipped}"


def today() -> str:
    """The date, in UTC."""
    return dt.datetime.now(tz=dt.UTC).date().isoformat()


def machine() -> str:
    """One line about this machine."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", read("/proc/meminfo"))
    model = re.search(r"model name\s*:\s*(.*)", read("/proc/cpuinfo"))
    cores = len(re.findall(r"^processor\s*:", read("/proc/cpuinfo"), re.MULTILINE))
    size = f"{int(memory[1]) / 1048576:.0f} GiB of memory" if memory else "memory unknown"
    name = f" ({model[1].strip()})" if model else ""
    return (
        f"{cores} cores{name}, {size}, Linux {platform.release()}, {' '.join(platform.libc_ver())}"
    )


def read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def replace_section(page: str, key: str, text: str) -> str:
    """Put text between a page's markers. Raises ValueError when the markers are not there."""
    begin, end = f"<!-- bench:{key} -->", f"<!-- /bench:{key} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no markers {begin} and {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def section(page: Path, key: str) -> str:
    """What stands between a page's markers."""
    _, _, rest = page.read_text(encoding="utf-8").partition(f"<!-- bench:{key} -->\n")
    return rest.partition(f"<!-- /bench:{key} -->")[0]


def publish(page: Path, key: str, text: str, chart: str) -> None:
    """Put text between a page's markers, and below it the chart, which becomes a file beside the
    page.
    """
    picture = page.with_name(f"benchmarks-{key}.svg")
    picture.write_text(chart, encoding="utf-8")
    text += f"\n\n![Medians, with whiskers from the fastest to the slowest run]({picture.name})"
    page.write_text(replace_section(page.read_text(encoding="utf-8"), key, text), encoding="utf-8")
