from __future__ import annotations

import html
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from tests.support.archives import small_disk
from tests.support.jobs import CLIENT_LEAKS

if TYPE_CHECKING:
    from offline_bundle.runner.hps_server import EmbeddedHps

from tests.support.submit_command_cases import PASSWORD, bundle, hps, run, script

__all__ = ["bundle", "hps", "script"]


pytestmark = pytest.mark.filterwarnings(CLIENT_LEAKS)


ROOT = Path(__file__).parents[4]


def test_submit_waits_downloads_and_says_what_came_of_it(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        submit_command,
        script,
        "--bundle",
        bundle,
        "-j",
        2,
        "--output",
        "plot.txt",
        "--download",
        "out",
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "2 done" in said.out
    assert "2 of 2 jobs: 2 done" in said.err
    assert "; open out/index.html" in said.out
    assert Path("out/job-0002/plot.txt").read_text() == "1"
    assert PASSWORD not in said.out + said.err


def test_script_without_metadata_has_that_of_the_bundled_script_of_its_name(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a build with `--requirements` makes it, in the launcher and here."""
    script.write_text(script.read_text().partition("# ///\n")[2])
    words = ("--bundle", bundle, "--engine", "local", "-j", 1, "--download", "out")
    assert run(submit_command, script, *words) == 0, capsys.readouterr().err
    assert Path("out/job-0001/plot.txt").is_file()
    other = Path("other.py")
    other.write_text("print()\n")
    assert run(submit_command, other, *words[:-1], "out2") == 2
    assert "other.py has no inline metadata" in capsys.readouterr().err


def test_failed_jobs_are_exit_code_8_with_the_launchers_words(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("values.csv").write_text("n\n1\n2\n")
    code = run(
        submit_command, script, "--bundle", bundle, "--values", "values.csv", "--output", "plot.txt"
    )
    said = capsys.readouterr()
    assert code == 8
    assert "error: eval - 2 jobs: 1 of 2 jobs failed\n  job-0002: failed on " in said.err
    assert "two is not a number of mine" in said.err
    assert "hint: download all output and files with --download DIR\n" in said.err


def test_json_holds_it_all(script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        submit_command,
        script,
        "--bundle",
        bundle,
        "-j",
        1,
        "--set",
        "n=2",
        "--download",
        "out",
        "--json",
    )
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert code == document["error"]["code"] == 8
    assert document["jobs"] == {"total": 1, "states": {"failed": 1}}
    assert document["failed"][0]["job"] == "job-0001"
    assert document["download"]["files"] == 1
    assert said.err == ""


def test_a_bundle_that_the_nodes_cannot_read_is_named(
    script: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(submit_command, script, "--bundle", tmp_path / "not-there", "-j", 1) == 8
    assert f"no bundle at OFFLINE_BUNDLE={tmp_path}/not-there" in capsys.readouterr().err


def test_an_output_that_is_missing_is_named(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(submit_command, script, "--bundle", bundle, "-j", 1, "--output", "other.txt") == 8
    assert "the output file other.txt (other.txt) is missing" in capsys.readouterr().err


def test_a_disk_that_is_full_when_results_come_is_exit_code_4(
    script: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.write_text(
        script.read_text().replace("write_text(str(n))", "write_bytes(bytes(500_000))")
    )
    options = ["--bundle", bundle, "-j", 1, "--name", "large", "--output", "plot.txt"]
    with small_disk(tmp_path / "disk", 300_000) as disk:
        assert run(submit_command, script, *options, "--download", disk / "out") == 4
        said = capsys.readouterr().err
        assert "error: the disk is full: the next files in " in said
        assert (
            "hint: free some space, or name a directory on another disk, and download again" in said
        )
    assert run(jobs_command, "large", "--download", tmp_path / "out") == 0
    assert (tmp_path / "out" / "job-0001" / "plot.txt").stat().st_size == 500_000


def test_come_back_later(script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--bundle",
        bundle,
        "-j",
        2,
        "--output",
        "plot.txt",
        "--name",
        "for later",
        "--download",
        "out",
    )
    assert run(submit_command, script, *arguments, "--no-wait") == 0
    said = capsys.readouterr().out
    assert [path.name for path in Path("out").iterdir()] == [".offline-bundle.json"]
    resume_arguments = said.splitlines()[-1].split()
    assert resume_arguments[:2] == ["offline-bundle", "jobs"]
    assert PASSWORD not in said
    assert run(jobs_command, "out", "--wait") == 0
    assert Path("out/job-0001/plot.txt").exists()
    assert run(jobs_command, *resume_arguments[2:]) == 0
    assert "--name 'for later'" in html.unescape(Path("out/index.html").read_text())
    assert run(jobs_command, "for later", "-q") == 0
    capsys.readouterr()
    assert run(jobs_command) == 0
    assert re.search("for later +2 done", capsys.readouterr().out)
    assert run(jobs_command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["projects"][0]["name"] == "for later"
    assert run(jobs_command, "no such project") == 2
    assert "list the projects with `offline-bundle jobs`" in capsys.readouterr().err


def test_failed_jobs_run_again_are_cancelled_and_deleted(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = script.read_text().replace(
        "if n == 2:", "import os, time\ntime.sleep(60 * (n == 3))\nif not os.path.exists(MARK):"
    )
    script.write_text(body.replace("alpha\n", f"alpha\nMARK = {str(script.parent / 'mark')!r}\n"))
    options = ["--bundle", bundle, "--name", "again and again", "--download", "out", "-q"]
    assert run(submit_command, script, *options, "-j", 2, "--output", "plot.txt") == 8
    (script.parent / "mark").touch()
    assert run(jobs_command, "out", "--retry-failed", "--only", "job-0001") == 8
    assert "1 done, 1 failed" in capsys.readouterr().out
    assert run(jobs_command, "and again", "--retry-failed", "--json") == 0
    assert json.loads(capsys.readouterr().out)["jobs"]["states"] == {"done": 2}
    assert run(jobs_command, "out", "--download", "out") == 0
    assert Path("out/job-0002/plot.txt").read_text() == "1"
    slow = ["--bundle", bundle, "--name", "slow", "--no-wait", "--json", "-j", 2, "--set", "n=3"]
    assert run(submit_command, script, *slow) == 0
    capsys.readouterr()
    assert run(jobs_command, "slow", "--delete") == 2
    assert "2 jobs of slow have not ended; nothing was deleted" in capsys.readouterr().err
    assert run(jobs_command, "slow", "--cancel", "--delete") == 0
    assert "2 cancelled; deleted" in capsys.readouterr().out
    assert run(jobs_command, "slow") == 2


@pytest.mark.parametrize("kind", ["token", "client"])
def test_a_token_or_a_service_account_signs_in(
    *,
    kind: str,
    script: Path,
    bundle: Path,
    hps: EmbeddedHps,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from offline_bundle.runner.engines.hps.connection.session import connect
    from tests.support.jobs import server_of

    with connect(server_of(hps)) as session:
        clients = f"{hps.url}/auth/admin/realms/rep/clients"
        (client,) = session.client.session.get(clients).json()
        token = session.client.access_token
    monkeypatch.delenv("HPS_PASSWORD")
    monkeypatch.setenv("HPS_USERNAME", "nobody")
    if kind == "token":
        monkeypatch.setenv("HPS_TOKEN", token)
    else:
        monkeypatch.setenv("HPS_CLIENT_ID", client["clientId"])
        monkeypatch.setenv("HPS_CLIENT_SECRET", client["secret"])
    options = ["--bundle", bundle, "-j", 1, "--output", "plot.txt", "--download", "out"]
    assert run(submit_command, script, *options) == 0
    said = capsys.readouterr()
    assert token not in said.out + said.err
    assert client["secret"] not in said.out + said.err
    assert Path("out/job-0001/plot.txt").exists()
    monkeypatch.setenv("HPS_TOKEN" if kind == "token" else "HPS_CLIENT_SECRET", "not.the.right")
    assert run(jobs_command) != 0
    said = capsys.readouterr()
    assert "not.the.right" not in said.err
    if kind == "client":
        assert "does not accept this client id (rep-impersonation) and secret" in said.err


@pytest.mark.parametrize("ways", [(), ("--ship-bundle",)])
def test_without_an_hps_at_hand(
    ways: tuple[str, ...],
    script: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    own_home: Path,
) -> None:
    code = run(
        submit_command,
        script,
        "--bundle",
        bundle,
        "--embedded",
        "-j",
        3,
        "--output",
        "plot.txt",
        *ways,
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "3 done" in said.out
    assert len(list(Path("eval-results").glob("job-*/plot.txt"))) == 3
    consoles = [path.read_text() for path in Path("eval-results").glob("job-*/console_output.txt")]
    assert sum("Unpack " in console for console in consoles) == len(ways)
    unpacked = list(own_home.glob(".cache/offline-bundle/bundles/*/bundle.json"))
    assert len(unpacked) == len(ways)


def start(*arguments: object) -> subprocess.Popen[str]:
    code = (
        "import sys; from offline_bundle.cli import run_command_line; "
        "from offline_bundle.runner.cli.submit import submit_command; "
        "sys.exit(run_command_line(submit_command, sys.argv[1:], 'submit'))"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.measured
def test_ctrl_c_leaves_the_jobs_running_and_says_how_to_return(
    script: Path, bundle: Path, hps: EmbeddedHps, capsys: pytest.CaptureFixture[str]
) -> None:
    script.write_text(
        script.read_text().replace('print("job', 'import time; time.sleep(2); print("job')
    )
    process = start(
        script, "--bundle", bundle, "-j", 2, "--name", "left alone", "--output", "plot.txt"
    )
    assert process.stderr
    said = process.stderr.readline()
    assert said.startswith("0 of 2 jobs: ")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130, rest
    assert "interrupted; the jobs of left alone continue" in rest
    assert f"-U {hps.url} -u repuser --wait" in rest
    assert PASSWORD not in rest
    assert run(jobs_command, "left alone", "--wait") == 0
    assert "2 done" in capsys.readouterr().out


def test_the_example_is_a_page_to_copy_from(
    script: Path,
    bundle: Path,
    hps: EmbeddedHps,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = Path(shutil.copy(ROOT / "examples" / "python_uv" / "project_setup.py", tmp_path))
    script.write_text(script.read_text().replace("plot.txt", "plot.png"))
    options = [
        "--url",
        hps.url,
        "--username",
        hps.username,
        "--password",
        PASSWORD,
        "--num-jobs",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, example, *options, "--bundle", bundle],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.name for path in Path("plots").glob("*/plot.png")) == [
        "job-0001",
        "job-0002",
    ]
    assert PASSWORD not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert not [line for line, following in itertools.pairwise(lines) if line == following]
    projects = len(list_of_projects(capsys))
    again = subprocess.run(
        [sys.executable, example, *options, "--bundle", bundle],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 2
    assert "plots exists and is not empty; nothing was submitted" in again.stderr
    assert "--download" in again.stderr
    assert len(list_of_projects(capsys)) == projects


def list_of_projects(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run(jobs_command) == 0
    return capsys.readouterr().out.splitlines()


def test_help_imports_no_client() -> None:
    code = "import sys, offline_bundle.runner.cli.submit; print([name for name in sys.modules if name.startswith(('ansys', 'httpx'))])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
