"""Side-by-side benchmark of offline-bundle and its peers; `make bench` runs it.

    python benchmarks/bench.py                          both workloads and the jobs, three rounds
    python benchmarks/bench.py --workload S --runs 5    one workload
    python benchmarks/bench.py --jobs                   only the jobs and the launcher
    python benchmarks/bench.py --write docs/benchmarks.md

It needs a network, about 8 GiB of free disk where --directory is, and a development environment of the
project. The peers are installed from PyPI into benchmarks/.peers, once. Exit status: 0 when all claims hold
that were measured, 1 when one does not, or when the floor or offline-bundle failed or is not there.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import chart
import report
from jobs import JOBS, PARALLEL, JobsResult, measure_jobs
from measure import Place, RunError, Sample, Summary, redacted, run_all
from report import Claim, Row, Section
from workload import HERE, Target, Workload

from tools import (
    ALL,
    NOT_RUN,
    Bench,
    Expected,
    Floor,
    MissingToolError,
    Ours,
    OursPlain,
    Tool,
    UvTarget,
    find_python,
    find_uv,
)

COLD_LIMIT = {"S": 1.5, "M": 1.35}  # floors, bytecode included
REBUILD_LIMIT = 0.15  # of the cold build, plus the resolve
PLAIN_LIMIT = 2.0  # of the floor, without bytecode
JOBS_LIMIT = 0.45  # of ten `uv run`
OVERHEAD_LIMIT = 0.030  # seconds
JOBS_NOTE = (
    'The script has `requires-python = "==3.12"`, which is 3.12.0 to uv: under a later 3.12 `uv run` warns, '
    "and removes and makes the environment again at every run. With `==3.12.*` it keeps "
    "it: the harder "
    "comparison."
)
DEFAULT_PAGE = HERE.parent / "docs" / "benchmarks.md"


@dataclass
class Findings:
    """Everything that one workload's rounds brought, by tool or label."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    expected: Expected | None = None

    def add(self, label: str, sample: Sample) -> None:
        self.samples.setdefault(label, []).append(sample)

    def summary(self, label: str) -> Summary:
        return Summary.of(self.samples[label])


def main() -> int:
    arguments = parse_arguments()
    uv = find_uv()
    python = arguments.python or find_python("3.12", uv)
    Ours.directory = arguments.bin
    workspace = Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.directory))
    try:
        programs = workspace / "programs"
        programs.mkdir()
        (programs / "uv").symlink_to(uv)
        bench = Bench(Target.this_machine("3.12"), python, uv, programs, arguments.index)
        return measure_and_report(arguments, bench, workspace)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    keys = [tool.key for tool in ALL]
    parser.add_argument(
        "--workload", choices=["S", "M", "all", "none"], help="default: all, or none with --jobs"
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument(
        "--tools", nargs="+", choices=keys, default=keys, metavar="TOOL", help=", ".join(keys)
    )
    parser.add_argument(
        "--jobs", action="store_true", help="measure the jobs; without --workload, only them"
    )
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=DEFAULT_PAGE,
        metavar="PAGE",
        help="put tables and charts into PAGE",
    )
    parser.add_argument(
        "--bin", type=Path, default=Path(sys.executable).parent, help="where our programs are"
    )
    parser.add_argument("--python", type=Path, help="a plain CPython 3.12")
    parser.add_argument(
        "--index", default=index_of_caller(), metavar="URL", help="ask this index, all tools alike"
    )
    parser.add_argument(
        "--directory", type=Path, help="where to work (default: the temporary directory)"
    )
    arguments = parser.parse_args()
    if arguments.workload is None:
        arguments.jobs, arguments.workload = True, "none" if arguments.jobs else "all"
    return arguments


def index_of_caller() -> str | None:
    return os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL")


def measure_and_report(arguments: argparse.Namespace, bench: Bench, workspace: Path) -> int:
    tools, missing = install_tools(bench, arguments.tools)
    heading = describe(bench, arguments.runs)
    sections = []
    charts: dict[str, str] = {}
    keys = {"all": ["S", "M"], "none": []}.get(arguments.workload, [arguments.workload])
    for key in keys:
        workload = Workload.read(key)
        findings = measure_workload(workload, tools, workspace, arguments.runs)
        findings.failures |= missing
        section = workload_section(workload, tools, findings, heading)
        charts |= draw_workload(section)
        sections.append(section)
    if arguments.jobs:
        section = jobs_section(bench, workspace, arguments.runs, tools, heading)
        charts |= draw_jobs(section)
        sections.append(section)
    for section in sections:
        print(f"\n## {section.key}\n\n{report.render(section)}")
    if arguments.write:
        write_page(arguments.write, sections, charts)
    failed = {"floor", Ours.key} & {name for section in sections for name in section.failures}
    return int(
        bool(failed) or not all(claim.holds for section in sections for claim in section.claims)
    )


