"""Jobs through simulated commands of PBS; no server of PBS was tried."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.cli import run_command_line
from offline_bundle.runner.batch.scheduler import End, Queue, SchedulerError
from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from offline_bundle.runner.engines.pbs.scheduler import Pbs
from tests.support.bundles import BundleScript, make_bundle
from tests.support.pbs import SimulatedPbs

if TYPE_CHECKING:
    import click

BODY = """
import alpha, json, time
what = json.load(open("input_parameters.json"))["what"]
print(what, flush=True)
if what == "sleep":
    time.sleep(600)
"""


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = BundleScript(body=BODY)
    return make_bundle(tmp_path_factory.mktemp("bundles") / "bundle", {"eval": script})


@pytest.fixture(autouse=True)
def user(own_home: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del own_home  # which clears the environment first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
    for name, value in SimulatedPbs(tmp_path / "pbs").variables.items():
        monkeypatch.setenv(name, value)
    shutil.copy(bundle / "scripts" / "eval.py", tmp_path / "eval.py")


def submit(bundle: Path, *options: object) -> int:
    engine = ["--engine", "pbs", "--bundle", bundle, "--download", "out"]
    return run(submit_command, "eval.py", *engine, *options)


def test_resources_become_options_of_qsub(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--nodes", 2, "--tasks", 8, "--cores", 2, "--gpus", 1, "--memory", "4GiB"]
    more = ["--max-execution-time", 90, "--queue", "long", "--account", "p1", "--parallel", 3]
    last = ["--pbs-option", "l place=scatter", "--after", "7.sim", "--name", "1 a/b", "--dry-run"]
    assert submit(bundle, *options, *more, *last) == 0
    command, script = capsys.readouterr().out.split("\n\n", 1)
    for words in (
        "-l select=2:ncpus=8:mpiprocs=4:ngpus=1:mem=2097152kb",
        "-l walltime=90 -q long -A p1 -l place=scatter -v",
        "-J 1-10%3 -W depend=afterany:7.sim",
        "-N j1_a_b",
    ):
        assert words in command
    assert "run_with='mpirun -n 8'" in script
    assert not Path("out").exists()


def test_a_job_over_its_time_and_cancelled_jobs(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("values.csv").write_text("what\nfine\nsleep\n")
    assert submit(bundle, "--values", "values.csv", "--max-execution-time", 5) == 8
    assert "1 done, 1 timeout" in capsys.readouterr().out
    shutil.rmtree("out")
    waiting = ["-j", 3, "--set", "what=sleep", "--parallel", 1, "--no-wait"]
    assert submit(bundle, *waiting) == 0
    limit = time.monotonic() + 60
    while not list(Path("out/.submission/attempts").glob("*/console_output.txt")):
        assert time.monotonic() < limit
        time.sleep(0.1)
    capsys.readouterr()
    assert run(jobs_command, "--engine", "pbs", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)["projects"]
    assert listed["id"] == str(Path("out").absolute())
    assert run(jobs_command, listed["scheduler_jobs"][0], "--engine", "pbs", "--json") == 0
    capsys.readouterr()
    assert run(jobs_command, "out", "--cancel", "--json") == 0
    assert json.loads(capsys.readouterr().out)["jobs"]["states"] == {"cancelled": 3}


def test_what_qstat_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenPBS documents it: an array, and a subjob in each state."""
    jobs: dict[str, dict[str, object]] = {
        "12[].s": {"job_state": "B"},
        "12[1].s": {"job_state": "X", "Exit_status": -29, "exec_host": "n1/0*2"},
        "12[2].s": {"job_state": "X", "Exit_status": -27, "exec_host": "n2/1"},
        "12[3].s": {"job_state": "X", "Exit_status": 271},
        "12[4].s": {"job_state": "X", "Exit_status": 1},
        "12[5].s": {"job_state": "R"},
        "12[6].s": {"job_state": "Q"},
        "12[7].s": {"job_state": "F"},
    }
    lines = [
        f"{name}  eval  R Q me  00:00:01 {job['job_state']} workq" for name, job in jobs.items()
    ]
    table = "Job id  Name  User  Time Use S Queue\n------  ----  ----  -------- - -----"
    program = tmp_path / "recorded" / "qstat"
    program.parent.mkdir()
    (program.parent / "json").write_text(json.dumps({"Jobs": jobs}))
    (program.parent / "table").write_text("\n".join([table, *lines, ""]))
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *json*) cat {program.parent}/json ;; *) cat {program.parent}/table ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert Pbs().queue(["12[].s"]) == {"12[].s": Queue(pending=1 << 6, running=1 << 5)}
    assert Pbs().ended("12[].s") == {
        1: End("timeout", "n1"),
        2: End("out of memory", "n2"),
        3: End("cancelled"),
        4: End("failed"),
        7: End(None),
    }
    (program.parent / "table").write_text(f"{table}\n13.s  eval  me  0 Q workq\n")
    assert Pbs().queue(["13.s"]) == {"13.s": Queue(pending=1 << 1)}
    program.write_text("#!/bin/sh\necho 'qstat: Unknown Job Id 12[].s' >&2; exit 153\n")
    assert Pbs().queue(["12[].s"]) == {"12[].s": Queue()}
    assert Pbs().work_directory("12[].s") is None


def test_nodes_cannot_be_excluded_and_a_queue_can_be_unknown(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SchedulerError, match="cannot keep jobs off n1, n2"):
        Pbs().exclude([], ["n1", "n2"])
    assert submit(bundle, "--queue", "nobodys") == 1
    assert "error: qsub: qsub: Unknown queue" in capsys.readouterr().err
    assert submit(bundle, "--pbs-option", "J 1-5") == 2
    assert "--pbs-option J: offline-bundle sets this itself" in capsys.readouterr().err
    assert not Path("out").exists()
