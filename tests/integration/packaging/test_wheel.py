"""The built wheel: one import name, whatever else is installed or on PYTHONPATH."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.bundles import BundleScript, make_bundle

ROOT = Path(__file__).parents[3]
TRAP = "raise ImportError('a module of another project was imported')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that `pip wheel` builds from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the unpacked wheel, as site-packages has it."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_wheel_installs_one_import_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"offline_bundle"}
    wanted = ["py.typed", "cli.py", "builder/pipeline.py", "runner/follow.py"]
    wanted += ["wheelhouse/runtime/launcher/run.sh", "runner/examples/eval.py"]
    assert {f"offline_bundle/{name}" for name in wanted} <= set(names)
    assert len(names) == len(set(names))


def test_modules_of_other_projects_are_not_imported(installed: Path, tmp_path: Path) -> None:
    """Scripts named runner.py or builder.py on PYTHONPATH, or a package `wheelhouse`, do no harm."""
    traps = tmp_path / "traps"
    for name in ("builder.py", "runner.py", "wheelhouse/__init__.py"):
        path = traps / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TRAP)
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript(dependencies=(), packages=())})
    script = bundle / "scripts" / "eval.py"
    dependencies = sysconfig.get_path("purelib")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(traps), str(installed), dependencies]),
        "OFFLINE_BUNDLE_CACHE": str(tmp_path / "cache"),
    }
    for arguments in (
        ["show", str(bundle)],
        ["run", str(script), "--bundle", str(bundle)],
        ["submit", str(script), "--bundle", str(bundle), "--engine", "local", "-j", "1"],
    ):
        command = [sys.executable, "-m", "offline_bundle", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_installed_package_is_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    """The test above would prove nothing if it imported the checkout."""
    code = "import offline_bundle.cli; print(offline_bundle.cli.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(installed)
