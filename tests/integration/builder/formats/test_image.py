"""Images of environments: made once per lock, and the same everywhere."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.errors import FetchError, InputError
from offline_bundle.wheelhouse.runtime.squashfs import unpack as unpack_image
from offline_bundle.wheelhouse.store.prune import prune
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.distributions import make_wheel, sha256_of
from tests.support.pipeline_cases import HERE, TARGET, Factory, digests, factory, snapshot
from tests.support.programs import require

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.builder.model import BuildReport
    from tests.support.index_server import IndexServer

__all__ = ["factory"]


@pytest.fixture(autouse=True)
def wheels(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mksquashfs")
    make_wheel(packages, "leaf", entry_points="[console_scripts]\nleaf = leaf:main\n")
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "node"))


def build(factory: Factory, *scripts: Path, **changes: object) -> BuildReport:
    report = factory.build(*scripts, **{"formats": ("image",), **changes})  # type: ignore[arg-type]
    raise_for_problems(verify(factory.bundle))
    return report


def image(factory: Factory, name: str = "job") -> Path:
    path = factory.manifest.scripts[name].locks[TARGET].image
    assert path
    return factory.bundle / path


def test_image_has_packages_and_bytecode_and_no_link(factory: Factory, tmp_path: Path) -> None:
    build(factory, factory.script("leaf"))
    unpack_image(str(image(factory)), str(tmp_path / "image"))
    paths = list((tmp_path / "image").rglob("*"))
    assert not [path for path in paths if path.is_symlink()]
    packages = tmp_path / "image" / "lib" / f"python{HERE}" / "site-packages"
    assert list(packages.glob("__pycache__/leaf.*.pyc"))
    assert (tmp_path / "image/bin/leaf").stat().st_mode & 0o111
    names = {path.name for path in (tmp_path / "image").iterdir()}
    assert names == {"bin", "contents.json", "lib", "pyvenv.cfg"}


def test_same_inputs_give_the_same_bytes(
    factory: Factory, index: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(factory, factory.script("leaf"))
    (tmp_path / "other").mkdir()
    other = Factory(tmp_path / "other", index)
    programs = tmp_path / "programs"
    programs.mkdir()
    wrapper = f'#!/bin/sh\nexec {require("mksquashfs")} "$@" -processors 1\n'
    (programs / "mksquashfs").write_text(wrapper)
    (programs / "mksquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    umask = os.umask(0o077)
    try:
        build(other, other.script("leaf"))
    finally:
        os.umask(umask)
    assert digests(other.bundle) == digests(factory.bundle)


def test_equal_locks_share_an_image(factory: Factory) -> None:
    build(factory, factory.script("leaf"))
    before = sha256_of(image(factory))
    build(factory, factory.script("leaf", name="second"), formats=())
    assert image(factory, "second") == image(factory)
    assert sha256_of(image(factory)) == before
    assert len(list((factory.bundle / "images").iterdir())) == 1


def test_building_again_changes_nothing_and_needs_no_flag(factory: Factory) -> None:
    build(factory, factory.script("leaf"))
    before = snapshot(factory.bundle)
    assert not build(factory, factory.script("leaf"), formats=()).changed
    assert snapshot(factory.bundle) == before


def test_locks_alone_bring_the_image_back(factory: Factory) -> None:
    script = factory.script("leaf")
    build(factory, script)
    before = digests(factory.bundle)
    image(factory).unlink()
    factory.build(script, is_locked=True)
    assert digests(factory.bundle) == before


def test_image_of_an_old_lock_stays_until_pruned(factory: Factory, packages: Path) -> None:
    script = factory.script("leaf")
    build(factory, script)
    old = image(factory)
    make_wheel(packages, "leaf", "2.0")
    build(factory, script, formats=())
    assert image(factory) != old
    assert old.exists()
    prune(factory.bundle, grace=timedelta())
    assert not old.exists()
    assert image(factory).exists()
    raise_for_problems(verify(factory.bundle))


def test_image_moves_through_archives_and_merging(
    factory: Factory, index: IndexServer, tmp_path: Path
) -> None:
    build(factory, factory.script("leaf"))
    (tmp_path / "other").mkdir()
    other = Factory(tmp_path / "other", index)
    build(other, other.script("leaf", name="second"), formats=())
    pack(factory.bundle, tmp_path / "bundle.tar")
    unpack([tmp_path / "bundle.tar"], other.bundle)
    raise_for_problems(verify(other.bundle))
    assert sha256_of(image(other)) == sha256_of(image(factory))
    assert other.manifest.scripts["second"].locks[TARGET].image is None


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_damaged_image_is_named_by_verify(factory: Factory, damage: str) -> None:
    build(factory, factory.script("leaf"))
    path = image(factory)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "truncated" else b"!" + content[1:])
    report = verify(factory.bundle)
    assert path.name in " ".join([*report.missing, *(change.path for change in report.changed)])


def test_missing_mksquashfs_is_named_before_anything_is_fetched(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(factory.folder))
    text = factory.fails(InputError, factory.script("leaf"), formats=("image",))
    assert "mksquashfs, which is not on PATH" in text
    assert "apt-get install squashfs-tools" in text
    assert not factory.bundle.exists()


def test_failing_mksquashfs_is_reported(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    program = factory.folder / "mksquashfs"
    program.write_text("#!/bin/sh\necho 'mksquashfs: invalid option' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(factory.folder), prepend=":")
    text = factory.fails(FetchError, factory.script("leaf"), formats=("image",))
    assert "mksquashfs: invalid option" in text


def test_targets_without_image_are_named(factory: Factory) -> None:
    platforms = ("x86_64-pc-windows-msvc",)
    text = factory.fails(
        InputError, factory.script("leaf"), formats=("image",), platforms=platforms
    )
    assert "no environment can be made here" in text
    assert "leave out --format image" in text


def test_image_is_accepted_by_unsquashfs(factory: Factory, tmp_path: Path) -> None:
    build(factory, factory.script("leaf"))
    own, others = tmp_path / "own", tmp_path / "others"
    unpack_image(str(image(factory)), str(own))
    command = [require("unsquashfs"), "-q", "-n", "-d", str(others), str(image(factory))]
    subprocess.run(command, check=True, capture_output=True)
    assert subprocess.run(["diff", "-r", own, others], check=False).returncode == 0
