"""The three forms on a node, each with the uv that the public HPS documentation names and with the
newest.

The node's user is another one, its share is read-only and lies elsewhere, and it has no network.
"""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.cli.progress import build_progress
from offline_bundle.builder.model import BuildRequest
from offline_bundle.builder.pipeline import build
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here
from offline_bundle.wheelhouse.store.verify import verify
from tests.support.distributions import make_wheel
from tests.support.index_server import IndexServer
from tests.support.node import PYTHON, Node, site
from tests.support.node_uv import make_real_uv_wheel, uv_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples/python_uv/eval.py"
DOCUMENTED = "0.7.19"
"""The uv of the public HPS documentation. It takes `==3.11` for 3.11.0, so the script says its
Python in full.
"""
SCRIPT = f"""\
# /// script
# requires-python = ">={PYTHON},<{PYTHON.rpartition(".")[0]}.{int(PYTHON.rpartition(".")[2]) + 1}"
# dependencies = ["alpha"]
# ///
import alpha, beta
print("alpha", alpha.VERSION, "beta", beta.VERSION)
"""
SAID = "alpha 1.0 beta 2.0\n"


@dataclass
class Site:
    node: Node
    bundle: Path
    script: Path
    uv: Path
    """The node's."""

    def uv_run(self, **variables: str | Path) -> subprocess.CompletedProcess[str]:
        """`uv run eval.py`, word for word: which uv, PATH says."""
        path = f"{self.uv.parent}:/usr/bin:/bin"
        return self.node.run("uv", "run", self.script, PATH=path, **variables)


@pytest.fixture(
    scope="module",
    params=[
        "newest",
        pytest.param(DOCUMENTED, marks=pytest.mark.registry),
    ],
)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    version = uv_version_here() if request.param == "newest" else request.param
    with ExitStack() as stack:
        share, node = stack.enter_context(site())
        packages = tmp_path_factory.mktemp("packages")
        program = uv_of(version, tmp_path_factory.mktemp("uv"))
        make_real_uv_wheel(packages, version, program)
        make_wheel(packages, "alpha", requires=["beta>=1"])
        make_wheel(
            packages,
            "beta",
            "2.0",
            entry_points="[console_scripts]\nsay-beta = beta:say\n",
            files={"beta.py": "VERSION = '2.0'\ndef say():\n    print('beta here')\n"},
        )
        script = share / "eval.py"
        script.write_text(SCRIPT)
        made = tmp_path_factory.mktemp("made") / "bundle"
        with IndexServer(packages) as index, build_progress(is_quiet=True) as progress:
            build(
                BuildRequest(
                    scripts=(script,),
                    output=made,
                    options=ResolveOptions(default_index=index.url),
                    uv_version=version,
                    formats=("index", "cache", "venv"),
                ),
                find_uv(),
                progress,
            )
        bundle = share / "uvcache"
        shutil.move(made, bundle)
        [uv] = bundle.glob("uv/*/*/uv")
        yield Site(node, bundle, script, uv)
        assert verify(bundle).ok


def test_index(built: Site) -> None:
    assert built.uv_run(UV_CONFIG_FILE=built.bundle / "uv.toml").stdout == SAID


def test_venv_through_the_launcher(built: Site) -> None:
    """In place: nothing is installed on the node, and the bytecode of the share is what runs."""
    run = [built.node.python, built.bundle / "run.py"]
    for _ in range(2):
        assert built.node.run(*run, built.script, PYTHONVERBOSE="1").stdout == SAID
    said = built.node.run(*run, built.script, PYTHONVERBOSE="1").stderr
    assert re.search(r"code object from .*/site-packages/__pycache__/alpha\.cpython-\d+\.pyc", said)
    home = Path(built.node.run(*run, "--prepare", built.script).stdout.strip())
    packages = home / "lib" / f"python{PYTHON}" / "site-packages"
    assert packages.is_symlink()
    assert packages.resolve().is_relative_to(built.bundle / "envs")
    assert built.node.run(home / "bin" / "say-beta").stdout == "beta here\n"


def test_venv_where_a_job_calls_uv(built: Site) -> None:
    """`uv run eval.py` makes an environment of its own whatever there is: so something else answers
    to that name.
    """
    path = f"{built.bundle / 'envs' / 'bin'}:{Path(built.node.python).parent}:/usr/bin:/bin"
    assert built.node.run("uv", "run", built.script, PATH=path).stdout == SAID
    assert "shim of an offline bundle" in built.node.run("uv", "sync", PATH=path, expect=2).stderr


