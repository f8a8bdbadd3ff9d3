"""Jobs by this machine: the same commands, values, states and results as with the other engines."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.cli import run_command_line
from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    import click

pytestmark = pytest.mark.measured

ROOT = Path(__file__).parents[3]
BODY = """
import alpha, json, os, pathlib, sys, time
what = json.load(open("input_parameters.json"))["what"]
print(what, os.environ["OFFLINE_BUNDLE_JOB"], os.environ.get("MODE"), flush=True)
if what == "fail":
    raise SystemExit("no such mesh")
if what == "sleep":
    time.sleep(600)
if what != "nothing":
    pathlib.Path("plot.txt").write_text(pathlib.Path("mesh.txt").read_text())
json.dump({"area": 2.5}, open("output_parameters.json", "w"))
"""


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(
        tmp_path_factory.mktemp("bundles") / "bundle", {"eval": BundleScript(body=BODY)}
    )


@pytest.fixture(autouse=True)
def user(
    own_home: Path, cache: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del own_home  # which clears the environment first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(cache))
    shutil.copy(bundle / "scripts" / "eval.py", tmp_path / "eval.py")
    (tmp_path / "mesh.txt").write_text("a mesh")


def test_states_results_and_the_way_back(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("values.csv").write_text("what\nplot\nfail\nnothing\nplot\n")
    asked = [
        "--engine",
        "local",
        "--bundle",
        bundle,
        "--values",
        "values.csv",
        "--output",
        "plot.txt",
    ]
    assert run(submit_command, "eval.py", *asked, "--input", "mesh.txt", "--env", "MODE=fast") == 8
    said = capsys.readouterr()
    assert "2 done, 2 failed" in said.out
    assert (
        "  job-0002: failed\n    | fail 2 fast\n    | no such mesh\n    | exit code 1\n" in said.err
    )
    assert "    | error: output is missing: plot.txt\n" in said.err
    assert Path("eval-results/job-0004/plot.txt").read_text() == "a mesh"
    page = Path("eval-results/index.html").read_text()
    assert "<dt>area</dt><dd>2.5</dd>" in page
    assert "mesh.txt" not in page
    assert run(jobs_command, "eval-results", "--json") == 8
    document = json.loads(capsys.readouterr().out)
    assert document["jobs"] == {"total": 4, "states": {"done": 2, "failed": 2}}
    assert document["download"]["page"] == str(Path("eval-results/index.html").absolute())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-wait"], "local jobs end with this command"),
        (
            ["-U", "https://hps.example"],
            "--url is an option of the engine hps: add --engine hps, or leave it out",
        ),
        (
            ["--partition", "main"],
            "--partition is an option of the engine slurm: add --engine slurm, or leave it out",
        ),
        (["--memory", "1GiB"], "--memory is not supported by --engine local"),
        (["--output", "../x"], "leaves the job's directory"),
        (["--input", "eval.py"], "two files are named eval.py"),
    ],
)
def test_bad_usage(
    bundle: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(submit_command, "eval.py", "--engine", "local", "--bundle", bundle, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not Path("eval-results").exists()


def test_a_bundle_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(submit_command, "eval.py", "--engine", "local") == 2
    assert "--engine local requires --bundle DIR" in capsys.readouterr().err
    assert run(submit_command, "eval.py", "--engine", "local", "--bundle", "none") == 2
    assert "is not a bundle" in capsys.readouterr().err
    assert not Path("eval-results").exists()


def test_jobs_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert run(jobs_command, "empty", "--engine", "local") == 2
    assert "no jobs in" in capsys.readouterr().err
    assert run(jobs_command, "--engine", "local") == 2
    assert "name the results folder" in capsys.readouterr().err


def test_ctrl_c_ends_the_jobs(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("values.csv").write_text("what\nnothing\nsleep\nsleep\n")
    command = [
        sys.executable,
        "-m",
        "offline_bundle",
        "submit",
        "eval.py",
        "--engine",
        "local",
        "--bundle",
        bundle,
    ]
    options = ["--values", "values.csv", "--parallel", "1", "--download", "out"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 30
        while not Path("out/job-0002/console_output.txt").exists():
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert run(jobs_command, "out", "--json") == 0
        assert json.loads(capsys.readouterr().out)["jobs"]["states"]["done"] == 1
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "interrupted: the jobs of eval - 3 jobs were ended; 1 of 3 are done" in said
    assert run(jobs_command, "out") == 8
    assert "1 done, 1 failed, 1 cancelled" in capsys.readouterr().out


@pytest.mark.no_network
def test_sealed_jobs_see_no_network(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = Path("eval.py")
    script.write_text(
        script.read_text() + "import socket; print([name for _, name in socket.if_nameindex()])\n"
    )
    asked = [
        "--engine",
        "local",
        "--bundle",
        bundle,
        "-j",
        2,
        "--set",
        "what=nothing",
        "--sealed",
        "-q",
    ]
    assert run(submit_command, "eval.py", *asked) == 0, capsys.readouterr().err
    assert Path("eval-results/job-0002/console_output.txt").read_text().splitlines()[-1] == "['lo']"
