"""What many jobs cost, and what a start takes from the share: figures for
docs/explanation/scale.md.

    python benchmarks/scale.py [--local N] [--slurm N] [--no-traffic] [--write]       by default 10000 and 1000 jobs

--write puts them into docs/benchmarks.md, with a chart. No-op jobs run by `offline-bundle submit` on this machine and
by a real Slurm, in namespaces of this machine (root only): the cost per job. Then strace counts what the first and what
a later start of the plot example by the launcher ask of the bundle's folder: system calls that name or read a file in
it, and bytes. That bundle is built first, from the package index. 0 jobs leave a part out. All of it takes minutes, and
leaves nothing behind.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import report  # noqa: E402 - beside this file
from chart import Bar, draw  # noqa: E402 - the same
from measure import Summary  # noqa: E402 - the same

from offline_bundle.runner.batch.job_script import ATTEMPTS, LOGS, render_script  # noqa: E402
from offline_bundle.runner.engines.slurm.scheduler import Slurm  # noqa: E402
from offline_bundle.runner.job_files.inputs import INPUTS  # noqa: E402
from offline_bundle.runner.job_files.outputs import plan_outputs  # noqa: E402
from offline_bundle.runner.results.folder import PRIVATE_NAME  # noqa: E402 - after the path above
from tests.support.bundles import BundleScript, make_bundle  # noqa: E402
from tests.support.slurm import SlurmCluster  # noqa: E402

EXAMPLE = ROOT / "examples/python_uv/eval.py"
PAGE = ROOT / "docs/benchmarks.md"
_CALL = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)\)\s+= (-?\d+)")
_OPENED = re.compile(r"^\d+<([^>]*)>")
_NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_READS = {"read", "pread64", "readv", "preadv", "preadv2", "copy_file_range", "sendfile"}
_NAMING = {
    *(
        "openat",
        "open",
        "stat",
        "lstat",
        "newfstatat",
        "statx",
        "access",
        "faccessat2",
        "readlink",
        "readlinkat",
    ),
    *(
        "mkdir",
        "mkdirat",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "symlink",
        "symlinkat",
        "chdir",
    ),
}
_LISTING = {"getdents64"}


@dataclass
class Traffic:
    """What processes asked of a folder."""

    calls: Counter[str] = field(default_factory=Counter)
    size: int = 0
    """Bytes read, those of a mapped file counted as mapped."""
    files: set[str] = field(default_factory=set)
    """Files that were read."""
    seconds: float = 0.0

    @property
    def opens(self) -> int:
        return self.calls["openat"] + self.calls["open"]

    @property
    def looks(self) -> int:
        """Calls that name a file or list a folder and are no opens."""
        return sum(self.calls[name] for name in _NAMING | _LISTING) - self.opens


@dataclass(frozen=True)
class Cost:
    """What jobs by an engine cost, or what stands beside them."""

    title: str
    jobs: int
    seconds: float
    kind: str
    """As for `chart.Bar`."""

    @property
    def per_job(self) -> float:
        return self.seconds / self.jobs

    def row(self) -> str:
        cells = (
            self.title,
            f"{self.jobs:,}",
            f"{self.seconds:.1f} s",
            f"**{self.per_job * 1000:.1f} ms**",
        )
        return f"| {' | '.join(cells)} |"

    def bar(self) -> Bar:
        return Bar(
            f"{self.title.split(',')[0].strip('`')}, {self.jobs:,}",
            Summary.of_walls([self.per_job]),
            self.kind,
        )


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def environment(**changes: str) -> dict[str, str]:
    dropped = ("OFFLINE_BUNDLE", "VIRTUAL_ENV", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | changes


def submit(bundle: Path, folder: Path, jobs: int, engine: str, variables: dict[str, str]) -> Cost:
    """Run no-ops to their end."""
    say(f"{jobs:,} jobs by --engine {engine}")
    script = next((bundle / "scripts").glob("*.py"))
    command = [
        sys.executable,
        "-m",
        "offline_bundle",
        "submit",
        str(script),
        "--bundle",
        str(bundle),
    ]
    options = ["--engine", engine, "-j", str(jobs), "--download", str(folder), "-q"]
    begin = time.perf_counter()
    subprocess.run([*command, *options], check=True, env=environment(**variables))
    seconds = time.perf_counter() - begin
    ended = sum(1 for _ in folder.glob("job-*/.job.json"))
    assert ended == jobs, f"{ended} of {jobs} have ended"
    return Cost(f"{engine}, `submit -q` from its start to its end", jobs, seconds, "ours")


def bare(python: Path, starts: int) -> Cost:
    """Start and end an interpreter of the environment, as many at once as there are cores."""
    say(f"{starts:,} bare starts of the interpreter")
    cores = len(os.sched_getaffinity(0))
    script = f"seq {starts} | xargs -P {cores} -n 1 {python} -c pass"
    begin = time.perf_counter()
    subprocess.run(["sh", "-c", script], check=True)
    return Cost("interpreter, a bare start", starts, time.perf_counter() - begin, "floor")


def sbatch_alone(cluster: SlurmCluster, tasks: int, folder: Path) -> Cost:
    """Run an array that does nothing."""
    say(f"{tasks:,} tasks of Slurm that are `true`")
    script = folder / "true.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    begin = time.perf_counter()
    cluster.ask(
        "sbatch", "--wait", f"--array=1-{tasks}", "--output=/dev/null", str(script), seconds=600
    )
    return Cost("`true`, as tasks of Slurm alone", tasks, time.perf_counter() - begin, "floor")


def measure_jobs(local: int, slurm: int) -> list[Cost]:
    """The costs by each engine and number of jobs, each after what it is to be compared with."""
    from uv import find_uv_bin  # noqa: PLC0415 - not needed for --help

    costs = []
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        bundle = make_bundle(folder / "bundle", {"noop": BundleScript()})
        cache = folder / "cache"
        variables = {"OFFLINE_BUNDLE_CACHE": str(cache), "OFFLINE_BUNDLE_UV": find_uv_bin()}
        submit(bundle, folder / "first", 1, "local", variables)
        [python] = cache.glob("environments/*/env/bin/python")
        if local:
            costs.append(bare(python, 400))
            costs += [
                submit(bundle, folder / f"local-{jobs}", jobs, "local", variables)
                for jobs in (local // 10, local)
            ]
        if slurm:
            say("starting a Slurm")
            with SlurmCluster(folder / "slurm", cpus=4) as cluster:
                variables |= cluster.variables
                variables["PATH"] = f"{plain_python(folder)}{os.pathsep}{variables['PATH']}"
                costs.append(sbatch_alone(cluster, max(1, slurm // 5), folder))
                sizes = (max(1, slurm // 10), slurm)
                costs += [
                    submit(bundle, folder / f"slurm-{jobs}", jobs, "slurm", variables)
                    for jobs in sizes
                ]
    return costs


def plain_python(folder: Path) -> Path:
    """Make a folder whose `python3` is an interpreter: on this machine it may be a script that
    looks for one.
    """
    place = folder / "bin"
    place.mkdir()
    (place / "python3").symlink_to(Path(sys.executable).resolve())
    return place


def measure_traffic() -> list[str]:
    """One row for each kind of start."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        bundle = folder / "bundle"
        command = [
            sys.executable,
            "-m",
            "offline_bundle",
            "build",
            str(EXAMPLE),
            "-o",
            str(bundle),
            "-q",
        ]
        say("building the bundle of the plot example")
        subprocess.run(command, check=True, env=environment())
        size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
        held = sum(1 for path in bundle.rglob("*") if path.is_file())
        launcher = ["python3", str(bundle / "run.py"), str(EXAMPLE)]
        path = f"{plain_python(folder)}{os.pathsep}{os.environ['PATH']}"
        variables = {"OFFLINE_BUNDLE_CACHE": str(folder / "cache"), "PATH": path}
        for title in ("first start on a node", "every further start"):
            work = folder / title
            work.mkdir()
            found = trace(launcher, bundle, work, variables)
            assert (work / "plot.png").exists()
            cells = (
                title,
                f"{found.opens:,}",
                f"{found.looks:,}",
                f"{len(found.files):,}",
                amount(found.size),
            )
            rows.append(f"| {' | '.join(cells)} |")
        made = [
            path
            for path in (folder / "cache").rglob("*")
            if path.is_file() and not path.is_symlink()
        ]
        inside = sum(
            path.stat().st_blocks * 512
            for path in {path.stat().st_ino: path for path in made}.values()
        )
        env = sum(1 for path in (folder / "cache/environments").rglob("*") if path.is_file())
        work = folder / "imports"
        work.mkdir()
        found = trace(launcher, folder / "cache/environments", work, variables)
        cells = (
            "the same start, of the environment instead",
            f"{found.opens:,}",
            f"{found.looks:,}",
        )
        rows.append(f"| {' | '.join((*cells, f'{len(found.files):,}', amount(found.size)))} |")
        found = trace_job(bundle, folder / "results", variables)
        cells = (
            "a job of Slurm, of the folder of its results",
            f"{found.opens:,}",
            f"{found.looks:,}",
        )
        rows.append(f"| {' | '.join((*cells, f'{len(found.files):,}', amount(found.size)))} |")
        rows += [
            "",
            f"The bundle has {held} files, {amount(size)}; the cache of the node "
            f"{amount(inside)}, its ",
        ]
        rows[-1] += f"environment {env:,} files."
    return rows


