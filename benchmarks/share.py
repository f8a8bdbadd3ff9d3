"""What starts ask of the share, for each format: opens, other calls that name a file, bytes.

    python benchmarks/share.py            as root where FUSE needs it
    python benchmarks/share.py --write    also put table and chart into docs/benchmarks.md

strace counts the system calls of all processes of a start: the launcher, uv, squashfuse and the
job. Links into the bundle count as the bundle. Exit status: 0 when the claim holds.
"""

import argparse
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import report
import scale
from chart import Bar, counted, draw
from measure import Summary

from offline_bundle.wheelhouse.runtime.launcher.images.mount import unmount

KEY = "share"
MOST_FILES = 20
MOST_GROWTH = 0.30
FORMATS = {
    "index": ("index", {}),
    "venv": ("venv", {}),
    "image, squashfuse": ("image", {}),
    "image, unsquashfs": ("image", {"SLURM_JOB_ID": "1"}),  # jobs of a scheduler unpack
}
STARTS = ("first start", "next start")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write into docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="share-") as name:
        folder = Path(name)
        path = f"{scale.plain_python(folder)}{os.pathsep}{os.environ['PATH']}"
        found: dict[tuple[str, str], scale.Traffic] = {}
        for title, (form, variables) in FORMATS.items():
            bundle = build(folder, form)
            found |= {
                (title, start): traffic
                for start, traffic in trace(folder, bundle, {**variables, "PATH": path}).items()
            }
        growth = size_of(build(folder, "index") / "bytecode") / size_of(
            folder / "bundle-index/wheels"
        )
    text, holds = render(found, growth)
    print(text)
    if arguments.write:
        bars = [
            Bar(f"{title}, {start.split()[0]}", Summary.of_walls([asked(traffic)]), "ours")
            for (title, start), traffic in found.items()
        ]
        chart = draw("Calls to the share that name a file", bars, None, speak=counted)
        report.publish(scale.PAGE, KEY, text, chart)
    return int(not holds)


@cache
def build(folder: Path, form: str) -> Path:
    """A bundle of the plot example."""
    bundle = folder / f"bundle-{form}"
    scale.say(f"building a bundle with {form}")
    command = [sys.executable, "-m", "offline_bundle", "build", str(scale.EXAMPLE)]
    command += ["-o", str(bundle), "--format", form, "-q"]
    scale.subprocess.run(command, check=True, env=scale.environment())
    return bundle


def trace(folder: Path, bundle: Path, variables: dict[str, str]) -> dict[str, scale.Traffic]:
    """What the first and the next start on a node ask of the bundle."""
    cache_folder = folder / "cache"
    command = ["python3", str(bundle / "run.py"), str(scale.EXAMPLE)]
    found = {}
    for start in STARTS:
        work = folder / "work"
        work.mkdir()
        names = {**variables, "OFFLINE_BUNDLE_CACHE": str(cache_folder)}
        found[start] = scale.trace(command, bundle, work, names)
        assert (work / "plot.png").exists()
        shutil.rmtree(work)
    for home in (cache_folder / "environments").glob("*"):
        unmount(str(home))
    shutil.rmtree(cache_folder)
    return found


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def asked(traffic: scale.Traffic) -> int:
    return traffic.opens + traffic.looks


def render(found: dict[tuple[str, str], scale.Traffic], growth: float) -> tuple[str, bool]:
    lines = [
        f"The plot example, {report.today()}. strace follows all processes of a start, and of "
        "squashfuse until it ends.",
        "",
        "| format | start | opens | other calls that name a file | files read | bytes |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for (title, start), traffic in found.items():
        cells = (title, start, f"{traffic.opens:,}", f"{traffic.looks:,}")
        lines.append(
            f"| {' | '.join(cells)} | {len(traffic.files):,} | {scale.amount(traffic.size)} |"
        )
    lines += ["", "| claim | measured | holds |", "|---|---|---|"]
    holds = True
    for title in FORMATS:
        if title.startswith("image"):
            files = len(found[title, STARTS[0]].files)
            holds &= files <= MOST_FILES
            word = "yes" if files <= MOST_FILES else "**no**"
            claim = f"the first start with {title} reads at most {MOST_FILES} files"
            lines.append(f"| {claim} | {files} | {word} |")
    holds &= growth <= MOST_GROWTH
    word = "yes" if growth <= MOST_GROWTH else "**no**"
    claim = f"bytecode of numpy and matplotlib takes at most {MOST_GROWTH:.2f} of their wheels"
    lines.append(f"| {claim} | {growth:.2f} | {word} |")
    return "\n".join(lines), holds


if __name__ == "__main__":
    sys.exit(main())
