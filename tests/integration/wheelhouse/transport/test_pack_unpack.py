from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.archive import extract
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport import output
from offline_bundle.wheelhouse.transport.open import verify_archive
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.archives import no_fsync, put_bundle, small_disk, tree, unpacker_path
from tests.support.command_line import call
from tests.support.writer_cases import ROOT, Victim

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.pack_unpack_cases import PACKAGES, archive, bundle, is_whole, parts

__all__ = ["archive", "bundle", "no_fsync", "parts"]


SLOW_100 = [15, pytest.param(100, marks=pytest.mark.slow)]


def test_coreutils_unpack_and_check_a_whole_archive(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    subprocess.run(["tar", "-xf", archive], cwd=tmp_path / "plain", check=True)
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=tmp_path / "plain",
        check=True,
    )
    assert is_whole(tmp_path / "plain")


def test_coreutils_join_and_check_parts(bundle: Path, tmp_path: Path) -> None:
    pack(bundle, tmp_path / "b.tar", split_size=64 * 1024)
    pack(bundle, tmp_path / "whole.tar")
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "b.tar.parts.sha256"],
        cwd=tmp_path,
        check=True,
    )
    joined = subprocess.run(
        "cat b.tar.0*", shell=True, cwd=tmp_path, check=True, capture_output=True
    ).stdout
    assert joined == (tmp_path / "whole.tar").read_bytes()


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Packing and unpacking 80 MB takes less than 30 MB more than importing."""
    bundle = put_bundle(tmp_path / "bundle", {"eval": {"alpha": "1.0"}}, wheel_size=80_000_000)
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from offline_bundle.wheelhouse.transport.pack import pack\n"
        "from offline_bundle.wheelhouse.transport.unpack import unpack\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "bundle, archive, copy = map(Path, sys.argv[1:])\n"
        "pack(bundle, archive); unpack([archive], copy)\n"
        "sys.exit(peak() - before > 30_000 and f'{peak() - before} kB more')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [bundle, tmp_path / "b.tar", tmp_path / "copy"]
    subprocess.run([sys.executable, "-c", program, *arguments], env=environment, check=True)


@pytest.mark.parametrize(
    "path",
    [
        "wheels/" + "long" * 50 + "-1.0-py3-none-any.whl",
        "scripts/größe.py",
        "wheels/" + "d" * 90 + "/x",
    ],
)
def test_long_and_non_ascii_names_are_kept(tmp_path: Path, path: str) -> None:
    from offline_bundle.wheelhouse.derived.complete import file_entry
    from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest
    from offline_bundle.wheelhouse.store.writer import BundleWriter

    files = {path: file_entry(b"content"), "SHA256SUMS": BundledFile(sha256=None, size=None)}
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.commit(
            Manifest(created_by="x", timestamp="2026-01-01T00:00:00Z", files=files),
            {path: b"content"},
        )
    pack(tmp_path / "bundle", tmp_path / "b.tar")
    unpack([tmp_path / "b.tar"], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(tmp_path / "bundle")
    (tmp_path / "plain").mkdir()
    subprocess.run(["tar", "-xf", "../b.tar"], cwd=tmp_path / "plain", check=True)
    assert tree(tmp_path / "plain") == tree(tmp_path / "bundle")


def test_plain_tar_unpacks_a_difference_over_its_base(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", {"eval": PACKAGES})
    shutil.copytree(bundle, tmp_path / "old")
    put_bundle(bundle, {"eval": {**PACKAGES, "epsilon": "2.0"}})
    pack(bundle, tmp_path / "d.tar", since=tmp_path / "old")
    subprocess.run(["tar", "-xf", "../d.tar"], cwd=tmp_path / "old", check=True)
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=tmp_path / "old",
        check=True,
    )
    assert tree(tmp_path / "old") == tree(bundle)
    assert is_whole(tmp_path / "old")


@pytest.mark.parametrize("is_foreseen", [True, False])
def test_a_full_disk_is_reported_and_nothing_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_foreseen: bool
) -> None:
    if not is_foreseen:  # by a quota, or somebody else who writes
        monkeypatch.setattr(output, "check_space", lambda *_: None)
        monkeypatch.setattr(extract, "check_space", lambda *_: None)
    big = put_bundle(tmp_path / "big", {"eval": {"beta": "2.0"}}, wheel_size=700_000)
    pack(big, tmp_path / "big.tar")
    with small_disk(tmp_path / "disk", 600_000) as disk:
        live = put_bundle(disk / "live", text="live")
        pack(live, disk / "kept.tar")
        before, kept = tree(live), (disk / "kept.tar").read_bytes()
        for attempt in (
            lambda: unpack([tmp_path / "big.tar"], live, replace_scripts=True),
            lambda: pack(big, disk / "kept.tar"),
            lambda: pack(big, disk / "new.tar", split_size=100_000),
        ):
            with pytest.raises(BundleError, match="No space left on device") as caught:
                attempt()
            assert ("bytes are needed" in caught.value.message) is is_foreseen
            assert caught.value.exit_code == 1
            assert "free some space" in (caught.value.hint or "")
            assert tree(live) == before
            assert is_whole(live)
            assert (disk / "kept.tar").read_bytes() == kept
            assert {path.name for path in disk.iterdir()} == {
                "live",
                "kept.tar",
                "kept.tar.unpack.py",
            }


def test_a_full_disk_is_reported_by_the_unpacker(archive: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 60_000) as disk:
        command = [sys.executable, "-I", unpacker_path(), archive, "-o", disk / "live"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert "hint: free some space" in done.stderr
        assert not (disk / "live/bundle.json").exists()


def test_a_read_only_destination_is_reported(archive: Path, bundle: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        live = put_bundle(disk / "live", text="live")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for attempt in (lambda: unpack([archive], live), lambda: pack(bundle, disk / "b.tar")):
            with pytest.raises(BundleError, match="Read-only file system") as caught:
                attempt()
            assert caught.value.exit_code == 1
        assert is_whole(live)


IMPORTS = """
os.fsync = lambda _: None
from pathlib import Path
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
"""


PACKS = """
while True:
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
    pack(Path(sys.argv[1]), Path(sys.argv[3]), split_size=100_000)
