"""Ctrl-C in `submit`, and `jobs --wait` afterwards: no job is lost, nor run twice, in any engine.

Local jobs end with the command: see `test_local_engine.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.runner.engine import ENGINES
from offline_bundle.runner.hps_server import EmbeddedHps
from tests.support.bundles import BundleScript, make_bundle
from tests.support.engine_cases import CASES, EngineCase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

JOBS = 6
BODY = """
import os, pathlib, sys, time
starts = open(sys.argv[1] + "/starts", "a")
starts.write(os.environ["OFFLINE_BUNDLE_JOB"] + "\\n")
starts.flush()
while not os.path.exists(sys.argv[1] + "/go"):
    time.sleep(0.05)
pathlib.Path("out.txt").write_text(os.environ["OFFLINE_BUNDLE_JOB"])
"""


@contextlib.contextmanager
def _remote_hps(folder: Path) -> Iterator[EngineCase]:
    with EmbeddedHps(folder, slots=2) as hps:
        variables = {"HPS_PASSWORD": hps.password, "HPS_URL": hps.url}
        yield EngineCase("hps", ("--insecure", "-u", hps.username), variables)


@pytest.fixture(params=[name for name in ENGINES if name != "local"])
def engine(
    request: pytest.FixtureRequest, own_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineCase]:
    del own_home  # which clears the environment first
    start = {**CASES, "hps": _remote_hps}[request.param]
    with start(tmp_path_factory.mktemp(request.param)) as case:
        yield case


def test_ctrl_c_and_coming_back_lose_nothing(engine: EngineCase, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript(body=BODY)})
    cache = {"OFFLINE_BUNDLE_UV": find_uv_bin(), "OFFLINE_BUNDLE_CACHE": str(tmp_path / "cache")}
    variables = {**os.environ, **cache, **engine.variables}
    program = [sys.executable, "-m", "offline_bundle"]
    words = ["submit", bundle / "scripts" / "eval.py", *engine.arguments, "--bundle", bundle]
    words += ["-j", JOBS, "--output", "out.txt", "--download", tmp_path / "out", "--", tmp_path]
    with subprocess.Popen(
        [*program, *map(str, words)], env=variables, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert process.stderr.readline().startswith(f"0 of {JOBS} jobs: ")
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    found = re.search(r"to continue: offline-bundle (.*)", said)
    assert found, said
    (tmp_path / "go").touch()
    resume = [*program, *shlex.split(found[1]), "-q"]
    subprocess.run(resume, env=variables, check=True, timeout=180)
    outputs = sorted(path.read_text() for path in tmp_path.glob("out/job-*/out.txt"))
    assert outputs == sorted((tmp_path / "starts").read_text().split())
    assert outputs == [str(number) for number in range(1, JOBS + 1)]
