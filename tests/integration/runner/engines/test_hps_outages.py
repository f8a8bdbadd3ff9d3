"""`submit` in a process of its own, with all that can happen to its server while it waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT = Path(__file__).parents[4]
SERVE = (
    "import sys, pathlib, threading; from offline_bundle.runner.hps_server import EmbeddedHps\n"
    "data, bundle, port = map(pathlib.Path, sys.argv[1:])\n"
    "hps = EmbeddedHps(data, bundle=bundle, port=int(str(port)), password='secret', "
    "slots=1, lifetime=2)\n"
    "hps.start(); print(hps.port, flush=True); threading.Event().wait()"
)
SUBMIT = (
    "import sys; from offline_bundle.cli import run_command_line; "
    "from offline_bundle.runner.cli.submit import submit_command; "
    "sys.exit(run_command_line(submit_command, sys.argv[1:], 'submit'))"
)
BODY = "import pathlib, time\ntime.sleep(1)\npathlib.Path('plot.txt').write_text('plotted')\n"


@contextmanager
def serving(data: Path, bundle: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """An embedded HPS, killed at the end as by the power; its tokens last two seconds."""
    command = [sys.executable, "-c", SERVE, data, bundle, str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_server_killed_and_restarted_in_mid_run_and_tokens_that_expire(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript(body=BODY)})
    data = tmp_path / "hps"
    with serving(data, bundle, 0) as (first, port):
        options = [
            "-U",
            f"http://127.0.0.1:{port}/hps",
            "-j",
            "3",
            "--output",
            "plot.txt",
            "--download",
            "out",
        ]
        waiting = subprocess.Popen(
            [sys.executable, "-c", SUBMIT, bundle / "scripts" / "eval.py", *options, "--json"],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "HPS_PASSWORD": "secret", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        request.addfinalizer(waiting.kill)
        deadline = time.monotonic() + 60
        while not list((data / "storage").glob("*/*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(2.5)  # the session's first token has expired, and some jobs are done
        first.kill()
        assert waiting.stderr
        assert "no connection to " in waiting.stderr.readline()
    with serving(data, bundle, port):
        said, notices = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, said + notices
    assert notices == f"the connection to http://127.0.0.1:{port}/hps is back\n"
    assert json.loads(said)["jobs"] == {"total": 3, "states": {"done": 3}}
    assert (
        sorted(path.read_text() for path in tmp_path.glob("out/job-*/plot.txt")) == ["plotted"] * 3
    )
