"""The example, from the real index to plots, in the three ways to use a bundle, with the network
cut.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.runner import Jobs
from offline_bundle.runner.network import no_network_command
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter
from tests.support.jobs import CLIENT_LEAKS
from tests.support.slurm import SlurmCluster

EXAMPLE = Path(__file__).parents[2] / "examples/python_uv/eval.py"
PNG = b"\x89PNG\r\n"

pytestmark = [pytest.mark.registry, pytest.mark.no_network]


@pytest.fixture(scope="module")
def python() -> str:
    """The example is for Python 3.12; uv installs one where the machine has none."""
    found = find_interpreter((3, 12))
    if found is None:
        subprocess.run([find_uv(), "python", "install", "3.12"], check=False)
        found = find_interpreter((3, 12))
    if found is None:
        pytest.skip("no Python 3.12 here, and none to be had") if not os.environ.get(
            "CI"
        ) else pytest.fail("no Python 3.12")
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "uvcache"
    command = [sys.executable, "-m", "offline_bundle", "build", str(EXAMPLE), "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment is prepared by whichever test comes first; installing and compiling it takes
    its time.
    """
    return tmp_path_factory.mktemp("node") / "cache"


def sealed(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run in an empty network namespace, in *folder*."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        no_network_command(command),
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def is_plot(path: Path) -> bool:
    return path.read_bytes().startswith(PNG) and path.stat().st_size > 10_000


def test_the_launcher_with_nothing_of_ours_installed(
    bundle: Path, python: str, node_cache: Path, tmp_path: Path
) -> None:
    """`env -i`: no PATH but the system's, no uv but the bundle's."""
    variables = {
        "HOME": str(tmp_path / "home"),
        "PATH": "/usr/bin:/bin",
        "OFFLINE_BUNDLE_PYTHON": python,
        "OFFLINE_BUNDLE_CACHE": str(node_cache),
    }
    command = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    sealed([*command, python, "-I", str(bundle / "run.py"), str(EXAMPLE)], tmp_path / "job")
    assert is_plot(tmp_path / "job/plot.png")


def test_jobs_through_the_runner(
    bundle: Path, python: str, node_cache: Path, tmp_path: Path
) -> None:
    words = [
        "run",
        str(EXAMPLE),
        "--bundle",
        str(bundle),
        "-j",
        "3",
        "--sealed",
        "--output",
        str(tmp_path / "jobs"),
        "--python",
        python,
    ]
    variables = {**os.environ, "OFFLINE_BUNDLE_CACHE": str(node_cache)}
    subprocess.run([sys.executable, "-m", "offline_bundle", *words], env=variables, check=True)
    plots = sorted((tmp_path / "jobs").glob("*/plot.png"))
    assert len(plots) == 3
    assert all(map(is_plot, plots))


def test_ten_jobs_through_slurm(
    bundle: Path, python: str, node_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real Slurm, whose nodes have no network but loopback."""
    monkeypatch.setenv("OFFLINE_BUNDLE_PYTHON", python)
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(node_cache))
    words = [
        "submit",
        str(EXAMPLE),
        "--bundle",
        str(bundle),
        "--engine",
        "slurm",
        "-j",
        "10",
        "--output",
        "plot.png",
    ]
    with SlurmCluster(tmp_path / "slurm") as cluster:
        command = [
            sys.executable,
            "-m",
            "offline_bundle",
            *words,
            "--download",
            str(tmp_path / "jobs"),
        ]
        subprocess.run(command, env={**os.environ, **cluster.variables}, check=True)
    plots = sorted((tmp_path / "jobs").glob("*/plot.png"))
    assert len(plots) == 10
    assert all(map(is_plot, plots))
    assert len(list((node_cache / "environments").glob("*/complete.json"))) == 1


def test_an_unmodified_uv_run(bundle: Path, python: str, tmp_path: Path) -> None:
    sealed(
        [find_uv(), "run", str(EXAMPLE)],
        tmp_path / "job",
        UV_CONFIG_FILE=str(bundle / "uv.toml"),
        UV_PYTHON=python,
    )
    assert is_plot(tmp_path / "job/plot.png")


def test_plain_pip(bundle: Path, python: str, tmp_path: Path) -> None:
    subprocess.run([python, "-m", "venv", str(tmp_path / "env")], check=True)
    [requirements] = (bundle / "locks/eval").glob("requirements-*.txt")
    pip = [
        str(tmp_path / "env/bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--require-hashes",
    ]
    pip += ["--no-compile"]  # for one run of the script that is not worth the time
    sealed(
        [*pip, "--find-links", str(bundle / "wheels"), "-r", str(requirements)], tmp_path / "job"
    )
    sealed([str(tmp_path / "env/bin/python"), str(EXAMPLE)], tmp_path / "job")
    assert is_plot(tmp_path / "job/plot.png")


def test_uv_installs_from_the_static_index(bundle: Path, python: str, tmp_path: Path) -> None:
    index = (bundle / "simple").as_uri()
    uv = [
        find_uv(),
        "pip",
        "install",
        "--quiet",
        "--target",
        str(tmp_path / "site"),
        "--python",
        python,
    ]
    sealed([*uv, "--default-index", index, "matplotlib"], tmp_path / "job")
    assert (tmp_path / "site/matplotlib").is_dir()


@pytest.mark.slow
def test_the_page_that_a_newcomer_copies_from_runs_from_the_clone(
    bundle: Path, python: str, tmp_path: Path
) -> None:
    """`uv run project_setup.py` with a home and caches of its own: uv resolves and installs all it
    needs.
    """
    from offline_bundle.runner.hps_server import EmbeddedHps

    del python
    page = EXAMPLE.with_name("project_setup.py")
    with EmbeddedHps(tmp_path / "hps", bundle=bundle, tls=True) as hps:
        options = [
            "-U",
            hps.url,
            "-u",
            hps.username,
            "-p",
            hps.password,
            "-j",
            "2",
            "--ca-file",
            hps.ca_file,
        ]
        done = subprocess.run(
            [find_uv(), "run", page, *options, "--bundle", bundle],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert hps.password not in done.stdout + done.stderr
    plots = sorted((tmp_path / "plots").glob("*/plot.png"))
    assert len(plots) == 2
    assert all(map(is_plot, plots))


@pytest.mark.filterwarnings(CLIENT_LEAKS)
@pytest.mark.parametrize("version", ["0.7.19", "newest"])
def test_the_three_files_of_the_public_page_run_with_the_uv_that_is_registered(
    bundle: Path, python: str, tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offline_bundle.runner.hps_server import EmbeddedHps, registered_uv

    uv = registered_uv(bundle)
    if version != "newest":
        install = ["pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
        subprocess.run(
            [find_uv(), *install, "--target", tmp_path / "uv", f"uv=={version}"], check=True
        )
        uv |= {"version": version, "executable": str(tmp_path / "uv" / "bin" / "uv")}
    folder = Path(python).parent
    uv["environment"] = {
        "UV_CONFIG_FILE": str(bundle / "uv.toml"),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PATH": f"{folder}{os.pathsep}{os.defpath}",
    }
    page = EXAMPLE.parents[1] / "public_page" / "project_setup.py"
    with EmbeddedHps(tmp_path / "hps", software={"uv": uv}, slots=2, tls=True) as hps:
        command = [sys.executable, page, "-U", hps.url, "-j", "2", "--ca-file", hps.ca_file or ""]
        monkeypatch.setenv("HPS_PASSWORD", hps.password)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hps.ca_file))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with Jobs.find(
            "Plots with uv", url=hps.url, ca_file=hps.ca_file, download=tmp_path / "out"
        ) as jobs:
            jobs.wait().raise_if_failed()
    plots = sorted((tmp_path / "out").glob("job-*/plot.png"))
    assert len(plots) == 2
    assert all(map(is_plot, plots))
