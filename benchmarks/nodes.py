"""Plot jobs on several nodes of a real Slurm, each with a cache and mounts of its own.

    python benchmarks/nodes.py                     200 jobs on four nodes, as root, with Slurm
    python benchmarks/nodes.py --jobs 20 --write   also put table and chart into docs/benchmarks.md

All nodes are this machine: the jobs share its processors. Each node has an empty cache in memory and
sees the bundle read-only. Exit status: 0 when the claims hold.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import report
import scale
import share
from chart import Bar, draw
from measure import Summary
from report import Claim

from tests.support.slurm import SlurmCluster

KEY = "nodes"
FORMATS = ("index", "venv", "image")
NODES = 4
CPUS = 2  # of each node, by its configuration
MOUNTS = """\
mount --make-rprivate / &&
mount --bind '{bundle}' '{bundle}' && mount -o remount,bind,ro '{bundle}' &&
mount -t tmpfs -o size=1g,mode=0700 cache '{cache}'"""


@dataclass(frozen=True)
class Found:
    """What the jobs of one format took."""

    seconds: float
    by_node: dict[str, int]
    failed: int
    environments: list[int]  # of each node


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=200, help="jobs per format (default: 200)")
    parser.add_argument("--write", action="store_true", help="write into docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nodes-") as name:
        found = {form: measure(Path(name), form, arguments.jobs) for form in FORMATS}
    claims = [claim for form, one in found.items() for claim in claims_of(form, one)]
    text = render(found, claims, arguments.jobs)
    print(text)
    if arguments.write:
        bars = [Bar(form, Summary.of_walls([one.seconds]), "ours") for form, one in found.items()]
        title = f"{arguments.jobs} plot jobs on {NODES} nodes: seconds until the last has ended"
        report.publish(scale.PAGE, KEY, text, draw(title, bars, None))
    return int(not all(claim.holds for claim in claims))


def measure(folder: Path, form: str, jobs: int) -> Found:
    """Run the jobs on a new cluster."""
    bundle = share.build(folder, form)
    work, cache = folder / form, folder / f"cache-{form}"
    work.mkdir()
    cache.mkdir(mode=0o700)
    scale.say(f"{jobs} jobs with {form}")
    mounts = MOUNTS.format(bundle=bundle, cache=cache)
    with SlurmCluster(work / "slurm", nodes=NODES, cpus=CPUS, mounts=mounts) as cluster:
        variables = {**scale.environment(), **cluster.variables, "OFFLINE_BUNDLE_CACHE": str(cache)}
        variables["PATH"] = f"{scale.plain_python(work)}{os.pathsep}{variables['PATH']}"
        command = [sys.executable, "-m", "offline_bundle", "submit", str(scale.EXAMPLE)]
        command += ["--engine", "slurm", "--bundle", str(bundle), "-j", str(jobs), "-q"]
        begin = time.perf_counter()
        subprocess.run([*command, "--download", "out"], check=False, cwd=work, env=variables)
        seconds = time.perf_counter() - begin
        count = f"ls -d '{cache}'/environments/*/complete.json 2>/dev/null | wc -l"
        environments = [int(cluster.run_on_node(node, count)) for node in cluster.nodes]
    records = [json.loads(path.read_text()) for path in (work / "out").glob("job-*/.job.json")]
    by_node = Counter(str(record.get("node")) for record in records)
    plots = len(list((work / "out").glob("job-*/plot.png")))
    return Found(seconds, dict(sorted(by_node.items())), jobs - plots, environments)


def claims_of(form: str, found: Found) -> list[Claim]:
    counts = ", ".join(map(str, found.environments))
    return [
        Claim(f"{form}: each job leaves its plot", f"{found.failed} do not", found.failed == 0),
        Claim(f"{form}: one environment per node", counts, found.environments == [1] * NODES),
    ]


def render(found: dict[str, Found], claims: list[Claim], jobs: int) -> str:
    lines = [
        f"{jobs} jobs of the plot example on {NODES} nodes with {CPUS} CPUs each by their "
        f"configuration, {report.today()}. Machine, for all nodes: {report.machine()}. Under Slurm "
        "an image is unpacked on each node. The time includes that, submission and collection.",
        "",
        "| format | seconds | jobs per second | jobs of each node | environments of each node |",
        "|---|--:|--:|---|---|",
    ]
    for form, one in found.items():
        nodes = ", ".join(map(str, one.by_node.values()))
        environments = ", ".join(map(str, one.environments))
        rate = jobs / one.seconds
        lines.append(f"| {form} | {one.seconds:.1f} | {rate:.1f} | {nodes} | {environments} |")
    lines += ["", "| claim | measured | holds |", "|---|---|---|"]
    lines += [
        f"| {claim.text} | {claim.measured} | {'yes' if claim.holds else '**no**'} |"
        for claim in claims
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
