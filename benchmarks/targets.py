"""Three targets in one build against each of them alone, in turns, all caches cold.

    python benchmarks/targets.py                     three rounds, of workload S
    python benchmarks/targets.py --workload M --runs 5
    python benchmarks/targets.py --write             also put table and chart into docs/benchmarks.md

It asks the index, and needs a development environment of the project. Exit status: 1 when the claim does not hold.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import report
from chart import Bar, draw
from measure import Place, Sample, Summary, run
from workload import HERE

KEY = "targets"
LIMIT = 2.0  # of the slowest single target
PYTHON = "3.12"
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "x86_64-pc-windows-msvc")
TOGETHER = "all three"
DEFAULT_PAGE = HERE.parent / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=["S", "M"], default="S")
    parser.add_argument("--runs", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument(
        "--write", type=Path, nargs="?", const=DEFAULT_PAGE, metavar="PAGE", help="write into PAGE"
    )
    parser.add_argument(
        "--bin", type=Path, default=Path(sys.executable).parent, help="where our programs are"
    )
    parser.add_argument(
        "--directory", type=Path, help="where to work (default: the temporary directory)"
    )
    arguments = parser.parse_args()
    workspace = Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.directory))
    try:
        samples, sizes = measure(arguments.bin, arguments.workload, arguments.runs, workspace)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    ratio = median_ratio(samples)
    text = render(arguments.workload, arguments.runs, samples, sizes, ratio)
    print(text)
    if arguments.write:
        report.publish(arguments.write, KEY, text, chart(samples))
    return int(ratio > LIMIT)


def measure(
    programs: Path, workload: str, rounds: int, workspace: Path
) -> tuple[dict[str, list[Sample]], dict[str, int]]:
    """Samples of each build, and bytes of the bundle that it made."""
    samples: dict[str, list[Sample]] = {}
    sizes: dict[str, int] = {}
    builds = {platform: (platform,) for platform in PLATFORMS} | {TOGETHER: PLATFORMS}
    for number in range(1, rounds + 1):
        for name, platforms in builds.items():
            place = Place.make(workspace / f"{number}-{name.replace(' ', '-')}")
            command = [
                str(programs / "build-offline-bundle"),
                str(HERE / "workloads" / f"{workload}.py"),
            ]
            command += ["--output", str(place.out), "--python-version", PYTHON, "--quiet"]
            command += [part for platform in platforms for part in ("--python-platform", platform)]
            index = os.environ.get("UV_DEFAULT_INDEX")
            sample = run(command, place.environment([programs], index), place.work)
            samples.setdefault(name, []).append(sample)
            sizes[name] = sum(
                path.stat().st_size for path in place.out.rglob("*") if path.is_file()
            )
            place.remove()
            print(f"{number}/{rounds} {name}: {sample.wall:.2f} s", file=sys.stderr, flush=True)
    return samples, sizes


def median_ratio(samples: dict[str, list[Sample]]) -> float:
    """Median over the rounds of: all three, to the slowest of the single ones in the same round."""
    alone = zip(*(samples[platform] for platform in PLATFORMS), strict=True)
    slowest = [max(sample.wall for sample in group) for group in alone]
    return statistics.median(
        sample.wall / limit for sample, limit in zip(samples[TOGETHER], slowest, strict=True)
    )


def render(
    workload: str,
    rounds: int,
    samples: dict[str, list[Sample]],
    sizes: dict[str, int],
    ratio: float,
) -> str:
    about = f"{rounds} rounds in turns, workload {workload}, Python {PYTHON}, caches cold."
    lines = [
        f"{report.today()}, {about} Machine: {report.machine()}.",
        "",
        "| targets | median | fastest to slowest | CPU | bundle |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, of_name in samples.items():
        summary = Summary.of(of_name)
        lines.append(
            f"| {name} | {summary.median:.2f} s | {summary.low:.2f} to {summary.high:.2f} s "
            f"| {summary.cpu:.2f} s | "
            f"{sizes[name] / 1e6:.0f} MB |"
        )
    verdict = "holds" if ratio <= LIMIT else "does not hold"
    measured = f"All three take {ratio:.2f} times the slowest single one of their round (median)"
    lines += ["", f"{measured}; promised: at most {LIMIT}: {verdict}."]
    return "\n".join(lines)


def chart(samples: dict[str, list[Sample]]) -> str:
    summaries = {name: Summary.of(of_name) for name, of_name in samples.items()}
    slowest = max(summary.median for name, summary in summaries.items() if name != TOGETHER)
    bars = [
        Bar(name, summary, "ours" if name == TOGETHER else "bar")
        for name, summary in summaries.items()
    ]
    return draw("One build for three targets, and for each alone", bars, slowest, "one")


if __name__ == "__main__":
    sys.exit(main())
