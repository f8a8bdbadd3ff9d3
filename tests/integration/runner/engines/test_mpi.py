"""MPI: a script with mpi4py on two nodes of a real Slurm, with the system's Open MPI."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.builder.cli.build import build_command
from offline_bundle.cli import run_command_line
from offline_bundle.runner.cli.submit import submit_command
from tests.support.howto_cases import commands
from tests.support.programs import HINT, require
from tests.support.slurm import SlurmCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

pytestmark = [pytest.mark.slow, pytest.mark.registry]

SCRIPT = """\
# /// script
# dependencies = ["mpi4py"]
# ///
import json, os, sys
from mpi4py import MPI

world = MPI.COMM_WORLD
made = os.stat(sys.prefix + "/pyvenv.cfg")
ranks = world.gather([world.rank, os.environ["SLURMD_NODENAME"], made.st_dev, made.st_ino])
total = world.allreduce(world.rank)
if world.rank == 0:
    with open("ranks.json", "w") as stream:
        json.dump({"ranks": ranks, "total": total, "library": MPI.Get_library_version()}, stream)
"""
# private: an environment in the cache of one node is not seen by the other
MOUNTS = """\
mount --make-rprivate / && mount -t tmpfs -o mode=0700 cache '{cache}'"""
# all nodes are this machine, whose only network is loopback; root is refused by default
MPI_HERE = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_btl": "tcp,self",
}


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("mpirun")
    folder = tmp_path_factory.mktemp("mpi")
    (folder / "solve.py").write_text(SCRIPT)
    assert run(build_command, folder / "solve.py", "-o", folder / "bundle", "-q") == 0
    return folder / "bundle"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cluster(
    bundle: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SlurmCluster]:
    del bundle  # without it, no cluster is needed
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "mpi.conf").write_text(f"PMIxCliTmpDirBase={cache}\n")  # nodes share /tmp here
    with SlurmCluster(folder, cpus=2, mounts=MOUNTS.format(cache=cache)) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def user(
    own_home: Path,
    cache: Path,
    cluster: SlurmCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user of the cluster, in a folder that the nodes see."""
    del own_home  # which clears the environment first
    monkeypatch.chdir(tmp_path)
    variables = {"OFFLINE_BUNDLE_UV": find_uv_bin(), "OFFLINE_BUNDLE_CACHE": str(cache)}
    for name, value in (variables | cluster.variables | MPI_HERE).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "line", [line for line in commands("slurm.md") if "submit solve.py" in line]
)
def test_ranks_on_two_nodes_share_an_environment_on_each(
    line: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of the page, with `srun` and with `mpirun`; four ranks, as two nodes have here."""
    if "pmix" in line and not any(Path("/usr/lib").glob("*/pmix2/lib/libpmix.so")):
        pytest.skip(f"libpmix.so, which srun loads: not installed; {HINT}")
    paths = {"solve.py": str(bundle / "scripts" / "solve.py"), "/shared/bundle": str(bundle)}
    _, _, *words = shlex.split(line.replace("\\\n", " "))
    words = [paths.get(word, word.replace("8", "4")) for word in words]
    code = run(submit_command, *words, "--output", "ranks.json")
    assert code == 0, capsys.readouterr()
    said = json.loads(Path("solve-results/job-0001/ranks.json").read_text())
    assert "Open MPI" in said["library"]
    assert said["total"] == 0 + 1 + 2 + 3
    ranks = sorted(said["ranks"])
    assert [rank for rank, *_ in ranks] == [0, 1, 2, 3]
    assert {node for _, node, *_ in ranks} == {"n1", "n2"}
    environments = {(node, tuple(made)) for _, node, *made in ranks}
    assert len(environments) == len({made for _, made in environments}) == 2
