"""Jobs through a real Slurm, whose nodes have no network but loopback and which has no accounting."""

from __future__ import annotations

import json
import os
import re
import shlex
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
from offline_bundle.wheelhouse.signing import sign
from tests.support.bundles import BundleScript, make_bundle
from tests.support.jobs import PLOT
from tests.support.results_page_cases import page_data
from tests.support.site_policy import FORGED, forge, make_site
from tests.support.slurm import SlurmCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click

ROOT = Path(__file__).parents[4]
PNG = b"\x89PNG\r\n"
BODY = """
import alpha, os, pathlib, socket, sys, time
assert [name for _, name in socket.if_nameindex()] == ["lo"], "there is a network"
what = json.load(open("input_parameters.json")).get("what")
print(what, os.environ["OFFLINE_BUNDLE_JOB"], os.environ.get("SLURM_RESTART_COUNT"), flush=True)
here = pathlib.Path(sys.argv[0]).resolve().parent
if what == "sleep":
    pathlib.Path("leak.txt").write_text("of an attempt that was ended")
    if not os.environ.get("SLURM_RESTART_COUNT"):
        time.sleep(600)
if what == "wait":
    while not (here.parents[2] / "go").exists():
        time.sleep(0.05)
if what == "eat":
    food = b"x" * (600 << 20)
    time.sleep(600)
if what == "fail":
    raise SystemExit("no such mesh")
"""
ARRAY_SIZE = 6
SUBMIT = [
    sys.executable,
    "-m",
    "offline_bundle",
    "submit",
    "eval.py",
    "--engine",
    "slurm",
    "--bundle",
]


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def put_command(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a command before Slurm's own on PATH."""
    command = folder / "bin" / name
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{text}")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")


