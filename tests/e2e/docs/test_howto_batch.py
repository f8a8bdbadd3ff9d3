"""The commands of the pages on Slurm and Grid Engine, as they are written, on real clusters.

Those on PBS run with simulated commands: there is no server of it.

Replaced: 1,000 jobs by three, and the names of the queue and of a job.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.bundles import BundleScript, make_bundle
from tests.support.grid_engine import GridEngine
from tests.support.howto_cases import commands, place
from tests.support.pages import type_in
from tests.support.pbs import SimulatedPbs
from tests.support.slurm import SlurmCluster

__all__ = ["place"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("page", "kind", "queue"),
    [("slurm.md", SlurmCluster, "main"), ("grid-engine.md", GridEngine, "main.q")],
)
def test_commands_run_as_written(
    page: str, kind: type[SlurmCluster | GridEngine], queue: str, place: Path
) -> None:
    shared = place.parent / "shared"
    body = "import time\ntime.sleep(5)\nopen('plot.png', 'w').close()\n"
    bundle = make_bundle(shared / "uvcache", {"eval": BundleScript(body=body)})
    shutil.copy(bundle / "scripts" / "eval.py", place)
    submit, wait, *others = [line for line in commands(page) if "solve.py" not in line]
    submit = submit.replace("-j 1000", "-j 3").replace("long.q", queue).replace("long", queue)
    with kind(place.parent / "cluster") as cluster:
        path = f"{cluster.variables['PATH']}{os.pathsep}{Path(sys.executable).parent}"
        variables = {**cluster.variables, "PATH": path}
        line = submit.replace("/shared/", f"{shared}/")
        done = type_in([f"{line} --no-wait"], place, **variables)
        assert done.returncode == 0, done.stderr
        plan = json.loads((shared / "results/.submission/submission.json").read_text())
        job = str(plan["details"]["arrays"][0][0])
        for line in [*others, wait]:  # while the jobs run, then until they have ended
            command = line.replace("/shared/", f"{shared}/").replace("4711", job)
            done = type_in([command], place, **variables)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert len(others) == 2
    assert len(list(shared.glob("results/job-*/plot.png"))) == 3


def test_commands_on_pbs_run_as_written(place: Path) -> None:
    shared = place.parent / "shared"
    body = "open('plot.png', 'w').close()\n"
    bundle = make_bundle(shared / "uvcache", {"eval": BundleScript(body=body)})
    shutil.copy(bundle / "scripts" / "eval.py", place)
    [submit] = commands("pbs.md")
    cluster = SimulatedPbs(place.parent / "cluster")
    path = f"{cluster.variables['PATH']}{os.pathsep}{Path(sys.executable).parent}"
    line = submit.replace("-j 1000", "-j 3").replace("queue long", "queue workq")
    line = line.replace("/shared/", f"{shared}/")
    done = type_in([line], place, **{**cluster.variables, "PATH": path})
    assert done.returncode == 0, done.stderr
    assert len(list(shared.glob("results/job-*/plot.png"))) == 3
