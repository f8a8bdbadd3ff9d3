"""The launcher under a signature policy, as a copy of the site's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from offline_bundle.wheelhouse.signing import sign
from offline_bundle.wheelhouse.store.shipped import bundle_files
from tests.support.bundles import (
    THIS_PYTHON,
    BundleScript,
    make_bundle,
    read_manifest,
    write_manifest,
)
from tests.support.programs import require
from tests.support.signing_cases import allowing, make_key, public

pytestmark = [
    pytest.mark.measured,
    pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX's"),
]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the launcher, a policy, and a key that it allows."""
    folder = tmp_path / "site"
    folder.mkdir()
    for path, content in bundle_files(with_cache=False, with_pythons=False).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    make_key(folder / "alice")
    allowing(folder, f"alice {public(folder / 'alice')}")
    (folder / "policy.json").write_text(
        json.dumps({"allowed-signers": "allowed_signers", "signer": "alice"})
    )
    monkeypatch.setenv("OFFLINE_BUNDLE_POLICY", str(folder / "policy.json"))
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(
        tmp_path / "bundle",
        {"eval": BundleScript(body="import alpha; print('ran', alpha.VERSION)\n")},
    )


def launch(site: Path, bundle: Path) -> tuple[int, str, str]:
    command = [sys.executable, site / "run.py", "--bundle", bundle, bundle / "scripts" / "eval.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def environments() -> int:
    folder = Path(os.environ["HOME"]) / ".cache" / "offline-bundle" / "environments"
    return sum(path.is_dir() for path in folder.iterdir()) if folder.exists() else 0


def test_an_unsigned_bundle_prepares_nothing(site: Path, bundle: Path) -> None:
    code, out, said = launch(site, bundle)
    assert (code, out) == (6, "")
    assert "not signed" in said
    assert environments() == 0


def test_signed_bundle_runs_while_its_key_is_allowed(site: Path, bundle: Path) -> None:
    sign(bundle, str(site / "alice"))
    assert launch(site, bundle)[:2] == (0, "ran 1.0\n")
    assert launch(site, bundle)[:2] == (0, "ran 1.0\n")
    allowing(site)
    code, _, said = launch(site, bundle)
    assert code == 6
    assert "not allowed" in said


def test_a_warm_start_notices_a_changed_manifest(site: Path, bundle: Path) -> None:
    sign(bundle, str(site / "alice"))
    assert launch(site, bundle)[0] == 0
    with (bundle / "bundle.json").open("a") as manifest:
        manifest.write(" ")
    code, _, said = launch(site, bundle)
    assert code == 6
    assert "modified after signing" in said


def test_what_was_prepared_without_a_policy_is_not_used_under_one(
    site: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged bundle with the same lock may have made the environment with a uv of its own."""
    sign(bundle, str(site / "alice"))
    with monkeypatch.context() as without:
        without.delenv("OFFLINE_BUNDLE_POLICY")
        assert launch(site, bundle)[0] == 0
    assert launch(site, bundle)[0] == 0
    assert environments() == 2


def test_faulty_policy_starts_nothing(site: Path, bundle: Path) -> None:
    sign(bundle, str(site / "alice"))
    (site / "policy.json").chmod(0o666)
    code, _, said = launch(site, bundle)
    assert code == 6
    assert "can be written by others" in said


def make_ready_environment(bundle: Path) -> Path:
    """Add an environment to the bundle, as the venv format does; return its site-packages."""
    manifest = read_manifest(bundle)
    [(target, lock)] = manifest["scripts"]["eval"]["locks"].items()
    lock["environment"] = f"envs/eval/{target}/0123456789abcdef"
    environment = bundle / lock["environment"]
    packages = environment / f"lib/python{THIS_PYTHON}/site-packages"
    with zipfile.ZipFile(next((bundle / "wheels").glob("*.whl"))) as wheel:
        wheel.extractall(packages)
    (environment / "pyvenv.cfg").write_text(f"version = {THIS_PYTHON}\n")
    (environment / "bin").mkdir()
    (environment / "bin/tool").write_text("#!python\n")
    write_manifest(bundle, manifest)
    return packages


def test_a_file_added_to_a_ready_environment_is_not_used_under_a_policy(
    site: Path, bundle: Path, tmp_path: Path
) -> None:
    packages = make_ready_environment(bundle)
    sign(bundle, str(site / "alice"))
    planted = f"import os; os.mkdir({str(tmp_path / 'planted-code-ran')!r})\n"
    (packages / "x.pth").write_text(planted)
    (packages / "json.py").write_text(planted)
    assert launch(site, bundle)[:2] == (0, "ran 1.0\n")
    (packages / "alpha.py").write_text(planted)  # after the check: the node has its own copy
    assert launch(site, bundle)[:2] == (0, "ran 1.0\n")
    assert not (tmp_path / "planted-code-ran").exists()
    [home] = (Path(os.environ["HOME"]) / ".cache/offline-bundle/environments").glob("*/env")
    assert {path.name for path in home.rglob("*.pth")} == set()
    assert os.access(home / "bin/tool", os.X_OK)


def test_a_changed_file_of_a_ready_environment_is_refused_under_a_policy(
    site: Path, bundle: Path
) -> None:
    packages = make_ready_environment(bundle)
    sign(bundle, str(site / "alice"))
    (packages / "alpha.py").write_text("VERSION = '6.6'\n")
    code, out, said = launch(site, bundle)
    assert (code, out) == (5, "")
    assert "alpha.py does not match its digest" in said
    assert environments() == 0


def test_under_a_policy_the_uv_cache_has_exactly_the_named_files(
    site: Path, bundle: Path, tmp_path: Path
) -> None:
    (site / "uv_cache.py").write_bytes(
        bundle_files(with_cache=True, with_pythons=False)["uv_cache.py"]
    )
    cached = bundle / "cache/archive-v0/abc"
    cached.mkdir(parents=True)
    (cached / "alpha.py").write_text("VERSION = '1.0'\n")
    manifest = read_manifest(bundle)
    for lock in manifest["scripts"]["eval"]["locks"].values():
        lock["cache"] = "1.2.3"
    write_manifest(bundle, manifest)
    sign(bundle, str(site / "alice"))
    (cached / "x.pth").write_text("import planted\n")
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho uv 1.2.3\n")
    uv.chmod(0o755)
    command = [sys.executable, site / "uv_cache.py", "--bundle", bundle, "--uv", uv]
    for damage in ("", "truncated"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        folder = Path(done.stdout.strip())
        files = {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        }
        assert files == {"archive-v0/abc/alpha.py"}
        copied = folder / "archive-v0/abc/alpha.py"
        assert not copied.resolve().is_relative_to(bundle)
        assert copied.read_text() == "VERSION = '1.0'\n"
        copied.write_text(damage)  # it is healed by the next call
    copied.unlink()
    (cached / "alpha.py").write_text("VERSION = '6.6'\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert not copied.exists()


def test_a_changed_script_of_the_bundle_does_not_run_under_a_policy(
    site: Path, bundle: Path
) -> None:
    """The body does not decide the environment, but it is signed like everything else."""
    sign(bundle, str(site / "alice"))
    assert launch(site, bundle)[:2] == (0, "ran 1.0\n")
    script = bundle / "scripts/eval.py"
    script.write_text(script.read_text().replace("ran", "evil"))
    code, out, said = launch(site, bundle)
    assert (code, out) == (5, "")
    assert "scripts/eval.py does not match its digest" in said


@pytest.mark.parametrize("replaced", ["script", "folder", "link of the user"])
def test_a_link_in_the_place_of_a_script_of_the_bundle_is_refused_under_a_policy(
    site: Path, bundle: Path, tmp_path: Path, replaced: str
) -> None:
    """What it leads to is elsewhere, and not a script of the user."""
    sign(bundle, str(site / "alice"))
    (bundle / "scripts").rename(tmp_path / "elsewhere")
    script = tmp_path / "elsewhere/eval.py"
    script.write_text(script.read_text().replace("ran", "evil"))
    if replaced == "folder":
        (bundle / "scripts").symlink_to(tmp_path / "elsewhere")
    else:
        (bundle / "scripts").mkdir()
        (bundle / "scripts/eval.py").symlink_to(script)
    named = bundle / "scripts/eval.py"
    if replaced == "link of the user":
        (tmp_path / "eval.py").symlink_to(named)
        named = tmp_path / "eval.py"
    command = [sys.executable, site / "run.py", "--bundle", bundle, named]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert "scripts" in done.stderr.splitlines()[0]


def test_a_script_is_the_bundles_also_where_that_is_mounted_again(
    site: Path, bundle: Path, tmp_path: Path
) -> None:
    sign(bundle, str(site / "alice"))
    script = bundle / "scripts/eval.py"
    script.write_text(script.read_text().replace("ran", "evil"))
    (tmp_path / "mounted").mkdir()
    mount = f'{require("mount")} --bind {bundle} {tmp_path}/mounted && exec "$@"'
    command = [require("unshare"), "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    command += [sys.executable, str(site / "run.py"), "--bundle", str(bundle)]
    command.append(str(tmp_path / "mounted/scripts/eval.py"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, ""), done.stderr


def test_a_module_beside_a_script_of_the_bundle_is_not_imported_under_a_policy(
    site: Path, bundle: Path
) -> None:
    """Python looks for modules in the folder of the script first."""
    sign(bundle, str(site / "alice"))
    (bundle / "scripts/alpha.py").write_text("VERSION = 'evil'\n")
    for _ in range(2):
        assert launch(site, bundle)[:2] == (0, "ran 1.0\n")


def test_own_scripts_run_from_their_place_under_a_policy(
    site: Path, bundle: Path, tmp_path: Path
) -> None:
    sign(bundle, str(site / "alice"))
    text = (bundle / "scripts/eval.py").read_text().replace("ran", "mine")
    (tmp_path / "own.py").write_text(f"{text}print(__file__)\n")
    command = [sys.executable, site / "run.py", "--bundle", bundle, tmp_path / "own.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"mine 1.0\n{tmp_path / 'own.py'}\n"), done.stderr
