"""Programs that decide trust are searched in absolute folders of PATH only."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from offline_bundle.builder.fetch.credential_helpers import keyring_path
from offline_bundle.builder.formats.image import find_mksquashfs
from offline_bundle.runner import doctor
from offline_bundle.runner.engines.slurm.scheduler import Slurm
from offline_bundle.wheelhouse.cli.kit.doctor_checks import run_checks
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.processes import absolute_path, find_program, tool_variables
from offline_bundle.wheelhouse.signing import sign
from offline_bundle.wheelhouse.store import shipped
from tests.support.bundles import make_bundle
from tests.support.site_policy import make_site

NAMES = (
    "ssh-keygen",
    "git",
    "keyring",
    "bwrap",
    "sbatch",
    "scontrol",
    "sinfo",
    "mksquashfs",
    "squashfuse",
    "uv",
    "python3",
    "sha256sum",
)
SYSTEM = "/usr/bin:/bin"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return make_site(tmp_path / "site")


@pytest.fixture(params=["", ".", "planted", "./planted"])
def planted(
    policy: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """PATH with a relative element first, in which each program leaves a mark."""
    del policy  # its key is made with the system's ssh-keygen
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / request.param
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        program = folder / name
        program.write_text(f'#!/bin/sh\necho ran >>"{tmp_path}/mark"\n')
        program.chmod(0o755)
    path = f"{request.param}:{SYSTEM}"
    monkeypatch.setenv("PATH", path)
    return path


def test_no_program_comes_from_a_relative_folder(planted: str, tmp_path: Path) -> None:
    assert planted != absolute_path() == SYSTEM
    found = [find_program(name) for name in NAMES]
    assert not [path for path in found if path and path.startswith(str(tmp_path))]
    assert tool_variables()["PATH"] == SYSTEM
    assert all(map(os.path.isabs, keyring_path().split(":")))
    with contextlib.suppress(InputError):  # this machine may have none
        assert find_mksquashfs().startswith("/usr/bin/")
    assert list(run_checks(doctor.checks()))
    with pytest.raises(BundleError):  # no Slurm here, or one without a controller
        Slurm().array_limit()
    assert not Path("mark").exists()


def test_signatures_are_checked_by_a_program_of_the_system(
    planted: str, policy: Path, tmp_path: Path
) -> None:
    del planted
    bundle = make_bundle(tmp_path / "bundle")
    sign(bundle, str(policy.with_name("alice")))
    with (bundle / "bundle.json").open("a") as manifest:
        manifest.write(" ")
    command = [sys.executable, "-I", tmp_path / "site" / "run.py", "--bundle", bundle]
    variables = {**os.environ, "OFFLINE_BUNDLE_POLICY": str(policy)}
    done = subprocess.run(
        [*command, bundle / "scripts" / "eval.py"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    assert "modified after signing" in done.stderr
    assert not Path("mark").exists()


def test_the_shell_launcher_starts_nothing_from_the_working_folder(
    planted: str, tmp_path: Path
) -> None:
    del planted
    bundle = tmp_path / "bundle"
    files = shipped.bundle_files(with_cache=False, with_pythons=True)
    bundle.mkdir()
    (bundle / "run.py").write_bytes(files["run.py"])
    (bundle / "run.sh").write_bytes(files["run.sh"])
    subprocess.run(["/bin/sh", bundle / "run.sh", "x.py"], check=False, capture_output=True)
    assert not Path("mark").exists()
