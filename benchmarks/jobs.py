"""Ten plot jobs and the launcher: the other half of the promise, measured on the running side."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from measure import Place, RunError, Sample, run, run_all
from workload import HERE

from tools import Bench, Ours

JOBS = 10
PARALLEL = 2
LAUNCHES = 31
RESULT = "eval.png"
PLOT = HERE / "workloads" / "S.py"
EMPTY = HERE / "workloads" / "empty.py"


@dataclass
class JobsResult:
    """Times of ten jobs each way, and what ours left behind."""

    uv_run: list[Sample] = field(default_factory=list)
    uv_run_warm: list[Sample] = field(default_factory=list)
    uv_run_parallel: list[Sample] = field(default_factory=list)
    ours: list[Sample] = field(default_factory=list)
    launcher: list[Sample] = field(default_factory=list)
    interpreter: list[Sample] = field(default_factory=list)
    new_files: int = 0  # outside the jobs' own directories, in all measured calls together
    environments: int = 0

    @property
    def overhead(self) -> float:
        """Seconds that the launcher adds to a start of the bare interpreter: difference of medians."""
        medians = [
            statistics.median(sample.wall for sample in side)
            for side in (self.launcher, self.interpreter)
        ]
        return medians[0] - medians[1]


@dataclass(frozen=True)
class Node:
    """One place to run jobs from a bundle of workload S, with caches of its own that stay warm."""

    bench: Bench
    ours: Ours
    bundle: Path
    place: Place
    environment: dict[str, str]

    def ten_jobs(self, name: str) -> Sample:
        """Run ten jobs, two at a time, with `offline-bundle run`."""
        output = self.place.work / name
        command = [
            *[
                str(self.ours.directory / "offline-bundle"),
                "run",
                str(PLOT),
                "--bundle",
                str(self.bundle),
            ],
            *["-j", str(JOBS), "--parallel", str(PARALLEL), "--output", str(output)],
        ]
        sample = run_all([command], self.environment, self.place.work)
        check_results(output)
        return sample

    def ten_uv_runs(self, name: str, script: Path, parallel: int = 1) -> Sample:
        """Run ten jobs with `uv run`, *parallel* at a time."""
        options = ["run", "--quiet", "--offline", "--no-index", "--find-links"]
        command = [str(self.bench.uv), *options, str(self.bundle / "wheels"), str(script)]

        def run_one(number: int) -> Sample:
            directory = self.place.work / name / str(number)
            temporary = directory / "tmp"
            temporary.mkdir(parents=True)
            return run(command, {**self.environment, "TMPDIR": str(temporary)}, directory)

        start = time.perf_counter()
        with ThreadPoolExecutor(parallel) as pool:
            samples = list(pool.map(run_one, range(JOBS)))
        wall = time.perf_counter() - start
        check_results(self.place.work / name)
        return Sample(wall, sum(sample.cpu for sample in samples))

    def files(self) -> set[Path]:
        """Every file a job may leave behind: caches, home, temporary directory and bundle."""
        tops = (self.place.cache, self.place.home, self.place.temporary, self.bundle)
        return {path for top in tops for path in top.rglob("*")}


def measure_jobs(
    bench: Bench, ours: Ours, root: Path, rounds: int, say: Callable[[str], None]
) -> JobsResult:
    """Build the bundle once, warm both sides up, then measure them in turns. Raises RunError."""
    place, baseline = Place.make(root / "jobs-ours"), Place.make(root / "jobs-uv-run")
    bundle = place.root / "bundle"
    environment = place.environment([ours.directory, *bench.search_path()], bench.index)
    node = Node(bench, ours, bundle, place, environment)
    plain = Node(
        bench, ours, bundle, baseline, baseline.environment(bench.search_path(), bench.index)
    )
    build = [str(ours.directory / "build-offline-bundle"), str(PLOT), "-o", str(bundle), "--no-uv"]
    run(build, environment, place.work)
    result = JobsResult()
    node.ten_jobs("warm-up")
    widened = widened_copy(baseline)
    for name, script in (("warm-up", PLOT), ("warm-up-widened", widened)):
        plain.ten_uv_runs(name, script)
    for number in range(1, rounds + 1):
        result.uv_run.append(plain.ten_uv_runs(f"one-{number}", PLOT))
        before = node.files()
        result.ours.append(node.ten_jobs(f"ours-{number}"))
        result.new_files += len(node.files() - before)
        result.uv_run_warm.append(plain.ten_uv_runs(f"warm-{number}", widened))
        result.uv_run_parallel.append(plain.ten_uv_runs(f"two-{number}", widened, PARALLEL))
        sides = (result.uv_run, result.ours, result.uv_run_warm, result.uv_run_parallel)
        times = ", ".join(f"{side[-1].wall:.2f} s" for side in sides)
        say(
            f"jobs {number}/{rounds}: ten uv run, ours, ten uv run warm, and two at a time: {times}"
        )
    environments = [path.parent for path in place.root.rglob("pyvenv.cfg")]
    result.environments = len(environments)
    if not environments:
        raise RunError("no environment is to be found after the jobs")
    measure_launcher(node, environments[0] / "bin" / "python", result)
    return result


def widened_copy(place: Place) -> Path:
    """Copy the plot job with `requires-python` as uv wants it.

    `==3.12` means 3.12.0 to uv: under any later 3.12 it makes the script's environment anew at every run.
    """
    script = place.root / "eval.py"
    text = PLOT.read_text(encoding="utf-8")
    script.write_text(text.replace('"==3.12"', '"==3.12.*"'), encoding="utf-8")
    return script


def measure_launcher(node: Node, interpreter: Path, result: JobsResult) -> None:
    """Start an empty script by `run.py` and by the environment's own interpreter, in turns."""
    launch = [str(node.bench.python), str(node.bundle / "run.py"), str(EMPTY)]
    bare = [str(interpreter), str(EMPTY)]
    for command in (launch, bare):
        run(command, node.environment, node.place.work)
    for _ in range(LAUNCHES):
        result.launcher.append(run(launch, node.environment, node.place.work))
        result.interpreter.append(run(bare, node.environment, node.place.work))


def check_results(directory: Path) -> None:
    """Raise RunError unless every job drew its plot."""
    found = [path for path in directory.rglob(RESULT) if path.stat().st_size]
    if len(found) != JOBS:
        raise RunError(f"{len(found)} of {JOBS} jobs wrote {RESULT}")
