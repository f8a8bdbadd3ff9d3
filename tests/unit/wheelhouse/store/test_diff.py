from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import cli, run_command_line
from offline_bundle.wheelhouse.cli.diff import diff_command
from offline_bundle.wheelhouse.derived.diff import diff
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledUv
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, IntegrityError
from offline_bundle.wheelhouse.transport.open import load_manifest
from offline_bundle.wheelhouse.transport.pack import pack
from tests.support.reviewed import LINUX, WINDOWS, Shelf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_manifest_does_not_differ_from_itself(shelf: Shelf) -> None:
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}})
    changes = diff(manifest, manifest)
    assert changes.is_empty
    assert (changes.packages, changes.to_carry) == ((), 0)


def test_packages_added_removed_and_changed_per_script_and_target(shelf: Shelf) -> None:
    old_numpy, gone = shelf.wheel("numpy", "1.0", size=200), shelf.wheel("gone", size=300)
    same = shelf.wheel("same")
    old = shelf.manifest(
        {"eval": {LINUX: [old_numpy, gone, same], WINDOWS: [old_numpy, same]}},
        asks={"eval": ["numpy"]},
    )
    newer = Shelf()
    numpy, extra = newer.wheel("numpy", "2.0", size=260), newer.wheel("extra", size=50)
    newer.files |= {path: shelf.files[path] for path in (same, old_numpy)}
    new = newer.manifest(
        {"eval": {LINUX: [numpy, extra, same], WINDOWS: [old_numpy, same]}},
        asks={"eval": ["numpy"]},
    )
    changes = diff(old, new)
    assert [
        (c.target, c.name, c.kind, c.old_version, c.new_version, c.new_size - c.old_size)
        for c in changes.packages
    ] == [
        (LINUX, "extra", "added", None, "1.0", 50),
        (LINUX, "gone", "removed", "1.0", None, -300),
        (LINUX, "numpy", "changed", "1.0", "2.0", 60),
    ]
    assert changes.locks.changed == (f"eval/{LINUX}",)
    assert not changes.scripts
    assert not changes.targets


def test_another_wheel_of_the_same_version_is_a_change(shelf: Shelf) -> None:
    old = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}})
    path = next(iter(shelf.files))
    shelf.files[path] = replace(shelf.files[path], sha256="0" * 64)
    (change,) = diff(old, shelf.manifest({"eval": {LINUX: [path]}})).packages
    assert (change.kind, change.old_version, change.new_version) == ("changed", "1.0", "1.0")


def test_scripts_targets_and_uv(shelf: Shelf) -> None:
    numpy = shelf.wheel("numpy")
    old = shelf.manifest(
        {"eval": {LINUX: [numpy]}, "gone": {LINUX: [numpy]}}, uv=["x86_64-manylinux_2_17"]
    )
    new = shelf.manifest(
        {"eval": {LINUX: [numpy], WINDOWS: [numpy]}}, uv=["x86_64-manylinux_2_17"], text=" # edited"
    )
    new = replace(
        new,
        uv={"x86_64-manylinux_2_17": BundledUv(version="1.0", path="uv/x86_64-manylinux_2_17/uv")},
    )
    changes = diff(old, new)
    assert (changes.scripts.removed, changes.scripts.changed) == (("gone",), ("eval",))
    assert changes.targets.added == (WINDOWS,)
    assert changes.uv.changed == ("x86_64-manylinux_2_17",)
    assert changes.locks.added == (f"eval/{WINDOWS}",)
    assert changes.locks.removed == (f"gone/{LINUX}",)


def test_to_carry_counts_the_files_that_pack_since_writes(shelf: Shelf) -> None:
    numpy = shelf.wheel("numpy", size=500)
    old = shelf.manifest({"eval": {LINUX: [numpy]}})
    shelf.wheel("more", size=70)
    shelf.files["data/numpy.whl"] = shelf.files[numpy]  # the same content at another path
    new = shelf.manifest({"eval": {LINUX: [numpy]}})
    metadata = new.files["wheels/more-1.0-py3-none-any.whl.metadata"]
    assert diff(old, new).to_carry == 70 + (metadata.size or 0) + 500


class TestCommand:
    @pytest.fixture
    def bundles(self, tmp_path: Path, shelf: Shelf) -> tuple[Path, Path]:
        old, new = tmp_path / "old", tmp_path / "new"
        shelf.write(old, shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy", "1.0")]}}))
        newer = Shelf()
        newer.write(
            new, newer.manifest({"eval": {LINUX: [newer.wheel("numpy", "2.0", size=1100)]}})
        )
        return old, new

    def test_diff_prints_tables(
        self,
        bundles: tuple[Path, Path],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("COLUMNS", "150")
        assert run_command_line(diff_command, [*map(str, bundles)], "diff") == 0
        said = capsys.readouterr().out
        for text in ("numpy", "changed", "1.0", "2.0", "+1000 B", f"eval/{LINUX}"):
            assert text in said
        assert "Added and changed files have" in said

    def test_diff_prints_json(
        self, bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_command_line(diff_command, [*map(str, bundles), "--json"], "diff") == 0
        document = json.loads(capsys.readouterr().out)
        (package,) = document["packages"]
        assert package["kind"] == "changed"
        assert (package["old_size"], package["new_size"], package["target"]) == (100, 1100, LINUX)
        assert document["is_empty"] is False

    def test_diff_of_equal_bundles_prints_one_line(
        self, bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_command_line(diff_command, [str(bundles[0]), str(bundles[0])], "diff") == 0
        assert capsys.readouterr().out == "No differences.\n"

    def test_load_manifest_reads_bundles_manifests_and_archives(
        self, bundles: tuple[Path, Path], tmp_path: Path
    ) -> None:
        archive = tmp_path / "new.tar"
        pack(bundles[1], archive)
        assert (
            load_manifest(bundles[1])
            == load_manifest(bundles[1] / "bundle.json")
            == load_manifest(archive)
        )

    def test_load_manifest_rejects_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("no bundle")
        for place, kind in (
            ("folder", InputError),
            ("nowhere", BundleError),
            ("file", BundleError),
        ):
            with pytest.raises(kind):
                load_manifest(tmp_path / place)
        (tmp_path / "file").write_text("{}")
        with pytest.raises(IntegrityError):
            load_manifest(tmp_path / "file")


def test_every_command_counts_the_files_of_the_manifest(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, archive = tmp_path / "bundle", tmp_path / "bundle.tar"
    manifest = shelf.write(bundle, shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}}))
    shown = f"{len(manifest.files)} files, "
    for line in (
        ["show", str(bundle)],
        ["show", str(bundle / "bundle.json")],
        ["verify", str(bundle)],
        ["pack", str(bundle), "-o", str(archive)],
        ["show", str(archive)],
        ["verify", str(archive)],
    ):
        assert run_command_line(cli, line, "offline-bundle") == 0
        output = capsys.readouterr()
        assert shown in output.out + output.err, line


def test_show_of_another_file_names_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "eval.py").write_text("print()\n")
    assert run_command_line(cli, ["show", str(tmp_path / "eval.py")], "offline-bundle") == 2
    message = capsys.readouterr().err
    assert "eval.py is not a bundle, its bundle.json, or an archive" in message
    (tmp_path / "cut.tar").write_bytes(b"bundle.json" + bytes(2000))
    assert run_command_line(cli, ["show", str(tmp_path / "cut.tar")], "offline-bundle") == 5
