"""A server that a bundle names counts where the site's policy accepts the bundle's signature."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.signing import sign
from tests.support.bundles import BundleScript, make_bundle, read_manifest, write_manifest
from tests.support.command_line import call, write_script
from tests.support.site_policy import make_site

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_signed_bundle_names_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPS_URL", raising=False)
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript()})
    settings, certificates = bundle / "offline-bundle.toml", bundle / "own.pem"
    settings.write_text('url = "http://127.0.0.1:1/hps"\nca-file = "own.pem"\n')
    certificates.write_text("")
    manifest = read_manifest(bundle)
    for path in (settings, certificates):
        content = path.read_bytes()
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        manifest["files"][path.name] = entry
    write_manifest(bundle, manifest)
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("OFFLINE_BUNDLE_POLICY", str(make_site(tmp_path / "site")))
    sign(bundle, str(tmp_path / "site/alice"))
    words = ["submit", write_script(tmp_path), "--bundle", bundle]
    assert "http://127.0.0.1:1/hps cannot be reached" in call(*words).err
    certificates.write_text("those of another server")
    assert "own.pem does not match its digest" in call(*words).err
    certificates.write_text("")
    settings.write_text('url = "http://127.0.0.1:2/hps"\n')
    assert "names the server http://127.0.0.1:2/hps, which a bundle" in call(*words).err
    (bundle / "bundle.json.sig").unlink()
    assert call(*words).code == 6