def install_tools(bench: Bench, wanted: Sequence[str]) -> tuple[list[Tool], dict[str, str]]:
    """Install what was asked for, the floor always; tools that cannot be had are returned with the
    reason.
    """
    tools: list[Tool] = []
    missing = {}
    for kind in ALL:
        if kind.key not in wanted and kind is not Floor:
            continue
        tool = kind(bench)
        try:
            tool.install()
        except MissingToolError as error:
            say(f"MISSING {tool.key}: {redacted(str(error))}")
            missing[tool.key] = str(error)
            continue
        say(f"{tool.key} {tool.version} is ready")
        tools.append(tool)
    return tools, missing


def describe(bench: Bench, rounds: int) -> str:
    return (
        f"{report.today()}, rounds: {rounds}, target: {bench.target.abi} "
        f"{bench.target.uv_platform}. "
        f"Machine: {report.machine()}. "
        f"Python {'.'.join(map(str, sys.version_info[:3]))} runs offline-bundle and the floor, "
        f"Python {bench.target.python} the peers."
    )


def measure_workload(
    workload: Workload, tools: list[Tool], workspace: Path, rounds: int
) -> Findings:
    """Measure all tools in turns. A tool that fails is left out of the rounds that follow."""
    findings = Findings()
    for number in range(1, rounds + 1):
        for tool in tools:
            if tool.key in findings.failures:
                continue
            place = Place(workspace / f"{workload.key}-{number}-{tool.key.replace(' ', '_')}")
            try:
                place = Place.make(place.root)
                measure_tool(tool, workload, place, findings)
                wall = findings.samples[tool.key][-1].wall
                say(
                    f"{workload.key} {number}/{rounds} {tool.key}: {wall:.2f} s, "
                    f"{findings.made[tool.key]}"
                )
            except RunError as error:
                say(f"{workload.key} {number}/{rounds} {tool.key} FAILED: {redacted(str(error))}")
                findings.failures[tool.key] = str(error)
            finally:
                place.remove()
        if findings.expected is None:
            break
    return findings


def measure_tool(tool: Tool, workload: Workload, place: Place, findings: Findings) -> None:
    """One run of one tool, its check, and what is measured after it. Raises RunError."""
    tool.prepare(place, workload)
    environment = tool.environment(place)
    sample = run_all(tool.commands(place, workload), environment, place.work)
    if isinstance(tool, Floor):
        findings.expected = Expected.of_lock(place.out / "pylock.toml", tool.bench.target)
        for part, seconds in tool.parts(sample).items():
            findings.add(f"floor: {part}", Sample(seconds, 0.0))
    if findings.expected is None:
        raise RunError("without the floor there is nothing to check it against")
    findings.made[tool.key] = tool.check(place, workload, findings.expected)
    findings.add(tool.key, sample)
    for label, commands in tool.follow_ups(place, workload).items():
        findings.add(f"{tool.key}: {label}", run_all(commands, environment, place.work))


def workload_section(
    workload: Workload, tools: list[Tool], findings: Findings, heading: str
) -> Section:
    asked = ", ".join(workload.requirements)
    section = Section(workload.key, f"`{asked}`. {heading}", failures=findings.failures)
    for tool in tools:
        if tool.key in findings.samples and tool.key not in findings.failures:
            row = Row(tool.key, tool.version, findings.summary(tool.key), findings.made[tool.key])
            section.rows.append(row)
    labels = [
        label
        for label in findings.samples
        if ": " in label and label.split(": ")[0] not in findings.failures
    ]
    section.extras = [Row(label, "", findings.summary(label), "") for label in labels]
    if Ours.key in findings.samples and Ours.key not in findings.failures:
        section.claims = workload_claims(workload.key, section.rows, findings)
    return section


def workload_claims(key: str, rows: list[Row], findings: Findings) -> list[Claim]:
    ours, floor = findings.summary(Ours.key).median, findings.summary(Floor.key).median
    claims = speed_claims("", ours, floor, COLD_LIMIT[key], rows)
    plain = next((row for row in rows if row.name == OursPlain.key), None)
    if plain:
        median = plain.summary.median
        claims += speed_claims("without bytecode: ", median, floor, PLAIN_LIMIT, rows)
    if key == "M":
        again = findings.summary(f"{Ours.key}: unchanged rebuild").median
        resolve = findings.summary("floor: resolve, warm").median
        limit = REBUILD_LIMIT * ours + resolve
        text = (
            f"unchanged rebuild at most {REBUILD_LIMIT} of the cold build, plus the (warm) resolve"
        )
        claims.append(Claim(text, f"{again:.2f} s of {limit:.2f} s", again <= limit))
    return claims


def speed_claims(
    prefix: str, ours: float, floor: float, limit: float, rows: list[Row]
) -> list[Claim]:
    """Claims of one way to build against the floor and the fastest other tools."""
    ratio = f"{ours / floor:.2f}"
    claims = [Claim(f"{prefix}cold build at most {limit} floors", ratio, ours <= limit * floor)]
    for text, group in rivals(rows).items():
        best = min(group, key=lambda row: row.summary.median)
        measured = f"{ours:.2f} s; {best.name} {best.summary.median:.2f} s"
        claims.append(Claim(f"{prefix}{text}", measured, ours < best.summary.median))
    return claims


