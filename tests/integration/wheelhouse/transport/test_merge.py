from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from tests.support.archives import no_fsync, put_bundle, tree

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.merge_cases import carry, live

__all__ = ["live", "no_fsync"]


def test_inventories_are_rendered_for_the_merged_bundle(tmp_path: Path, live: Path) -> None:
    from offline_bundle.wheelhouse.derived.inventories import add_inventories, gather_metadata
    from offline_bundle.wheelhouse.store.writer import BundleWriter

    bundles = [
        put_bundle(tmp_path / "one"),
        put_bundle(tmp_path / "two", {"plot": {"gamma": "1.0"}}),
    ]
    for bundle in bundles:
        plain = read_manifest(bundle)
        metadata = gather_metadata(plain, {}, bundle)
        manifest, contents = add_inventories(plain, lambda: metadata, None)  # noqa: B023
        with BundleWriter(bundle) as writer:
            writer.commit(manifest, contents)
        carry(bundle, live)
    for bundle in reversed(bundles):
        carry(bundle, tmp_path / "reversed")
    assert (tmp_path / "reversed/sbom.cdx.json").read_bytes() == (
        live / "sbom.cdx.json"
    ).read_bytes()
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=live, check=True
    )
    for name in ("alpha", "beta", "gamma"):
        assert f'href="{name}/"' in (live / "simple/index.html").read_text()
        assert (
            f"{name}-1.0-py3-none-any.whl#sha256="
            in (live / f"simple/{name}/index.html").read_text()
        )
    said = (live / "sbom.cdx.json").read_text()
    assert "pkg:pypi/alpha@1.0" in said
    assert "pkg:pypi/gamma@1.0" in said
    assert "gamma" in (live / "report.html").read_text()
    before = tree(live)
    assert not carry(bundles[1], live).changed
    assert not carry(bundles[0], live).changed
    assert tree(live) == before
