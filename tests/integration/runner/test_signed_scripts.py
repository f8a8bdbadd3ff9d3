"""Scripts and inputs of a bundle that jobs get: under a policy, what was signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.wheelhouse.signing import sign
from tests.support.bundles import BundleScript, make_bundle
from tests.support.command_line import call
from tests.support.site_policy import make_site

if TYPE_CHECKING:
    from pathlib import Path

BODY = "import alpha; print('ran', alpha.VERSION)\n"


@pytest.fixture
def bundle(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signed bundle, on a machine that requires the signature."""
    del own_home
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript(body=BODY)})
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("OFFLINE_BUNDLE_POLICY", str(make_site(tmp_path / "site")))
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.chdir(tmp_path)
    sign(bundle, str(tmp_path / "site/alice"))
    return bundle


def console(folder: Path) -> str:
    return next(folder.glob("job-*1/*.txt")).read_text()


def test_a_changed_script_of_the_bundle_is_not_submitted(bundle: Path, tmp_path: Path) -> None:
    script = bundle / "scripts/eval.py"
    words = ["submit", script, "--bundle", bundle, "--engine", "local", "-j", "1", "--download"]
    assert call(*words, tmp_path / "good").code == 0
    assert console(tmp_path / "good") == "ran 1.0\n"
    changed = tmp_path / "changed.py"
    changed.write_text(script.read_text().replace("ran", "evil"))
    script.unlink()
    script.symlink_to(changed)
    refused = call(*words, tmp_path / "bad")
    assert (refused.code, refused.out) == (5, "")
    assert "scripts/eval.py does not match its digest" in refused.err
    assert not (tmp_path / "bad").exists()


def test_a_changed_input_of_the_bundle_is_not_submitted(bundle: Path, tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text((bundle / "scripts/eval.py").read_text())
    table = next((bundle / "locks").rglob("*.toml"))
    words = ["submit", script, "--bundle", bundle, "--engine", "local", "--input", table, "-j", "1"]
    assert call(*words, "--download", tmp_path / "good").code == 0
    table.write_text("")
    refused = call(*words, "--download", tmp_path / "bad")
    assert refused.code == 5
    assert "does not match its digest" in refused.err


def test_local_jobs_run_the_script_that_was_checked(bundle: Path, tmp_path: Path) -> None:
    """Python would import a module beside the script in the bundle."""
    (bundle / "scripts/alpha.py").write_text("VERSION = 'evil'\n")
    words = ["run", bundle / "scripts/eval.py", "--bundle", bundle, "-j", "1"]
    assert call(*words, "--output", tmp_path / "out").code == 0
    assert console(tmp_path / "out") == "ran 1.0\n"
