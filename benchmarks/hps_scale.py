"""How the embedded HPS takes many jobs: no-ops, each in a process of its own, created, counted and
evaluated.

    python benchmarks/hps_scale.py [--slots N] [--write] [--plots] [JOBS...]          by default 1000 10000

--write puts the tables into docs/benchmarks.md. Per number of jobs, on a fresh server in a process of its own: seconds
to create them with the real client (1,000 to a request), milliseconds to read a project's statistics with all of them
there, seconds to evaluate, and the server's CPU time and largest memory. Growth is linear where the figures per job
stay the same from row to row.

Then ten plot jobs end to end, server start included, beside the same ten through `offline-bundle run`, in turns: for
this the bundle of examples/python_uv/eval.py is built first. --plots measures only them; the table above theirs in the
page stays.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import report
from chart import Bar, draw
from measure import Summary

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_OP = b"""
from ansys.rep.evaluator.task_manager import ApplicationExecution
class NoOp(ApplicationExecution):
    def execute(self):
        pass
"""
BATCH = 1000
ROUNDS = 5
COMMAND = (sys.executable, "-m", "offline_bundle")
PLOT = ROOT / "examples" / "python_uv" / "eval.py"
_PLOTS = "Ten plots, end to end."
COLUMNS = (
    *(
        "jobs",
        "create",
        "per 1,000",
        "statistics",
        "evaluate",
        "per job",
        "first fifth",
        "last fifth",
    ),
    *("server's CPU per job", "its memory", "on disk"),
)


def serve(data: str, slots: int) -> None:
    """Serve until standard input ends; then tell largest memory and seconds of CPU, of this process
    alone.
    """
    from offline_bundle.runner.hps_server import EmbeddedHps  # noqa: PLC0415 - the other process has no need of it

    software = {"none": {"version": "1"}}
    with EmbeddedHps(Path(data), slots=slots, software=software) as hps:
        print(json.dumps([hps.url, hps.username, hps.password]), flush=True)
        sys.stdin.read()
        own = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps([own.ru_maxrss * 1024, own.ru_utime + own.ru_stime]), flush=True)


def measure(jobs: int, slots: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="hps-scale-") as folder:
        command = [sys.executable, __file__, "--serve", folder, "--slots", str(slots)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin
            assert server.stdout
            url, username, password = json.loads(server.stdout.readline())
            found = drive(url, username, password, jobs)
            server.stdin.close()
            found["memory"], found["cpu"] = json.loads(server.stdout.readline())
            found["disk"] = float(
                sum(path.lstat().st_blocks * 512 for path in Path(folder).rglob("*"))
            )
    return found


def drive(url: str, username: str, password: str, jobs: int) -> dict[str, float]:
    """Submit with the real client and wait."""
    from ansys.hps.client import Client  # noqa: PLC0415 - the same
    from ansys.hps.client.jms import (  # noqa: PLC0415 - the same
        File,
        JmsApi,
        Job,
        JobDefinition,
        Project,
        ProjectApi,
        TaskDefinition,
    )

    client = Client(url, username, password, verify=False)
    jms = JmsApi(client)
    project = jms.create_project(Project(name="no-ops", active=False))
    api = ProjectApi(client, project.id)
    script = api.create_files(
        [File(name="exec_script", evaluation_path="exec.py", src=io.BytesIO(NO_OP))]
    )[0]
    task = TaskDefinition(
        name="no-op",
        execution_level=0,
        max_execution_time=60.0,
        use_execution_script=True,
        execution_script_id=script.id,
    )
    ids = [api.create_task_definitions([task])[0].id]
    definition = api.create_job_definitions(
        [JobDefinition(name="no-op", active=True, task_definition_ids=ids)]
    )[0]

    begun = time.perf_counter()
    for start in range(0, jobs, BATCH):
        batch = [
            Job(name=f"job {number}", eval_status="pending", job_definition_id=definition.id)
            for number in range(start, min(start + BATCH, jobs))
        ]
        api.create_jobs(batch, as_objects=False)
    creating = time.perf_counter() - begun

    asking = []
    for _ in range(50):
        begun = time.perf_counter()
        jms.get_projects(id=project.id, statistics=True)
        asking.append(time.perf_counter() - begun)

    project.active = True
    begun = time.perf_counter()
    jms.update_project(project)
    seen = [(0.0, 0)]
    while seen[-1][1] < jobs:
        time.sleep(0.5)
        states = jms.get_projects(id=project.id, statistics=True)[0].statistics["eval_status"]
        seen.append(
            (
                time.perf_counter() - begun,
                states["evaluated"] + states["failed"] + states["timeout"],
            )
        )
    assert states["evaluated"] == jobs, states
    return {
        "create": creating,
        "statistics": statistics.median(asking),
        "evaluate": seen[-1][0],
        "first": pace([mark for mark in seen if mark[1] <= jobs * 0.2]),
        "last": pace([mark for mark in seen if mark[1] >= jobs * 0.8]),
    }


def pace(marks: list[tuple[float, int]]) -> float:
    """Seconds per job between the first and the last of these moments."""
    return (marks[-1][0] - marks[0][0]) / max(1, marks[-1][1] - marks[0][1])


def scale_table(sizes: list[int], slots: int) -> Iterator[str]:
    """Yield the lines of the table, each when it is there."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'|'.join('--:' for _ in COLUMNS)}|"
    for jobs in sizes:
        found = measure(jobs, slots)
        cells = (
            f"{jobs:,}",
            f"{found['create']:.1f} s",
            f"{found['create'] / jobs * 1000:.2f} s",
            f"{found['statistics'] * 1000:.1f} ms",
            f"{found['evaluate']:.0f} s",
            f"{found['evaluate'] / jobs * 1000:.1f} ms",
            f"{found['first'] * 1000:.1f} ms",
            f"{found['last'] * 1000:.1f} ms",
            f"{found['cpu'] / jobs * 1000:.1f} ms",
            f"{found['memory'] / 1e6:.0f} MB",
            f"{found['disk'] / 1e6:.0f} MB",
        )
        yield f"| {' | '.join(cells)} |"