def rivals(rows: list[Row]) -> dict[str, list[Row]]:
    """Other tools of a table, those that leave wheels apart from the one that only unpacks."""
    groups = {
        "below every other tool that leaves wheels": [
            row
            for row in rows
            if row.name not in {Ours.key, OursPlain.key, Floor.key, UvTarget.key}
        ],
        f"below `{UvTarget.key}`, which leaves none": [
            row for row in rows if row.name == UvTarget.key
        ],
    }
    return {text: group for text, group in groups.items() if group}


def jobs_section(
    bench: Bench, workspace: Path, rounds: int, tools: list[Tool], heading: str
) -> Section:
    section = Section(
        "jobs",
        f"Workload S as a plot job, {JOBS} of them, each in its own directory. {JOBS_NOTE} "
        f"{heading}",
    )
    ours = next((tool for tool in tools if isinstance(tool, Ours)), None)
    if ours is None:
        section.failures[Ours.key] = "it is not installed, so there are no jobs to measure"
        say(f"SKIPPED jobs: {section.failures[Ours.key]}")
        return section
    try:
        result = measure_jobs(bench, ours, workspace, rounds, say)
    except RunError as error:
        section.failures[Ours.key] = str(error)
        return section
    uv = next(tool.version for tool in tools if isinstance(tool, Floor))
    section.rows = [
        Row(
            "ten uv run",
            uv,
            Summary.of(result.uv_run),
            "the script unchanged: a new environment each time",
        ),
        Row(
            "ten uv run, warm",
            uv,
            Summary.of(result.uv_run_warm),
            "`==3.12.*`: the environment stays",
        ),
        Row(
            "ten uv run, warm, two at a time",
            uv,
            Summary.of(result.uv_run_parallel),
            "`==3.12.*`, as many at a time as offline-bundle",
        ),
        Row(
            Ours.key,
            ours.version,
            Summary.of(result.ours),
            f"`run -j {JOBS} --parallel {PARALLEL}`, warm",
        ),
    ]
    section.extras = [
        Row(
            "launcher, empty script",
            "",
            Summary.of(result.launcher),
            "`python BUNDLE/run.py empty.py`",
        ),
        Row("bare interpreter", "", Summary.of(result.interpreter), "`ENV/bin/python empty.py`"),
    ]
    section.claims = jobs_claims(result)
    return section


def jobs_claims(result: JobsResult) -> list[Claim]:
    ours = Summary.of(result.ours).median
    sides = {
        "ten uv run": result.uv_run,
        "ten uv run, warm": result.uv_run_warm,
        "ten uv run, warm, two at a time": result.uv_run_parallel,
    }
    ratios = {name: ours / Summary.of(samples).median for name, samples in sides.items()}
    parallel = [
        Claim(
            f"ten jobs, two at a time: at most {JOBS_LIMIT} of {name}",
            f"{ratio:.2f}",
            ratio <= JOBS_LIMIT,
        )
        for name, ratio in ratios.items()
    ]
    milliseconds = f"{result.overhead * 1000:.1f} ms"
    return [
        *parallel,
        Claim("launcher overhead at most 30 ms", milliseconds, result.overhead <= OVERHEAD_LIMIT),
        Claim("no new files per job", f"{result.new_files}", result.new_files == 0),
        Claim("one environment in all", f"{result.environments}", result.environments == 1),
    ]


def draw_workload(section: Section) -> dict[str, str]:
    """Draw a workload's chart, sorted, and note its name in the section; file name -> SVG."""
    if not section.rows:
        return {}
    kinds = {Ours.key: "ours", Floor.key: "floor"}
    rows = sorted(section.rows, key=lambda row: row.summary.median)
    bars = [chart.Bar(row.name, row.summary, kinds.get(row.name, "bar")) for row in rows]
    section.chart = f"benchmarks-{section.key}.svg"
    title = f"Workload {section.key}, cold: seconds until the result is there (median, min to max)"
    return {section.chart: chart.draw(title, bars, section.rows[0].summary.median)}


def draw_jobs(section: Section) -> dict[str, str]:
    if not section.rows:
        return {}
    bars = [
        chart.Bar(row.name, row.summary, "ours" if row.name == Ours.key else "bar")
        for row in section.rows
    ]
    section.chart = "benchmarks-jobs.svg"
    title = f"{JOBS} plot jobs, warm: seconds (median, min to max)"
    return {section.chart: chart.draw(title, bars, section.rows[0].summary.median, "uv run")}


def write_page(page: Path, sections: list[Section], charts: dict[str, str]) -> None:
    """Write the measured sections into the page and the charts beside it; the rest of the page
    stays.
    """
    text = page.read_text(encoding="utf-8") if page.exists() else report.PAGE
    makes = {tool.key: tool.makes for tool in ALL}
    notes = {tool.key: tool.note for tool in ALL}
    text = report.replace_section(text, "tools", report.tools_section(makes, notes, NOT_RUN))
    for section in sections:
        text = report.replace_section(text, section.key, report.render(section))
    page.write_text(text, encoding="utf-8")
    for name, svg in charts.items():
        (page.parent / name).write_text(svg, encoding="utf-8")
    say(f"wrote {page}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