def trace_job(bundle: Path, results: Path, variables: dict[str, str]) -> Traffic:
    """Run the batch script as Slurm would."""
    private = results / PRIVATE_NAME
    for name in (ATTEMPTS, INPUTS, LOGS):
        (private / name).mkdir(parents=True)
    shutil.copy(EXAMPLE, private / INPUTS)
    script = results.parent / "job.sh"  # Slurm keeps a copy of its own
    script.write_text(
        render_script(
            variables=Slurm.variables,
            folder=results,
            bundle=str(bundle),
            script=EXAMPLE.name,
            jobs=1,
            inputs=[EXAMPLE.name],
            outputs=plan_outputs(["plot.png"]),
        )
    )
    identifiers = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "1", "SLURM_JOB_ID": "2"}
    found = trace(["sh", str(script), "0"], results, results.parent, variables | identifiers)
    assert (results / "job-0001/plot.png").exists()
    return found


def trace(command: list[str], folder: Path, work: Path, variables: dict[str, str]) -> Traffic:
    """Run *command* in *work*; count what it asks of *folder*."""
    say(f"tracing what {Path(command[1]).name} asks of {folder.name}")
    log = work / "trace"
    names = ",".join(
        f"?{name}" for name in sorted(_NAMING | _READS | _LISTING | {"mmap"})
    )  # ?: if this machine has it
    words = [
        shutil.which("strace") or "strace",
        "-f",
        "-y",
        "-qq",
        "-s",
        "4096",
        "-e",
        f"trace={names}",
        "-o",
        str(log),
    ]
    begin = time.perf_counter()
    subprocess.run([*words, *command], cwd=work, env=environment(**variables), check=True)
    found = count_calls(log, folder)
    found.seconds = time.perf_counter() - begin
    return found


