"""Jobs on several nodes of a real Slurm, each with a mount namespace and a cache of its own.

The bundle is read-only on the nodes. Each node's cache is a small file system in memory.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.cli import run_command_line
from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from tests.support.bundles import BundleScript, make_bundle
from tests.support.slurm import SlurmCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click

BODY = """
import alpha, json, os, time
n = json.load(open("input_parameters.json"))["n"]
time.sleep(0.2)
with open("output_parameters.json", "w") as stream:
    json.dump({"square": n * n, "node": os.environ["SLURMD_NODENAME"]}, stream)
"""
# private: what one node mounts, the others and this machine do not see
MOUNTS = """\
mount --make-rprivate / &&
mount --bind '{bundle}' '{bundle}' && mount -o remount,bind,ro '{bundle}' &&
mount -t tmpfs -o size=32m,mode=0700 cache '{cache}'"""


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "share" / "bundle", {"eval": BundleScript(body=BODY)})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def start_cluster(
    own_home: Path,
    bundle: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[int], SlurmCluster]]:
    """Return a function that starts a cluster with so many nodes, and makes the user one of it."""
    del own_home  # which clears the environment first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(cache))
    shutil.copy(bundle / "scripts" / "eval.py", tmp_path / "eval.py")
    clusters: list[SlurmCluster] = []

    def start(nodes: int) -> SlurmCluster:
        mounts = MOUNTS.format(bundle=bundle, cache=cache)
        folder = tmp_path / "slurm"
        cluster = SlurmCluster(folder, nodes=nodes, cpus=2, mounts=mounts, node_timeout=5)
        clusters.append(cluster.__enter__())
        for name, value in cluster.variables.items():
            monkeypatch.setenv(name, value)
        return cluster

    yield start
    for cluster in clusters:
        cluster.__exit__()


def submit(bundle: Path, count: int, *options: object) -> int:
    values = Path("values.csv")
    values.write_text("n\n" + "".join(f"{number}\n" for number in range(1, count + 1)))
    asked = ["--engine", "slurm", "--bundle", bundle, "--values", values, "--download", "out"]
    return run(submit_command, "eval.py", *asked, "-q", *options)


def records() -> list[dict[str, object]]:
    """Return the records of all jobs, in order."""
    return [json.loads(path.read_text()) for path in sorted(Path("out").glob("job-*/.job.json"))]


def check_values(count: int) -> Counter[str]:
    """Check the values of all jobs; return how many ran on each node."""
    nodes: Counter[str] = Counter()
    for number in range(1, count + 1):
        output = Path("out") / f"job-{number:04d}" / "output_parameters.json"
        value = json.loads(output.read_text())
        assert value["square"] == number**2
        nodes[value["node"]] += 1
    return nodes


def environments(cluster: SlurmCluster, cache: Path) -> list[int]:
    """Return how many complete environments each node's cache has."""
    command = f"ls -d '{cache}'/environments/*/complete.json | wc -l"
    return [int(cluster.run_on_node(node, command)) for node in cluster.nodes]


def test_each_node_makes_one_environment(
    start_cluster: Callable[[int], SlurmCluster], bundle: Path, cache: Path
) -> None:
    cluster = start_cluster(2)
    assert submit(bundle, 12) == 0
    nodes = check_values(12)
    assert set(nodes) == set(cluster.nodes)
    assert environments(cluster, cache) == [1, 1]
    assert list(cache.iterdir()) == []  # that of this machine, which is no node


@pytest.mark.slow
def test_200_jobs_on_four_nodes(
    start_cluster: Callable[[int], SlurmCluster], bundle: Path, cache: Path
) -> None:
    cluster = start_cluster(4)
    assert submit(bundle, 200) == 0
    nodes = check_values(200)
    assert set(nodes) == set(cluster.nodes)
    assert environments(cluster, cache) == [1, 1, 1, 1]


@pytest.mark.slow
def test_200_jobs_outlast_every_trouble(
    start_cluster: Callable[[int], SlurmCluster],
    bundle: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A full disk, a vanished share, a killed node and a restarted controller lose no job."""
    cluster = start_cluster(4)
    cluster.run_on_node("n1", f"head -c 64m /dev/zero >'{cache}/full' || true")
    cluster.run_on_node("n2", f"mount -t tmpfs -o size=1m,ro gone '{bundle}'")
    assert submit(bundle, 200, "--no-wait", "--slurm-option", "requeue") == 0
    codes: list[int] = []
    waiting = threading.Thread(
        target=lambda: codes.append(run(jobs_command, "out", "--wait", "-q"))
    )
    waiting.start()
    wait_for_ends(20, seconds=300)
    cluster.kill_node("n3")
    cluster.kill_controller()
    time.sleep(3)
    cluster.start_controller()
    time.sleep(8)
    cluster.start_node("n3")
    waiting.join(1200)
    assert not waiting.is_alive()
    assert len(records()) == 200
    # a kill also takes the controller's memory of tasks that it had just taken
    failed = [record for record in records() if record.get("code") != 0]
    assert {record["state"] for record in failed} <= {"node failed", "lost"}
    capsys.readouterr()
    if codes != [0]:
        assert run(jobs_command, "out", "--retry-failed", "-q") == 0
    nodes = check_values(200)
    assert set(nodes) == {"n3", "n4"}


def wait_for_ends(count: int, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while len(records()) < count:
        assert time.monotonic() < limit
        time.sleep(0.5)