"""


UNPACKS = """
while True:
    unpack([Path(sys.argv[2])], Path(sys.argv[1]), allow_rollback=True)
    unpack([Path(sys.argv[3])], Path(sys.argv[1]))
"""


@pytest.mark.parametrize("kills", SLOW_100)
def test_a_pack_killed_at_any_moment_leaves_a_whole_archive_or_none(
    tmp_path: Path, kills: int
) -> None:
    chance = random.Random(kills)
    bundle = put_bundle(tmp_path / "bundle", {"eval": PACKAGES}, wheel_size=400_000)
    out = tmp_path / "out"
    out.mkdir()
    pack(bundle, tmp_path / "wanted.tar")
    with Victim(IMPORTS, PACKS, bundle, out / "b.tar", out / "p.tar") as packs:
        for _ in range(kills):
            packs.kill_at_random(chance)
            if (out / "b.tar").exists():
                assert (out / "b.tar").read_bytes() == (tmp_path / "wanted.tar").read_bytes()
            if (out / "p.tar.parts.sha256").exists():
                assert verify_archive([out / "p.tar.parts.sha256"]).ok
            pack(bundle, out / "b.tar")
            pack(bundle, out / "p.tar", split_size=100_000)
            assert verify_archive([out / "p.tar.001"]).ok
            assert verify_archive([out / "b.tar"]).ok
            assert not list(out.glob(".*"))
            if chance.random() < 0.5:
                shutil.rmtree(out)
                out.mkdir()


@pytest.mark.parametrize("kills", SLOW_100)
def test_an_unpack_killed_at_any_moment_leaves_the_old_or_the_new_bundle(
    tmp_path: Path, kills: int
) -> None:
    chance = random.Random(kills)
    bundle = put_bundle(tmp_path / "bundle", {"eval": PACKAGES}, wheel_size=100_000)
    pack(bundle, tmp_path / "one.tar")
    trees = {"one": tree(bundle)}
    put_bundle(
        bundle, {"eval": {**PACKAGES, "beta": "2.0", "zeta": "1.0"}}, wheel_size=100_000, text="two"
    )
    pack(bundle, tmp_path / "two.tar")
    trees["two"] = tree(bundle)
    live = tmp_path / "live"
    unpack([tmp_path / "one.tar"], live)
    with Victim(IMPORTS, UNPACKS, live, tmp_path / "one.tar", tmp_path / "two.tar") as unpacks:
        for _ in range(kills):
            unpacks.kill_at_random(chance)
            if (live / "bundle.json").exists():
                report = verify(live)
                for change in report.changed:  # of the other bundle, whole, or not there
                    content = (live / change.path).read_bytes()
                    assert content in {wanted[change.path] for wanted in trees.values()}
                assert not report.missing
                assert (live / "bundle.json").read_bytes() in {
                    wanted["bundle.json"] for wanted in trees.values()
                }
            name = chance.choice(["one", "two"])
            unpack([tmp_path / f"{name}.tar"], live, allow_rollback=True)
            assert tree(live) == trees[name]
            assert is_whole(live)
            assert [path.name for path in (live / ".writer").iterdir()] == ["lock"]
            if chance.random() < 0.3:
                shutil.rmtree(live)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (gzip.compress(b"bundle", mtime=0), "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed with zstd"),
        (b"PK\x03\x04" + bytes(600), "a ZIP file"),
    ],
)
def test_another_format_is_named(tmp_path: Path, content: bytes, name: str) -> None:
    archive = tmp_path / "bundle.tar"
    archive.write_bytes(content)
    refused = call("unpack", archive, "-o", tmp_path / "out")
    assert refused.code == 5
    assert f"bundle.tar is {name}, not an archive as `pack` writes it" in refused.err
    assert "extract the archive from it first" in refused.err
