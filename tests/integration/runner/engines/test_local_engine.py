"""Jobs by this machine: the same commands, values, states and results as with the other engines."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from tests.support.local_engine_cases import bundle, cache, run, user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["bundle", "cache", "user"]


pytestmark = pytest.mark.measured


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
    assert re.search(
        r"  job-0002: failed after [\d.]+ s\n    \| fail 2 fast\n    \| no such mesh\n", said.err
    )
    assert "    | error: output is missing: plot.txt\n" in said.err
    assert Path("eval-results/job-0004/plot.txt").read_text() == "a mesh"
    page = Path("eval-results/index.html").read_text()
    assert '"values":["what","area"]' in page
    assert "<dt>bundle</dt>" in page
    command = page[page.index("<dt>command</dt>") :].partition("</dd>")[0]
    assert "submit eval.py" in command
    assert "--env MODE=..." in command
    assert page.count("mesh.txt") == command.count("mesh.txt") == 1
    table = Path("eval-results/results.csv").read_text().splitlines()
    assert table[0] == "job,state,seconds,started,node,scheduler_job,what,area"
    assert table[1].startswith("job-0001,done,")
    assert table[1].endswith(",plot,2.5")
    assert run(jobs_command, "eval-results", "--json") == 8
    document = json.loads(capsys.readouterr().out)
    assert document["jobs"] == {"total": 4, "states": {"done": 2, "failed": 2}}
    assert document["download"]["page"] == str(Path("eval-results/index.html").absolute())


@contextmanager
def second_job_running(
    bundle: Path, folder: str, capsys: pytest.CaptureFixture[str], *options: str
) -> Iterator[subprocess.Popen[str]]:
    """Submit three jobs, whose second sleeps: what the first did is recorded.

    At the end, also of a test that fails, the process is killed: else the test would wait for it.
    """
    Path("values.csv").write_text("what\nnothing\nsleep\nsleep\n")
    command = [sys.executable, "-m", "offline_bundle", "submit", "eval.py", "--engine", "local"]
    words = ["--bundle", bundle, "--values", "values.csv", "--parallel", "1", *options]
    with subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: Path(folder, "job-0002/console_output.txt").exists())
            wait_for(lambda: states_of_results(folder, capsys)["done"] == 1)
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def states_of_results(folder: str, capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    """Return the states of the jobs in *folder*, as another command shows them."""
    assert run(jobs_command, folder, "--json") == 0
    return Counter(json.loads(capsys.readouterr().out)["jobs"]["states"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_other_ends_of_the_command_end_the_jobs(
    bundle: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    with second_job_running(bundle, "out", capsys, "--download", "out") as process:
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "interrupted: the jobs of eval - 3 jobs were ended; 1 of 3 are done" in said
    assert f"hint: to run the others: offline-bundle jobs {Path('out').absolute()} --retry" in said
    assert run(jobs_command, "out") == 8
    assert "1 done, 2 cancelled" in capsys.readouterr().out


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


def submit_local(bundle: Path, *options: object) -> int:
    asked = ["--engine", "local", "--bundle", bundle, "--values", "values.csv", "-q"]
    return run(submit_command, "eval.py", *asked, "--input", "mesh.txt", *options)


def test_failed_jobs_run_again_and_others_keep_their_results(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("values.csv").write_text("what\nplot\nfail\nplot\nfail\n")
    script, flag = Path("eval.py"), Path("mended").absolute()
    code = f'if what == "fail" and not os.path.exists({str(flag)!r})'
    script.write_text(script.read_text().replace('if what == "fail"', code))
    assert submit_local(bundle, "--output", "plot.txt") == 8
    kept = Path("eval-results/job-0001/plot.txt").stat()
    assert run(jobs_command, "eval-results", "--retry-failed", "--only", "job-0009") == 2
    assert "no failed jobs that match job-0009 (2 done, 2 failed)" in (capsys.readouterr().err)
    Path("mended").touch()
    assert run(jobs_command, "eval-results", "--retry-failed", "--only", "job-0002") == 8
    said = capsys.readouterr()
    assert "1 job started again" in said.err
    assert "3 done, 1 failed" in said.out
    assert run(jobs_command, "eval-results", "--retry-failed", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["jobs"]["states"] == {"done": 4}
    assert "started again" not in said.err
    assert Path("eval-results/job-0001/plot.txt").stat() == kept
    assert Path("eval-results/job-0004/plot.txt").read_text() == "a mesh"
    assert list(Path("eval-results/.submission").glob("replaced/*")) == []


def test_folders_get_numbers_are_replaced_and_deleted(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("values.csv").write_text("what\nnothing\n")
    assert submit_local(bundle) == submit_local(bundle) == 0
    assert Path("eval-results-2/job-0001").is_dir()
    Path("values.csv").write_text("what\nnothing\nnothing\n")
    assert submit_local(bundle, "--overwrite") == 0
    assert Path("eval-results/job-0002").is_dir()
    assert not Path("eval-results-3").exists()
    assert submit_local(bundle, "--download", "eval-results") == 2
    assert "add --overwrite to replace the results in it" in capsys.readouterr().err
    assert run(jobs_command, "eval-results", "--delete") == 0
    assert "eval - 2 jobs" in capsys.readouterr().out
    assert not Path("eval-results").exists()


def test_another_command_cancels_jobs(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with second_job_running(bundle, "eval-results", capsys, "-q") as process:
        assert run(jobs_command, "eval-results", "--delete") == 2
        assert "2 jobs of eval - 3 jobs have not ended" in capsys.readouterr().err
        assert run(jobs_command, "eval-results", "--retry-failed") == 2
        assert "are under way" in capsys.readouterr().err
        assert submit_local(bundle, "--overwrite") == 2
        assert "2 jobs of eval - 3 jobs in eval-results have not ended" in capsys.readouterr().err
        assert run(jobs_command, "eval-results", "--cancel", "--json") == 0
        states = json.loads(capsys.readouterr().out)["jobs"]["states"]
        assert (states["done"], sum(states.values())) == (1, 3)
        assert process.wait(30) == 8
    assert run(jobs_command, "eval-results", "--cancel", "--delete") == 0
    assert not Path("eval-results").exists()