def plot_jobs(slots: int) -> dict[str, Summary]:
    """Compare ten plot jobs through the embedded HPS with the same ten through `run`; both warm."""
    with tempfile.TemporaryDirectory(prefix="hps-plots-") as name:
        folder = Path(name)
        bundle = folder / "bundle"
        subprocess.run([*COMMAND, "build", PLOT, "-o", bundle, "-q"], check=True)
        ways = {
            "`offline-bundle run -j 10`": [
                "run",
                PLOT,
                "--bundle",
                bundle,
                "-j",
                "10",
                "--parallel",
                str(slots),
            ],
            "`offline-bundle submit --embedded -j 10`": [
                "submit",
                PLOT,
                "--bundle",
                bundle,
                "--embedded",
                "-j",
                "10",
            ],
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        subprocess.run(
            [*COMMAND, "run", PLOT, "--bundle", bundle, "-q"], cwd=folder, check=True
        )  # the environment
        for turn in range(ROUNDS):
            for number, (way, words) in enumerate(ways.items()):
                target = folder / f"{turn}-{number}"
                last = (
                    ["--output", target]
                    if words[0] == "run"
                    else ["--output", "plot.png", "--download", target]
                )
                begun = time.perf_counter()
                subprocess.run([*COMMAND, *words, *last, "-q"], cwd=folder, check=True)
                seconds[way].append(time.perf_counter() - begun)
                assert len(list(target.glob("*/plot.png"))) == 10
    return {way: Summary.of_walls(found) for way, found in seconds.items()}


def plot_table(summaries: dict[str, Summary]) -> Iterator[str]:
    yield "| ten plot jobs | min | median | max | ÷ run |"
    yield "|---|--:|--:|--:|--:|"
    base = next(iter(summaries.values())).median
    for way, found in summaries.items():
        yield f"| {way} | {found.low:.2f} | **{found.median:.2f}** | {found.high:.2f} | {found.median / base:.2f} |"


def chart(summaries: dict[str, Summary]) -> str:
    bars = [
        Bar(way.strip("`").split()[1], each, "floor" if " run " in way else "ours")
        for way, each in summaries.items()
    ]
    return draw(
        "Ten plot jobs: run -j 10, and submit --embedded -j 10", bars, bars[0].summary.median, "run"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", nargs="*", type=int, default=[1000, 10_000])
    parser.add_argument("--slots", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--write", action="store_true", help="write the tables into docs/benchmarks.md"
    )
    parser.add_argument("--plots", action="store_true", help="only the ten plots")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.slots)
        return
    os.environ["HOME"] = tempfile.mkdtemp(prefix="hps-scale-home-")
    page = ROOT / "docs" / "benchmarks.md"
    when = f"{report.today()}. Machine: {report.machine()}."
    lines = []
    if not options.plots:
        lines = [f"No-op jobs, {options.slots} at a time. {when}", ""]
        for line in scale_table(options.jobs, options.slots):
            print(line, flush=True)
            lines.append(line)
    elif options.write:
        before, _, _ = report.section(page, "hps").partition(_PLOTS)
        lines = before.strip().splitlines()
    plots = plot_jobs(options.slots)
    compared = ["", f"{_PLOTS} {when}", "", *plot_table(plots)]
    print(*compared, sep="\n")
    if options.write:
        report.publish(page, "hps", "\n".join([*lines, *compared]), chart(plots))


if __name__ == "__main__":
    main()
