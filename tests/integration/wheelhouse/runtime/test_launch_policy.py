"""The launcher under a signature policy, as a copy of the site's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from offline_bundle.wheelhouse.signing import sign
from offline_bundle.wheelhouse.store.shipped import bundle_files
from tests.support.bundles import BundleScript, make_bundle
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
