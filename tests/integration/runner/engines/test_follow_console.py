"""`--follow JOB`: the console of a running job, as it is written, with every engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.cli import run_command_line
from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.engine import ENGINES
from tests.support.bundles import BundleScript, make_bundle
from tests.support.engine_cases import CASES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine_cases import EngineCase

ROOT = Path(__file__).parents[4]
BODY = """
import alpha, os, pathlib, time
print("begin of job", os.environ["OFFLINE_BUNDLE_JOB"], flush=True)
while not pathlib.Path(os.environ["FLAG"]).exists():
    time.sleep(0.05)
print("\\u00e4 last line", flush=True)
"""


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineCase]:
    with CASES[request.param](tmp_path_factory.mktemp(request.param)) as case:
        yield case


def test_a_line_is_shown_before_the_job_ends(
    engine: EngineCase, own_home: Path, tmp_path: Path
) -> None:
    del own_home
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript(body=BODY)})
    flag = tmp_path / "flag"
    command = [sys.executable, "-m", "offline_bundle", "submit", bundle / "scripts" / "eval.py"]
    options = ["--bundle", bundle, *engine.arguments, "-j", "2", "--env", f"FLAG={flag}"]
    variables = {
        **os.environ,
        **engine.variables,
        "PYTHONPATH": str(ROOT),
        "OFFLINE_BUNDLE_UV": find_uv_bin(),
        "OFFLINE_BUNDLE_CACHE": str(tmp_path / "cache"),
    }
    with subprocess.Popen(
        [*command, *options, "--follow", "2", "--download", "out", "-q"],
        cwd=tmp_path,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        seen = ""
        while "begin of job 2\n" not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        assert process.poll() is None
        flag.touch()
        rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0, rest
    assert "ä last line\n" in rest
    assert "begin of job 1" not in seen + rest


def test_a_job_that_is_not_there_is_an_error(
    own_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del own_home
    from offline_bundle.runner.job_files.outputs import plan_outputs
    from offline_bundle.runner.results.folder import (
        PRIVATE_NAME,
        SubmissionRecord,
        write_submission,
    )
    from offline_bundle.runner.results.owner import ResultsOwner, lock_to_project

    lock_to_project(tmp_path, ResultsOwner(str(tmp_path), "eval", "local"))
    (tmp_path / PRIVATE_NAME).mkdir()
    rows: tuple[dict[str, int], ...] = ({}, {})
    write_submission(
        tmp_path, SubmissionRecord("eval", "local", rows, plan_outputs(()), {"parallel": 1})
    )
    assert run_command_line(jobs_command, [str(tmp_path), "--follow", "3"], "jobs") == 2
    assert capsys.readouterr().err == (
        "error: there is no job job-0003\nhint: name one of job-0001 to job-0002, or its number\n"
    )
