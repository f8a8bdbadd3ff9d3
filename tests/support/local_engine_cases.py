"""Shared by the unit and integration tests: Jobs by this machine: the same commands, values, states
and results as with the other engines.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.cli import run_command_line
from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    import click


ROOT = Path(__file__).parents[2]


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
