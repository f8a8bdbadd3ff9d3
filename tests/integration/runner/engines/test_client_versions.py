"""Each client that is supported, in an environment of its own, submits to the embedded HPS and
downloads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv

from offline_bundle.runner.hps_server import EmbeddedHps
from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[4]
SUBMIT = (
    "import sys; from offline_bundle.cli import run_command_line; from "
    "offline_bundle.runner.cli.submit import submit_command; "
    "sys.exit(run_command_line(submit_command, sys.argv[1:], 'submit'))"
)
BODY = "import pathlib, time\ntime.sleep(7)\npathlib.Path('plot.txt').write_text('plotted')\n"
"""Longer than a token lasts here: files come down with a renewed one."""

pytestmark = [pytest.mark.slow, pytest.mark.registry]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(
        tmp_path_factory.mktemp("bundles") / "bundle", {"eval": BundleScript(body=BODY)}
    )


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[EmbeddedHps]:
    with EmbeddedHps(
        tmp_path_factory.mktemp("hps"), slots=2, bundle=bundle, tls=True, lifetime=6
    ) as hps:
        yield hps


@pytest.mark.parametrize(
    "version", ["0.10.0", "0.10.1", "0.11.0", "0.11.1", "0.12.0", "0.12.1", "0.13.0", "newest"]
)
def test_submit_and_download(version: str, hps: EmbeddedHps, bundle: Path, tmp_path: Path) -> None:
    python = tmp_path / "client" / "bin" / "python"
    wanted = "ansys-hps-client" if version == "newest" else f"ansys-hps-client=={version}"
    install = ["pip", "install", "-q", "--python", python, wanted, "-r", ROOT / "pyproject.toml"]
    for words in (["venv", "-q", "--python", sys.executable, tmp_path / "client"], install):
        subprocess.run([uv.find_uv_bin(), *words], check=True)
    options = [
        "--bundle",
        bundle,
        "-U",
        hps.url,
        "-u",
        hps.username,
        "--ca-file",
        hps.ca_file,
        "-j",
        2,
    ]
    options += ["--output", "plot.txt", "--download", "out"]
    done = subprocess.run(
        [python, "-c", SUBMIT, bundle / "scripts" / "eval.py", *map(str, options)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HPS_PASSWORD": hps.password},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 done" in done.stdout
    assert (
        sorted(path.read_text() for path in tmp_path.glob("out/job-*/plot.txt")) == ["plotted"] * 2
    )