def count_calls(log: Path, folder: Path) -> Traffic:
    """Read a trace; calls that strace shows in two pieces are put together."""
    found = Traffic()
    pending: dict[str, str] = {}
    within = os.path.realpath(folder)
    for line in log.read_text(errors="replace").splitlines():
        process, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            pending[process] = call.removesuffix("<unfinished ...>")
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", call)
        call = pending.pop(process, "") + resumed[1] if resumed else call
        match = _CALL.match(call)
        if not match:
            continue
        name, arguments, result = match[1], match[2], int(match[3])
        place = real_path(place_of(name, arguments))
        if place != within and not place.startswith(f"{within}/"):
            continue
        found.calls[name] += 1
        if name in _READS and result > 0:
            found.size += result
            found.files.add(place)
        elif name == "mmap" and "PROT_READ" in arguments:
            found.size += int(arguments.split(", ")[1])
            found.files.add(place)
    return found


@cache
def real_path(path: str) -> str:
    """Resolve links, such as those of an environment into the bundle."""
    return os.path.realpath(path) if path.startswith("/") else path


def place_of(name: str, arguments: str) -> str:
    """The path that a call is about."""
    if name == "mmap":
        mapped = re.search(r", \d+<([^>]*)>, ", arguments)
        return mapped[1] if mapped else ""
    opened = _OPENED.match(arguments)
    if name in _READS | _LISTING:
        return opened[1] if opened else ""
    named = _NAMED.search(arguments)
    folder = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>", arguments)
    path = named[1] if named else ""
    if path:
        return os.path.normpath(Path(folder[1] if folder else "", path))
    return opened[1] if opened else ""


def amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--local", type=int, default=10_000, metavar="N")
    parser.add_argument("--slurm", type=int, default=1000, metavar="N")
    parser.add_argument("--no-traffic", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write and (options.no_traffic or not options.local or not options.slurm):
        parser.error("--write is for the whole of it")
    lines = [f"No-ops, {report.today()}. Machine: {report.machine()}.", ""]
    costs = measure_jobs(options.local, options.slurm) if options.local or options.slurm else []
    if costs:
        lines += [
            "| | jobs | all | per job |",
            "|---|--:|--:|--:|",
            *(cost.row() for cost in costs),
            "",
        ]
    if not options.no_traffic:
        lines += [
            "The plot example with the launcher: requests of its processes to the bundle; "
            "in the last two rows to other folders.",
            "",
        ]
        lines += [
            "| | opens | other calls that name a file | files read | bytes |",
            "|---|--:|--:|--:|--:|",
        ]
        lines += measure_traffic()
    text = "\n".join(lines).rstrip()
    print(text)
    if options.write:
        chart = draw(
            "Time per job: all of it, by the number of jobs", [cost.bar() for cost in costs], None
        )
        report.publish(PAGE, "scale", text, chart)


if __name__ == "__main__":
    main()