def limit_queue(folder: Path, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three tasks into the queue: a limit is a matter of the accounting, which is not here, so
    sbatch has it.
    """
    put_command(
        folder,
        "sbatch",
        f"waiting=$({cluster.folder}/bin/squeue --noheader --array --me --name=limited | wc -l)\n"
        'size=$(printf "%s\\n" "$@" | sed -n "s/--array=1-//p")\n'
        '[ $((waiting + size)) -le 3 ] || { echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }\n'
        f'exec {cluster.folder}/bin/sbatch "$@"\n',
        monkeypatch,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    body = "import json\n" + BODY + PLOT
    return make_bundle(
        tmp_path_factory.mktemp("bundles") / "the bundle's", {"eval": BundleScript(body=body)}
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    folder = tmp_path_factory.mktemp("slurm")
    with SlurmCluster(folder, max_array_size=ARRAY_SIZE + 1, node_timeout=5) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def user(  # noqa: PLR0917 - fixtures add up
    own_home: Path,
    cluster: SlurmCluster,
    bundle: Path,
    node_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user of the cluster, in a folder of theirs that the nodes see, with the script."""
    del own_home  # which clears the environment first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(node_cache))
    for name, value in cluster.variables.items():
        monkeypatch.setenv(name, value)
    shutil.copy(bundle / "scripts" / "eval.py", tmp_path / "eval.py")


@pytest.fixture(scope="module")
def troubles(
    cluster: SlurmCluster, bundle: Path, node_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Jobs of which most come to grief. Slurm looks every 30 seconds whose time is up: other tests
    run meanwhile.
    """
    folder = tmp_path_factory.mktemp("troubles")
    whats = ["fine", "fail", "sleep", "sleep", "sleep", "eat"]
    (folder / "values.csv").write_text("what\n" + "\n".join(whats) + "\n")
    shutil.copy(bundle / "scripts" / "eval.py", folder / "eval.py")
    command = [*SUBMIT, bundle]
    options = [
        "--values",
        "values.csv",
        "--no-wait",
        "--download",
        "out",
        "--slurm-option",
        "no-requeue",
    ]
    variables = {
        "OFFLINE_BUNDLE_UV": find_uv_bin(),
        "OFFLINE_BUNDLE_CACHE": str(node_cache),
        **cluster.variables,
    }
    environment = {**os.environ, **variables}
    subprocess.run(
        [
            *command,
            *options,
            "--max-execution-time",
            "3600",
            "--memory",
            "200MiB",
            "--slurm-option",
            "nodelist=n2",
        ],
        cwd=folder,
        env=environment,
        check=True,
    )
    attempts = folder / "out" / ".submission" / "attempts"
    wait_until(lambda: len(list(attempts.glob("job-000[345].*/leak.txt"))) == 3)
    [array] = array_ids(folder / "out")
    # Slurm refuses a time that has passed when it is asked
    cluster.ask("scontrol", "update", f"JobId={array}_3", "EndTime=now+2seconds")
    cluster.ask("scancel", f"{array}_4")
    ended = {f"{array}_4", f"{array}_6"}  # the last one by its memory
    wait_until(
        lambda: (
            not ended & set(cluster.ask("squeue", "--noheader", "--array", "--format=%i").split())
        )
    )
    return folder / "out"


def array_ids(results: Path) -> list[str]:
    plan = json.loads((results / ".submission" / "submission.json").read_text())
    return [array[0] for array in plan["details"]["arrays"]]


def test_what_is_prepared_before_the_rush_is_what_the_jobs_use(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of docs/explanation/scale.md, with another path of the bundle and the cache."""
    page = (ROOT / "docs" / "explanation" / "scale.md").read_text()
    found = re.search(r"<!-- example:prepare -->\n```\n(.*?)```", page, re.DOTALL)
    assert found
    cache = tmp_path / "cache"
    text = (
        found[1].replace("/shared/bundle", f'"{bundle}"').replace("-j 100", "-j 3 --set what=plot")
    )
    text = text.replace("/tmp/offline-bundle-$(id -u)", str(cache))
    text = text.replace("/shared/results", str(tmp_path / "out"))
    monkeypatch.delenv("OFFLINE_BUNDLE_CACHE")
    prepare, submit = text.split("offline-bundle submit")
    command = f"{shlex.quote(sys.executable)} -m offline_bundle"
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-ec", prepare], check=True, env=variables)
    made = {path: path.stat().st_ino for path in cache.glob("environments/*/env")}
    assert len(made) == 1
    script = f"export OFFLINE_BUNDLE_CACHE={cache}\n{command} submit{submit}"
    subprocess.run(["bash", "-ec", script], check=True, env=variables)
    assert {path: path.stat().st_ino for path in cache.glob("environments/*/env")} == made
    consoles = [path.read_text() for path in tmp_path.glob("out/job-*/console_output.txt")]
    assert len(consoles) == 3
    assert not any("Preparing" in text for text in consoles)


def test_ten_plots_come_home_from_nodes_without_a_network(
    troubles: Path,
    bundle: Path,
    node_cache: Path,
    cluster: SlurmCluster,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del troubles  # only to have it under way
    values = Path("values.csv")
    values.write_text("n\n" + "\n".join(str(number) for number in (1, *range(3, 12))) + "\n")
    asked = [
        "--engine",
        "slurm",
        "--bundle",
        bundle,
        "--values",
        values,
        "--output",
        "plot.png",
        "--set",
        "what=plot",
    ]
    resources = [
        "--cores",
        2,
        "--memory",
        "640MiB",
        "--slurm-option",
        "nodelist=n1",
        "--parallel",
        4,
        "--name",
        "a b'c",
    ]
    assert run(submit_command, "eval.py", *asked, *resources) == 0
    said = capsys.readouterr()
    assert "10 of 10 jobs: 10 done" in said.err
    assert "; open " in said.out
    plots = sorted(Path("eval-results").glob("job-*/plot.png"))
    assert len(plots) == 10
    assert all(plot.read_bytes().startswith(PNG) for plot in plots)
    assert json.loads(Path("eval-results/job-0002/input_parameters.json").read_text()) == {
        "what": "plot",
        "n": 3,
    }
    page = Path("eval-results/index.html").read_text()
    rows = page_data(Path("eval-results/index.html"))["jobs"]
    assert [url for row in rows for url, *_, is_picture in row[7] if is_picture] == [
        f"job-{number:04}/plot.png" for number in range(1, 11)
    ]
    assert ">a b&#39;c<" in page
    assert len(list(node_cache.glob("environments/*/complete.json"))) == 1
    arrays = array_ids(Path("eval-results"))
    assert len(arrays) == 2  # so many as MaxArraySize asks for
    shown = cluster.ask("scontrol", "show", "job", arrays[0])
    assert "NumCPUs=2" in shown
    assert "MinMemoryNode=640M" in shown
    assert list(Path("eval-results/.submission/logs").iterdir()) == []
    assert list(Path("eval-results/.submission/attempts").iterdir()) == []


def test_without_waiting_and_back_by_folder_or_identifier(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "--engine",
        "slurm",
        "--bundle",
        bundle,
        "-j",
        3,
        "--set",
        "what=wait",
        "--download",
        "out",
    ]
    assert run(submit_command, "eval.py", *asked, "--no-wait") == 0
    resume_arguments = capsys.readouterr().out.splitlines()[-1].split()
    assert resume_arguments == ["offline-bundle", "jobs", str(Path("out").absolute()), "--wait"]
    [array] = array_ids(Path("out"))
    assert run(jobs_command, array, "--engine", "slurm", "--json") == 0
    assert json.loads(capsys.readouterr().out)["jobs"]["total"] == 3
    assert run(jobs_command, "--engine", "slurm", "--json") == 0
    listed = {
        project["id"]: project["name"]
        for project in json.loads(capsys.readouterr().out)["projects"]
    }
    assert listed[str(Path("out").absolute())] == "eval - 3 jobs"
    Path("go").touch()
    assert run(jobs_command, *resume_arguments[2:]) == 0
    assert "3 done" in capsys.readouterr().out
    assert run(jobs_command, "out", "--download", "elsewhere") == 2
    assert "where the jobs ran" in capsys.readouterr().err
    assert run(jobs_command, "987654", "--engine", "slurm") == 2
    assert "Slurm does not know a job 987654" in capsys.readouterr().err
    assert run(submit_command, "eval.py", *asked) == 2
    assert "nothing was submitted" in capsys.readouterr().err


def test_tasks_on_two_nodes_start_the_script_in_one_environment(
    bundle: Path, node_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path("eval.py")
    rank = (
        'open(f"rank-{os.environ[\'SLURM_PROCID\']}.txt", "w").write(os.environ["SLURMD_NODENAME"])'
    )
    script.write_text(script.read_text() + rank + "\n")
    asked = ["--engine", "slurm", "--bundle", bundle, "-j", 1, "--set", "what=fine"]
    options = ["--tasks", 2, "--nodes", 2, "--cores", 1, "--output", "rank-[01].txt"]
    assert run(submit_command, "eval.py", *asked, *options) == 0, capsys.readouterr().err
    ranks = [Path(f"eval-results/job-0001/rank-{number}.txt").read_text() for number in (0, 1)]
    assert sorted(ranks) == ["n1", "n2"]
    assert len(list(node_cache.glob("environments/*/complete.json"))) == 1


def test_resources_by_a_column_are_those_of_each_job(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path("eval.py")
    own = 'print(os.environ["SLURM_CPUS_PER_TASK"], os.environ["SLURM_MEM_PER_NODE"])\n'
    script.write_text(script.read_text() + own)
    rows = [(1 + number % 2, f"{100 + number % 3}M") for number in range(ARRAY_SIZE + 3)]
    Path("rows.csv").write_text("c,m\n" + "".join(f"{c},{m}\n" for c, m in rows))
    asked = ["--engine", "slurm", "--bundle", bundle, "--values", "rows.csv"]
    assert run(submit_command, script, *asked, "--cores", "{c}", "--memory", "{m}") == 0
    consoles = sorted(Path("eval-results").glob("job-*/console_output.txt"))
    seen = [path.read_text().split()[-2:] for path in consoles]
    assert seen == [[str(c), m.removesuffix("M")] for c, m in rows]
    plan = json.loads(Path("eval-results/.submission/submission.json").read_text())
    windows = {(row, number // ARRAY_SIZE) for number, row in enumerate(rows)}
    assert len(plan["details"]["arrays"]) == len(windows)
    assert run(submit_command, script, *asked, "--memory", "{c}x") == 2
    assert "'{c}x' is not a size" in capsys.readouterr().err


def test_jobs_start_after_other_jobs_and_a_dry_run_starts_none(
    bundle: Path, cluster: SlurmCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--engine", "slurm", "--bundle", bundle, "-j", 1]
    first = ["--set", "what=wait", "--download", "first", "--no-wait"]
    assert run(submit_command, "eval.py", *asked, *first) == 0
    second = ["--set", "what=fine", "--download", "second", "--after", "first", "--no-wait"]
    assert run(submit_command, "eval.py", *asked, *second) == 0
    array, after = array_ids(Path("first"))[0], array_ids(Path("second"))[0]
    reason = cluster.ask("squeue", "--noheader", f"--jobs={after}", "--format=%r|%E").strip()
    assert f"|afterany:{array}" in reason
    capsys.readouterr()
    dry = ["--download", "third", "--after", array, "--gpus", 2, "--parallel", 3, "--dry-run"]
    mail = ["--slurm-option", "mail-type=END", "--run-with", "apptainer exec 'my image'"]
    assert run(submit_command, "eval.py", *asked, *dry, *mail) == 0
    said = capsys.readouterr().out
    command, script = said.split("\n\n", 1)
    for word in ("--gres=gpu:2", "--mail-type=END", "--array=1%3", f"afterany:{array}"):
        assert word in command
    assert script.startswith("#!/bin/sh\n")
    assert "apptainer exec" in script
    assert not Path("third").exists()
    Path("go").touch()
    assert run(jobs_command, "second", "--wait") == 0
    missing = ["--download", "third", "--after", "nowhere"]
    assert run(submit_command, "eval.py", *asked, *missing) == 2
    assert "--after nowhere: no such folder" in capsys.readouterr().err


def test_a_requeued_job_begins_anew(
    bundle: Path, cluster: SlurmCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "--engine",
        "slurm",
        "--bundle",
        bundle,
        "-j",
        1,
        "--set",
        "what=sleep",
        "--output",
        "plot.png",
    ]
    options = ["--slurm-option", "requeue", "--slurm-option", "nodelist=n1"]
    assert run(submit_command, "eval.py", *asked, "--no-wait", "--download", "out", *options) == 0
    first = Path("out/.submission/attempts")
    wait_until(lambda: bool(list(first.glob("job-0001.0/leak.txt"))))
    (array,) = array_ids(Path("out"))
    [leak] = first.glob("job-0001.0/leak.txt")
    cluster.ask("scontrol", "requeue", f"{array}_1")
    leak.with_name("half.dat").touch()
    wait_until(
        lambda: "BeginTime" in cluster.ask("squeue", "--noheader", f"--jobs={array}", "--format=%r")
    )
    cluster.ask(
        "scontrol", "update", f"JobId={array}_1", "StartTime=now+2"
    )  # not sooner than in another second
    assert run(jobs_command, "out", "--wait") == 0, capsys.readouterr().err
    assert json.loads(Path("out/job-0001/.job.json").read_text())["restart"] == 1
    assert not Path("out/job-0001/half.dat").exists()
    assert not leak.exists()
    assert list(Path("out/.submission/attempts").iterdir()) == []


@pytest.mark.parametrize("is_forged", [True, False], ids=["forged", "signed"])
def test_a_policy_binds_jobs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_forged: bool,
) -> None:
    policy = make_site(tmp_path / "site")
    bundle = make_bundle(tmp_path / "own", {"eval": BundleScript(body="import alpha\n")})
    if is_forged:
        forge(bundle)
    else:
        sign(bundle, str(policy.with_name("alice")))
    shutil.copy(bundle / "scripts" / "eval.py", "eval.py")
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    asked = ["--engine", "slurm", "--bundle", bundle, "-j", 1]
    code = run(submit_command, "eval.py", *asked, "--env", f"OFFLINE_BUNDLE_POLICY={policy}")
    console = Path("eval-results/job-0001/console_output.txt").read_text()
    assert FORGED not in console
    if is_forged:
        assert code == 8, capsys.readouterr().err
        assert "not signed" in console
        assert json.loads(Path("eval-results/job-0001/.job.json").read_text())["code"] == 6
    else:
        assert code == 0, console


def test_a_bundle_that_goes_meanwhile_is_named(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(bundle, "other")
    asked = ["--engine", "slurm", "--bundle", other, "-j", 2, "--set", "what=wait", "--parallel", 1]
    assert run(submit_command, "eval.py", *asked, "--no-wait", "--download", "out") == 0
    wait_until(
        lambda: bool(list(Path("out/.submission/attempts").glob("job-0001.*/console_output.txt")))
    )
    wait_until(lambda: "wait 1" in next(Path("out").rglob("console_output.txt")).read_text())
    shutil.rmtree(other)
    Path("go").touch()
    assert run(jobs_command, "out", "--wait") == 8
    said = capsys.readouterr().err
    summary = (
        r"eval - 2 jobs: 1 of 2 jobs failed\n  job-0002: node failed on n\d \(job \d+_\d+\) after "
    )
    assert re.search(summary, said)
    again = r"1 job failed because of a node \(n\d\): started again\n  error: the bundle .* does not exist on n\d\n"
    assert re.search(again, said)
    assert "no other node for jobs that a node failed: sbatch: " in said
    assert f"the bundle {Path('other').absolute()} does not exist on n" in said


def test_a_broken_node_costs_no_job(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken node takes jobs faster than any other: they run again elsewhere, and succeed."""
    there = shutil.copytree(bundle, Path("there").absolute())
    launcher = there / "run.py"
    text = launcher.read_text()
    launcher.write_text(
        f"import os, sys\nif os.environ['SLURMD_NODENAME'] == 'n1': sys.exit(1)\n{text}"
    )
    asked = ["--engine", "slurm", "--bundle", there, "-j", 6, "--set", "what=plot"]
    assert run(submit_command, "eval.py", *asked, "--download", "out", "--output", "plot.png") == 0
    said = capsys.readouterr()
    assert re.search(r"jobs? failed because of a node \(n1\): started again\n", said.err)
    assert "6 done" in said.out
    records = [json.loads(path.read_text()) for path in Path("out").glob("job-*/.job.json")]
    assert {record["node"] for record in records} == {"n2"}


def test_failed_jobs_run_again_and_the_folder_is_deleted(
    bundle: Path, cluster: SlurmCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path("eval.py")
    flag = Path("go").absolute()
    script.write_text(
        script.read_text().replace('if what == "fail"', f"if not os.path.exists({str(flag)!r})")
    )
    asked = ["--engine", "slurm", "--bundle", bundle, "-j", ARRAY_SIZE + 2, "--set", "what=plot"]
    assert run(submit_command, "eval.py", *asked, "--download", "out", "--no-wait", "--json") == 0
    ids = json.loads(capsys.readouterr().out)["project"]["scheduler_jobs"]
    assert ids == array_ids(Path("out"))
    cluster.ask("sbatch", f"--dependency=afterany:{ids[1]}", "--wrap=true")
    assert run(jobs_command, "out", "--wait", "-q") == 8
    flag.touch()
    assert run(jobs_command, "out", "--retry-failed", "--only", "job-000[18]", "-q") == 8
    states = Path("out").glob("job-*/.job.json")
    codes = {path.parent.name[-1]: json.loads(path.read_text())["code"] for path in states}
    assert [codes[str(number)] for number in range(1, 9)] == [0, 1, 1, 1, 1, 1, 1, 0]
    capsys.readouterr()
    assert run(jobs_command, "out", "--retry-failed") == 0
    assert "8 done" in capsys.readouterr().out
    assert not list(Path("out/.submission/attempts").iterdir())
    assert run(jobs_command, "out", "--delete") == 0
    assert not Path("out").exists()


def test_a_submission_that_was_killed_is_replaced(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is killed while it writes the folder: the scheduler is asked for the largest array."""
    with monkeypatch.context() as patch:
        put_command(tmp_path, "scontrol", "kill -9 $PPID; sleep 9\n", patch)
        done = subprocess.run(
            [*SUBMIT, bundle, "-j", "1", "--set", "what=plot", "--download", "out"], check=False
        )
    assert done.returncode == -signal.SIGKILL
    assert run(jobs_command, "out") == 2
    said = capsys.readouterr().err
    assert "the submission was interrupted before any job was submitted" in said
    asked = ["eval.py", "--engine", "slurm", "--bundle", bundle, "-j", 1, "--set", "what=plot"]
    assert run(submit_command, *asked, "--download", "out", "--overwrite") == 0


def test_another_command_cancels_during_the_submission(
    bundle: Path,
    cluster: SlurmCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second array is being submitted, and there would be a third one."""
    cancel = f"cd {tmp_path} && {sys.executable} -m offline_bundle jobs out --engine slurm --cancel"
    put_command(
        tmp_path,
        "sbatch",
        f"if [ -e {tmp_path}/first ]; then ({cancel}) >{tmp_path}/said 2>&1 &\n"
        """until grep -q '"is_cancelled": true' out/.submission/submission.json; do\n"""
        f"sleep 0.1; done; fi; touch {tmp_path}/first\n"
        f'exec {cluster.folder}/bin/sbatch "$@"\n',
        monkeypatch,
    )
    asked = ["--engine", "slurm", "--bundle", bundle, "-j", 2 * ARRAY_SIZE + 1]
    assert run(submit_command, "eval.py", *asked, "--set", "what=wait", "--download", "out") == 8
    assert "13 cancelled" in capsys.readouterr().out
    assert len(array_ids(Path("out"))) == 2
    assert cluster.ask("squeue", "--noheader", f"--jobs={','.join(array_ids(Path('out')))}") == ""


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_ctrl_c_leaves_the_jobs_unless_asked(
    bundle: Path, cluster: SlurmCluster, *, is_cancelled: bool
) -> None:
    command = [*SUBMIT, bundle]
    options = ["-j", "2", "--set", "what=wait", "--download", "out"] + [
        "--cancel-on-interrupt"
    ] * is_cancelled
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert process.stderr.readline().startswith("0 of 2 jobs: ")
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    [array] = array_ids(Path("out"))
    if is_cancelled:
        assert "interrupted: the jobs are cancelled" in said
        wait_until(lambda: array not in cluster.ask("squeue", "--noheader", "--format=%F"))
        assert run(jobs_command, "out") == 8
    else:
        assert f"to continue: offline-bundle jobs {Path('out').absolute()} --wait" in said
        Path("go").touch()
        assert run(jobs_command, "out", "--wait") == 0


def test_what_sbatch_refuses_is_said_and_leaves_nothing(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--engine", "slurm", "--bundle", bundle, "--download", "out"]
    assert run(submit_command, "eval.py", *asked, "--partition", "nobodys") == 1
    said = capsys.readouterr().err
    assert re.search(r"error: sbatch: .*invalid partition specified: nobodys", said)
    assert not Path("out").exists()


def test_only_so_many_in_the_queue_the_others_follow(
    bundle: Path,
    cluster: SlurmCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    limit_queue(tmp_path, cluster, monkeypatch)
    asked = [
        "--engine",
        "slurm",
        "--bundle",
        bundle,
        "-j",
        5,
        "--set",
        "n=1",
        "--name",
        "limited",
        "--download",
        "out",
    ]
    assert run(submit_command, "eval.py", *asked) == 0
    said = capsys.readouterr()
    assert said.err.count("not all jobs may be in the queue at once (sbatch: QOSMax") == 1
    assert "5 done" in said.out
    assert len(array_ids(Path("out"))) == 2


def test_what_was_not_submitted_is_cancelled_with_the_rest(
    bundle: Path, cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_queue(tmp_path, cluster, monkeypatch)
    command = [*SUBMIT, bundle]
    options = [
        "-j",
        "5",
        "--set",
        "what=wait",
        "--download",
        "out",
        "--name",
        "limited",
        "--cancel-on-interrupt",
    ]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert "not all jobs may be in the queue" in process.stderr.readline()
        assert process.stderr.readline().startswith("0 of 5 jobs: ")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert run(jobs_command, "out", "--wait", "--json") == 8
    assert len(array_ids(Path("out"))) == 1


def test_an_outage_of_slurm_is_ridden_out(
    bundle: Path,
    cluster: SlurmCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The controller's own words, which it takes Slurm's commands a quarter of a minute to say,
    said at once.
    """
    calls = tmp_path / "calls"
    put_command(
        tmp_path,
        "squeue",
        f'echo "$@" >>{calls}\n'
        f"[ $(wc -l <{calls}) -gt 2 ] || {{\n"
        'echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1; }\n'
        f'exec {cluster.folder}/bin/squeue "$@"\n',
        monkeypatch,
    )
    asked = ["--engine", "slurm", "--bundle", bundle, "-j", 2, "--set", "n=1", "--download", "out"]
    assert run(submit_command, "eval.py", *asked) == 0
    said = capsys.readouterr().err.splitlines()
    words = "squeue: slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    assert [line for line in said if "jobs: " not in line and "Downloading" not in line] == [
        f"Slurm does not answer ({words}); trying again",
        "Slurm answers again",
    ]


def test_every_trouble_is_told_by_the_jobs_name(
    troubles: Path, cluster: SlurmCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that fails, jobs over their time or memory, one that was cancelled, and a node that
    is lost.
    """
    cluster.kill_node("n2")
    assert run(jobs_command, troubles, "--wait") == 8
    said = capsys.readouterr()
    assert "1 done, 1 failed, 1 timeout, 1 out of memory, 1 node failed, 1 cancelled" in said.out
    lines = said.err[said.err.index("error: ") :].splitlines()
    assert lines[0] == "error: eval - 6 jobs: 5 of 6 jobs failed"
    states = ["failed", "timeout", "cancelled", "node failed", "out of memory"]
    named = [line for line in lines if not line.startswith("    |")][1:6]
    assert [line.partition(" on n")[0].partition(" (job ")[0] for line in named] == [
        f"  job-{number:04}: {state}" for number, state in enumerate(states, 2)
    ]
    assert re.match(r"  job-0002: failed on n\d \(job \d+_2\)", named[0])
    assert "    | no such mesh" in lines
    assert any("| Slurm ended the job: time limit exceeded (Slurm job " in line for line in lines)
    assert any(
        "| Slurm ended the job: it used more memory than requested" in line for line in lines
    )
    assert any("| the node failed, and Slurm did not start the job again" in line for line in lines)
    assert not list(troubles.glob("job-000[345]/leak.txt"))
    kept = json.loads((troubles / "job-0003" / ".job.json").read_text())
    assert kept["state"] == "timeout"
    assert re.fullmatch(r"[0-9]+_3", kept["job_id"])
    capsys.readouterr()
    assert run(jobs_command, troubles) == 8  # the same again, by what was written down
    assert "1 timeout, 1 out of memory, 1 node failed, 1 cancelled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--username", "me"],
            "--username is an option of the engine hps: add --engine hps, or leave it out",
        ),
        (["--sealed"], "--no-network is an option of the engine local"),
        (
            ["--slurm-option", "--exclusive"],
            "'--exclusive' is not KEY=VALUE, without dashes",
        ),
        (
            ["--slurm-option", "array=1-5"],
            "--slurm-option array: offline-bundle sets this itself",
        ),
        (["--node-cache", "cache"], "--node-cache must be an absolute path"),
        (
            ["--cancel-on-interrupt", "--no-wait"],
            "--cancel-on-interrupt has no effect with --no-wait",
        ),
        (["--env", "a;touch broken=1"], "--env a;touch broken: not a valid name in a shell"),
        (["--bundle", "not/here"], "--bundle not/here: no such folder here"),
        (["--output", "/plot.png"], "leaves the job's directory"),
    ],
)
def test_bad_usage(
    bundle: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(submit_command, "eval.py", "--engine", "slurm", "--bundle", bundle, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not Path("eval-results").exists()


@pytest.mark.slow
def test_a_thousand_tasks_are_asked_for_seldom(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with SlurmCluster(tmp_path / "slurm") as large:
        monkeypatch.setenv("SLURM_CONF", large.variables["SLURM_CONF"])
        calls = tmp_path / "calls"
        text = f'echo "$@" >>{calls}\nexec {large.folder}/bin/squeue "$@"\n'
        put_command(tmp_path, "squeue", text, monkeypatch)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{large.variables['PATH']}")
        begin = time.monotonic()
        asked = [
            "--engine",
            "slurm",
            "--bundle",
            bundle,
            "-j",
            1000,
            "--set",
            "n=1",
            "--download",
            "out",
        ]
        assert run(submit_command, "eval.py", *asked) == 0
        seconds = time.monotonic() - begin
    assert "1,000 done" in capsys.readouterr().out
    assert len(array_ids(Path("out"))) == 1
    assert len(calls.read_text().splitlines()) < 40 + seconds / 2


@pytest.mark.slow
def test_a_slurm_with_accounting(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Accounts and limits are real there, and it knows how a job ended that Slurm itself has
    forgotten.
    """
    with SlurmCluster(tmp_path / "slurm", accounting=True) as accounted:
        for name, value in accounted.variables.items():
            monkeypatch.setenv(name, value)
        asked = ["--engine", "slurm", "--bundle", bundle, "--set", "n=1"]
        assert (
            run(
                submit_command,
                "eval.py",
                *asked,
                "-j",
                1,
                "--account",
                "nobodys",
                "--download",
                "refused",
            )
            == 1
        )
        assert re.search(r"error: sbatch: .*Invalid account", capsys.readouterr().err)
        assert not Path("refused").exists()

        cancelled = [
            "-j",
            2,
            "--account",
            "science",
            "--slurm-option",
            "begin=now+1hour",
            "--download",
            "cancelled",
        ]
        assert run(submit_command, "eval.py", *asked, *cancelled, "--no-wait") == 0
        accounted.ask("scancel", *array_ids(Path("cancelled")))

        limited = ["-j", 5, "--account", "science", "--qos", "few", "--download", "limited"]
        capsys.readouterr()
        assert run(submit_command, "eval.py", *asked, *limited) == 0
        said = capsys.readouterr()
        assert said.err.count("not all jobs may be in the queue at once (sbatch: ") == 1
        assert "QOSMaxSubmitJobPerUserLimit" in said.err
        assert "5 done" in said.out

        wait_until(lambda: not accounted.ask("squeue", "--noheader", "--states=all"), seconds=180)
        monkeypatch.setattr("offline_bundle.runner.batch.job_ends.SETTLE_SECONDS", 1)
        assert run(jobs_command, "cancelled", "--wait") == 8
        assert "2 cancelled" in capsys.readouterr().out


@pytest.mark.slow
def test_a_job_that_the_kernel_ends_for_its_memory(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("values.csv").write_text("what\nfine\neat\n")
    with SlurmCluster(tmp_path / "slurm", cgroups=True) as constrained:
        for name, value in constrained.variables.items():
            monkeypatch.setenv(name, value)
        asked = [
            "--engine",
            "slurm",
            "--bundle",
            bundle,
            "--values",
            "values.csv",
            "--memory",
            "200MiB",
        ]
        assert run(submit_command, "eval.py", *asked, "--download", "out") == 8
    said = capsys.readouterr()
    assert "1 done, 1 out of memory" in said.out
    assert "  job-0002: out of memory on n" in said.err


@pytest.mark.slow
def test_a_job_of_a_lost_node_begins_anew_on_another(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with SlurmCluster(tmp_path / "slurm", node_timeout=5) as losing:
        for name, value in losing.variables.items():
            monkeypatch.setenv(name, value)
        asked = [
            "--engine",
            "slurm",
            "--bundle",
            bundle,
            "-j",
            1,
            "--set",
            "what=sleep",
            "--output",
            "plot.png",
        ]
        assert (
            run(
                submit_command,
                "eval.py",
                *asked,
                "--no-wait",
                "--download",
                "out",
                "--slurm-option",
                "requeue",
            )
            == 0
        )
        wait_until(lambda: bool(list(Path("out/.submission/attempts").glob("job-0001.0/leak.txt"))))
        [array] = array_ids(Path("out"))
        lost = losing.ask("squeue", "--noheader", f"--jobs={array}", "--format=%N").strip()
        losing.kill_node(lost)
        wait_until(
            lambda: (
                "BeginTime" in losing.ask("squeue", "--noheader", f"--jobs={array}", "--format=%r")
            )
        )
        losing.ask("scontrol", "update", f"JobId={array}_1", "StartTime=now+2")
        assert run(jobs_command, "out", "--wait") == 0, capsys.readouterr().err
    found = json.loads(Path("out/job-0001/.job.json").read_text())
    assert found["restart"] == 1
    assert found["node"] != lost
