"""What `uv_cache.py` does on a node, but for uv's own part: that is in tests/test_forms.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from offline_bundle.wheelhouse.store.shipped import bundle_files
from tests.support.bundles import make_bundle, read_manifest, write_manifest


def write_uv_cache(bundle: Path) -> None:
    files = bundle_files(with_cache=True, with_pythons=False)
    (bundle / "uv_cache.py").write_bytes(files["uv_cache.py"])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    bundle = make_bundle(tmp_path / "bundle")
    write_uv_cache(bundle)
    for path in (
        "archive-v0/abc/leaf.py",
        "simple-v1/index/leaf.rkyv",
        "wheels-v2/index/leaf/1.0.http",
    ):
        (bundle / "cache" / path).parent.mkdir(parents=True)
        (bundle / "cache" / path).write_text(path)
    manifest = read_manifest(bundle)
    for lock in manifest["scripts"]["eval"]["locks"].values():
        lock["cache"] = "1.2.3"
    return write_manifest(bundle, manifest)


def program(folder: Path, says: str) -> Path:
    path = folder / "uv"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def call(bundle: Path, *words: str | Path, expect: int = 0) -> str:
    command = [sys.executable, bundle / "uv_cache.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stdout.strip() if not expect else done.stderr


def test_links_to_what_is_only_read(bundle: Path, tmp_path: Path) -> None:
    uv = program(tmp_path, "uv 1.2.3 (x86_64)")
    for _ in range(2):
        folder = Path(call(bundle, "--uv", uv, tmp_path / "node"))
        assert folder == tmp_path / "node"
        assert {path.name: path.readlink() for path in folder.iterdir()} == {
            name: bundle / "cache" / name for name in ("archive-v0", "simple-v1", "wheels-v2")
        }


def test_by_default_in_the_cache_of_the_launcher(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", str(program(tmp_path, "uv 1.2.3")))
    assert Path(call(bundle)).parent == tmp_path / "own"
    assert not list(bundle.rglob("__pycache__"))


def test_a_sites_own_copy(bundle: Path, tmp_path: Path) -> None:
    """As for the launcher: a site may have reviewed one, and use that for every bundle."""
    own = tmp_path / "site"
    own.mkdir()
    for name in ("uv_cache.py", "runtime"):
        shutil.move(bundle / name, own / name)
    uv = program(tmp_path, "uv 1.2.3")
    folder = Path(call(own, "--bundle", bundle, "--uv", uv, tmp_path / "node"))
    assert (folder / "archive-v0").readlink() == bundle / "cache" / "archive-v0"


def test_another_uv_is_told(bundle: Path, tmp_path: Path) -> None:
    said = call(bundle, "--uv", program(tmp_path, "uv 9.9.9"), tmp_path / "node", expect=7)
    assert "filled by uv 1.2.3" in said
    assert "--uv-version 9.9.9" in said
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize("says", ["pip 1.2.3", ""])
def test_something_else_than_uv(bundle: Path, tmp_path: Path, says: str) -> None:
    assert "is not uv" in call(bundle, "--uv", program(tmp_path, says), expect=7)


def test_without_a_uv_on_the_node_that_of_the_bundle_counts(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("OFFLINE_BUNDLE_UV", raising=False)
    assert "there is no uv that can be run here" in call(bundle, tmp_path / "node", expect=7)
    manifest = read_manifest(bundle)
    manifest["uv"]["x86_64-unknown-linux-musl"] = {"version": "1.2.3", "path": "uv/uv"}
    manifest["files"]["uv/uv"] = {"sha256": "0" * 64, "size": 1}
    (bundle / "uv").mkdir(exist_ok=True)
    (bundle / "uv" / "uv").write_text("x")
    write_manifest(bundle, manifest)
    assert call(bundle, tmp_path / "node") == str(tmp_path / "node")


def test_no_uv_at_all(bundle: Path, tmp_path: Path) -> None:
    assert "--uv PATH" in call(bundle, "--uv", tmp_path / "none", expect=7)


def test_a_bundle_without_a_cache(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    write_uv_cache(bundle)
    assert "--format cache" in call(bundle, "--uv", program(tmp_path, "uv 1.2.3"), expect=7)


@pytest.mark.parametrize("words", [["--what"], ["a", "b"], ["--uv"]])
def test_bad_usage(bundle: Path, words: list[str]) -> None:
    assert "usage:" in call(bundle, *words, expect=2)


def test_help(bundle: Path) -> None:
    assert "UV_CACHE_DIR" in call(bundle, "--help")


def test_files_without_the_mode_that_uv_needs_are_copied(bundle: Path, tmp_path: Path) -> None:
    """uv copies a file with its mode, and writes into some of the copies."""
    for path in bundle.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    uv, node = program(tmp_path, "uv 1.2.3"), tmp_path / "node"
    call(bundle, "--uv", uv, node)
    copy = node / "archive-v0" / "abc" / "leaf.py"
    assert copy.stat().st_mode & 0o200
    page = bundle / "cache" / "simple-v1" / "index" / "leaf.rkyv"
    page.chmod(0o644)
    page.write_text("an update came")
    page.chmod(0o444)
    before = copy.stat().st_mtime_ns
    call(bundle, "--uv", uv, node)
    assert (node / "simple-v1" / "index" / "leaf.rkyv").read_text() == "an update came"
    assert copy.stat().st_mtime_ns == before
    for path in bundle.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
