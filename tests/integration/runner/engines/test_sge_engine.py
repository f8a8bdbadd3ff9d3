"""Jobs through a real Grid Engine: its limits, and jobs that it ends."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.cli import run_command_line
from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from tests.support.bundles import BundleScript, make_bundle
from tests.support.grid_engine import GridEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

BODY = """
import alpha, json, os, pathlib, time
values = pathlib.Path("input_parameters.json")
what = json.loads(values.read_text())["what"] if values.exists() else "fine"
pathlib.Path("times.json").write_text(json.dumps([time.time(), os.environ["NSLOTS"]]))
print(what, flush=True)
if what == "sleep":
    time.sleep(600)
time.sleep(0.2)
pathlib.Path("end.json").write_text(json.dumps(time.time()))
"""


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GridEngine]:
    with GridEngine(tmp_path_factory.mktemp("sge")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = BundleScript(body=BODY)
    return make_bundle(tmp_path_factory.mktemp("bundles") / "bundle", {"eval": script})


@pytest.fixture(scope="module")
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def user(  # noqa: PLR0917 - fixtures add up
    own_home: Path,
    cluster: GridEngine,
    bundle: Path,
    node_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del own_home  # which clears the environment first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(node_cache))
    for name, value in cluster.variables.items():
        monkeypatch.setenv(name, value)
    shutil.copy(bundle / "scripts" / "eval.py", tmp_path / "eval.py")


def submit(bundle: Path, *options: object) -> int:
    engine = ["--engine", "sge", "--bundle", bundle, "--download", "out"]
    return run(submit_command, "eval.py", *engine, *options)


def test_a_job_over_its_time_is_a_timeout(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cores become slots; the project's name is changed to what Grid Engine accepts.

    Each job has a limit of its own: a busy machine is slow to prepare the environment.
    """
    Path("values.csv").write_text("what,limit\nfine,300\nsleep,5\n")
    limits = ["--max-execution-time", "{limit}", "--cores", 2, "--name", "1 a/b"]
    assert submit(bundle, "--values", "values.csv", *limits) == 8
    said = capsys.readouterr()
    assert "1 done, 1 timeout" in said.out
    assert "  job-0002: timeout on gridhost (job " in said.err
    assert "| Grid Engine ended the job: time limit exceeded (Grid Engine job " in said.err
    assert json.loads(Path("out/job-0001/times.json").read_text())[1] == "2"
    assert not Path("out/job-0002/times.json").exists()


def test_a_broken_node_ends_the_job_where_no_other_is_left(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Grid Engine accepts jobs that no node can run, and they would wait for ever."""
    broken = shutil.copytree(bundle, Path("broken").absolute())
    (broken / "run.py").write_text("raise SystemExit('no space')")
    assert submit(broken, "-j", 1, "--set", "what=fine") == 8
    said = capsys.readouterr()
    assert "1 node failed" in said.out
    assert "no other node for jobs that a node failed: qsub: " in said.err


def test_cancelled_jobs_waiting_and_running(
    bundle: Path, cluster: GridEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(bundle, "-j", 3, "--set", "what=sleep", "--parallel", 1, "--no-wait") == 0
    limit = time.monotonic() + 60
    while not list(Path("out/.submission/attempts").glob("*/times.json")):
        assert time.monotonic() < limit
        time.sleep(0.1)
    capsys.readouterr()
    assert run(jobs_command, "--engine", "sge", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)["projects"]
    assert listed["id"] == str(Path("out").absolute())
    (job_id,) = listed["scheduler_jobs"]
    assert run(jobs_command, job_id, "--engine", "sge", "--json") == 0
    capsys.readouterr()
    assert run(jobs_command, "out", "--cancel", "--json") == 0
    assert json.loads(capsys.readouterr().out)["jobs"]["states"] == {"cancelled": 3}
    assert "sleep" in Path("out/job-0001/console_output.txt").read_text()
    assert cluster.ask("qstat").strip() == ""


def test_parallel_holds_beyond_the_largest_array(bundle: Path, cluster: GridEngine) -> None:
    configuration = cluster.ask("qconf", "-sconf")
    file = Path("configuration")
    for limit in ("2", "75000"):
        lines = configuration.splitlines()
        words = [f"max_aj_tasks {limit}" if "max_aj_tasks" in line else line for line in lines]
        file.write_text("\n".join([*words, ""]))
        cluster.ask("qconf", "-Mconf", str(file.rename("global").absolute()))
        if limit == "2":
            assert submit(bundle, "-j", 5, "--parallel", 1) == 0
    plan = json.loads(Path("out/.submission/submission.json").read_text())
    assert [array[1:] for array in plan["details"]["arrays"]] == [
        [1, "1-2"],
        [3, "1-2"],
        [5, "1-1"],
    ]
    spans = sorted(
        (
            json.loads((job / "times.json").read_text())[0],
            json.loads((job / "end.json").read_text()),
        )
        for job in Path("out").glob("job-*")
    )
    assert len(spans) == 5
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--queue", "nobodys"], 1, "error: qsub: Unable to run job: Job was rejected"),
        (["--sge-option", "t 1-5"], 2, "--sge-option t: offline-bundle sets this itself"),
        (["--sge-option", "-l x"], 2, "'-l x' is not KEY=VALUE, without dashes"),
        (["--tasks", "2"], 2, "--tasks requires --run-with with --engine sge"),
        (["--gpus", "1"], 2, "--gpus is not supported by --engine sge"),
        (["--partition", "main"], 2, "--partition is an option of the engine slurm"),
    ],
)
def test_bad_usage(
    bundle: Path, options: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(bundle, *options) == code
    assert said in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_machine_without_grid_engine(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert submit(bundle) == 2
    assert "this machine has no Grid Engine: there is no qconf on PATH" in capsys.readouterr().err
    assert not Path("out").exists()