def test_a_job_may_remove_the_environment_that_it_says_it_ran_in(built: Site) -> None:
    """As HPS's public execution script does with `sys.executable`: uv's own is for one place of a
    script.
    """
    script = built.bundle.parent / "tells.py"
    script.write_text(SCRIPT + "import sys; print(sys.executable, sys.prefix)\n")
    path = f"{built.bundle / 'envs' / 'bin'}:{Path(built.node.python).parent}:/usr/bin:/bin"
    started = []
    for _ in range(2):
        *said, place = built.node.run("uv", "run", script, PATH=path).stdout.splitlines()
        executable, prefix = map(Path, place.split())
        assert said == SAID.splitlines()
        assert executable.parents[1] == prefix
        shutil.rmtree(prefix)
        started.append(prefix)
    assert started[0] != started[1]
    home = Path(
        built.node.run(
            built.node.python, built.bundle / "run.py", "--prepare", script
        ).stdout.strip()
    )
    assert (home / "bin" / "python").exists()
    assert (home / "lib" / f"python{PYTHON}" / "site-packages" / "alpha.py").exists()


@pytest.mark.parametrize("form", ["index", "cache", "venv"])
def test_an_execution_script_that_starts_uv(form: str, built: Site) -> None:
    """Through HPS's interface, as the public one does: a shell, `UV run SCRIPT`, and the
    application's variables.
    """
    task = {
        "index": (built.uv, {"UV_CONFIG_FILE": str(built.bundle / "uv.toml")}),
        "cache": (built.uv, {"UV_CACHE_DIR": str(built.node.folder / "uv-cache")}),
        "venv": (built.bundle / "envs/bin/uv", {}),
    }
    uv, variables = task[form]
    if form == "cache":
        built.node.run(
            built.node.python,
            built.bundle / "uv_cache.py",
            "--uv",
            built.uv,
            variables["UV_CACHE_DIR"],
        )
    code = f"""
import os
from ansys.rep.evaluator.task_manager import ApplicationExecution, Context

class Execution(ApplicationExecution):
    def execute(self):
        environment = {{**os.environ, **self.context.environment}}
        self.run_and_capture_output("{uv} run {built.script}", shell=True, env=environment)

names = ("parameter_values", "resource_requirements", "execution_context", "input_files", "output_files", "software", "output_parameters")
Execution(Context({{"environment": {variables!r}, "expected_return_code": 0, **dict.fromkeys(names, {{}})}})).execute()
"""
    shim = Path(__file__).parents[2] / "runner/hps_server/evaluation/shim"
    ran = built.node.run(
        built.node.python, "-c", code, PYTHONPATH=_for_everybody(shim, built.bundle.parent)
    )
    assert SAID in ran.stdout


def _for_everybody(folder: Path, share: Path) -> Path:
    return Path(shutil.copytree(folder, share / folder.name, dirs_exist_ok=True))


def test_venv_without_anything_of_ours(built: Site) -> None:
    [packages] = (built.bundle / "envs").glob("*/*/*/lib/*/site-packages")
    assert built.node.run(built.node.python, built.script, PYTHONPATH=packages).stdout == SAID


def test_cache_from_a_read_only_share(built: Site) -> None:
    made = built.node.run(
        built.node.python, built.bundle / "uv_cache.py", PATH=f"{built.uv.parent}:/usr/bin:/bin"
    )
    folder = made.stdout.strip()
    assert built.uv_run(UV_CACHE_DIR=folder, UV_OFFLINE="1").stdout == SAID
    assert (
        built.uv_run(UV_CACHE_DIR=folder).stdout == SAID
    )  # nobody told it to be offline: its pages are fresh


def test_cache_that_its_user_can_write(built: Site) -> None:
    copy = built.node.give(
        Path(shutil.copytree(built.bundle / "cache", built.node.folder / "cache"))
    )
    assert built.uv_run(UV_CACHE_DIR=copy, UV_OFFLINE="1").stdout == SAID


@pytest.mark.slow
@pytest.mark.registry
@pytest.mark.parametrize("version", ["newest", DOCUMENTED])
def test_the_example_in_each_form(version: str, tmp_path: Path) -> None:
    """numpy and matplotlib from the real index, and their plots from a node."""
    version = uv_version_here() if version == "newest" else version
    text = EXAMPLE.read_text(encoding="utf-8").replace('"==3.12"', f'"=={PYTHON}.*"')
    with site() as (share, node), build_progress(is_quiet=True) as progress:
        script = share / "eval.py"
        script.write_text(text, encoding="utf-8")
        request = BuildRequest(
            scripts=(script,),
            output=tmp_path / "bundle",
            uv_version=version,
            formats=("cache", "venv"),
        )
        build(request, find_uv(), progress)
        bundle = Path(shutil.move(tmp_path / "bundle", share / "uvcache"))
        [uv] = bundle.glob("uv/*/*/uv")
        programs = {"PATH": f"{uv.parent}:/usr/bin:/bin"}
        cache = node.run(node.python, bundle / "uv_cache.py", **programs).stdout.strip()
        node.run("uv", "run", script, UV_CONFIG_FILE=bundle / "uv.toml", **programs)
        node.run("uv", "run", script, UV_CACHE_DIR=cache, **programs)
        node.run("uv", "run", script, PATH=f"{bundle / 'envs' / 'bin'}:/usr/bin:/bin")
        plots = list(node.folder.glob("*/plot.png"))
        assert len(plots) == 3
        assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)
        assert verify(bundle).ok
