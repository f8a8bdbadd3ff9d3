from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import shutil
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from offline_bundle.wheelhouse.derived.complete import file_entry
from offline_bundle.wheelhouse.derived.diff import diff
from offline_bundle.wheelhouse.derived.inventories import add_inventories, gather_metadata
from offline_bundle.wheelhouse.runtime.archive.tar import render_header
from offline_bundle.wheelhouse.runtime.archive.unpack import main
from offline_bundle.wheelhouse.runtime.bundle.manifest import Source, read_manifest
from offline_bundle.wheelhouse.runtime.disk.paths import unsafe_path
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, IntegrityError
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.store.writer import BundleWriter
from offline_bundle.wheelhouse.transport import output
from offline_bundle.wheelhouse.transport.open import count_left_out, read_archive, verify_archive
from offline_bundle.wheelhouse.transport.output import ArchiveOutput, part_sizes
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.archives import (
    digest_of,
    member_at,
    no_fsync,
    opened,
    put_bundle,
    tree,
    wheel_path,
)

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.pack_unpack_cases import PACKAGES, archive, bundle, is_whole, parts

__all__ = ["archive", "bundle", "no_fsync", "parts"]


SLOW_1000 = [100, pytest.param(1000, marks=pytest.mark.slow)]


def test_packed_and_unpacked_is_the_same(bundle: Path, archive: Path, tmp_path: Path) -> None:
    (done,) = unpack([archive], tmp_path / "copy")
    assert (done.relation, done.changed, done.unsigned) == ("new", True, False)
    assert tree(tmp_path / "copy") == tree(bundle)
    assert os.access(tmp_path / "copy/uv/x86_64-manylinux_2_17/uv", os.X_OK)
    assert is_whole(tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy/.writer").iterdir()] == ["lock"]


def test_the_same_bundle_gives_the_same_bytes(bundle: Path, archive: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    pack(tmp_path / "elsewhere", tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_it_is_a_plain_tar_with_the_manifest_first(bundle: Path, archive: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names[:2] == ["bundle.json", "SHA256SUMS"]
    assert names[2:] == sorted(names[2:])
    assert set(names) == tree(bundle).keys()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.type) for m in members} == {
        (0, 0, "", "", 1767225600, tarfile.REGTYPE)
    }
    assert {m.name: m.mode for m in members if m.mode != 0o644} == {
        "uv/x86_64-manylinux_2_17/uv": 0o755
    }


@pytest.mark.parametrize("ruin", ["flip", "shorten", "remove", "link"])
def test_a_damaged_bundle_is_not_packed(bundle: Path, tmp_path: Path, ruin: str) -> None:
    path = bundle / wheel_path("beta", "1.0")
    content = path.read_bytes()
    path.unlink()
    if ruin == "flip":
        path.write_bytes(b"#" + content[1:])
    elif ruin == "shorten":
        path.write_bytes(content[:-1])
    elif ruin == "link":
        path.symlink_to(bundle / wheel_path("alpha", "1.0"))
    (tmp_path / "out").mkdir()
    with pytest.raises(IntegrityError, match="damaged") as caught:
        pack(bundle, tmp_path / "out/b.tar")
    assert wheel_path("beta", "1.0") in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_medium_that_changes_bytes_is_detected_before_the_rename(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ArchiveOutput.write

    def garble(output: ArchiveOutput, content: bytes) -> None:
        real(output, content.replace(b"alpha", b"aleph") if b"ustar" in content else content)

    monkeypatch.setattr(ArchiveOutput, "write", garble)
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match="reads back differently") as caught:
        pack(bundle, tmp_path / "out/b.tar")
    assert caught.value.exit_code == 1
    assert caught.value.problems
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_that_changes_while_packed_is_not_reported_as_damaged(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ArchiveOutput.write

    def change(output: ArchiveOutput, content: bytes) -> None:
        monkeypatch.setattr(ArchiveOutput, "write", real)
        put_bundle(bundle, {"eval": PACKAGES}, text="new!")  # no file goes, one has other bytes
        real(output, content)

    put_bundle(bundle, {"eval": PACKAGES}, text="old!")
    monkeypatch.setattr(ArchiveOutput, "write", change)
    with pytest.raises(BundleError, match="changed while it was packed"):
        pack(bundle, tmp_path / "b.tar")


def test_files_of_a_running_update_are_not_reported_as_damaged(
    bundle: Path, tmp_path: Path
) -> None:
    """A commit replaces files before it replaces the manifest."""
    before = (bundle / "bundle.json").read_bytes()
    put_bundle(bundle, {"eval": {**PACKAGES, "beta": "2.0"}})
    (bundle / ".writer/pending.json").write_bytes((bundle / "bundle.json").read_bytes())
    (bundle / "bundle.json").write_bytes(before)
    with pytest.raises(BundleError, match="changed while it was packed") as caught:
        pack(bundle, tmp_path / "b.tar")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("split_size", "failing"),
    [(None, ".unpack.py"), (64 * 1024, ".unpack.py"), (64 * 1024, ".parts.sha256")],
)
def test_without_space_for_all_files_no_file_remains(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    split_size: int | None,
    failing: str,
) -> None:
    """An archive without its unpacker would look like a success."""
    real = output._write_durable

    def fail(path: Path, content: bytes) -> None:
        if failing in path.name:
            path.write_bytes(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, content)

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(output, "_write_durable", fail)
    with pytest.raises(BundleError, match="No space left"):
        pack(bundle, tmp_path / "out/b.tar", split_size=split_size)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["b.tgz", "b", ".tar", "missing/b.tar", "bundle/b.tar", "folder.tar"]
)
def test_an_invalid_output_is_bad_usage(bundle: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(InputError) as caught:
        pack(bundle, tmp_path / name)
    assert caught.value.hint


@given(
    path=st.text(alphabet=st.sampled_from("ab/.é漢-_ "), min_size=1, max_size=60).map(
        lambda t: t * 5
    ),
    size=st.integers(0, 2**40),
)
@example(path="a" * 100, size=0)
@example(path="d" * 155 + "/" + "n" * 100, size=8**11 - 1)
@example(path="d" * 156 + "/" + "n" * 99, size=8**11)
@example(path="x" * 1024, size=1)
def test_every_safe_path_and_size_is_readable_from_its_header(path: str, size: int) -> None:
    if unsafe_path(path):
        return
    header = render_header(path, size, 5)
    with tarfile.open(fileobj=io.BytesIO(header + bytes(10240))) as tar:
        member = tar.next()
    assert member is not None
    assert (member.name, member.size, member.mtime, member.isreg()) == (path, size, 5, True)
    assert len(header) % 512 == 0


@pytest.mark.parametrize("base", ["bundle", "manifest", "archive", "difference"])
def test_a_difference_contains_what_the_base_does_not_have(tmp_path: Path, base: str) -> None:
    bundle = put_bundle(tmp_path / "bundle", {"eval": PACKAGES})
    pack(bundle, tmp_path / "old.tar")
    shutil.copytree(bundle, tmp_path / "old")
    unpack([tmp_path / "old.tar"], tmp_path / "live")
    since = {
        "bundle": tmp_path / "old",
        "manifest": tmp_path / "old/bundle.json",
        "archive": tmp_path / "old.tar",
    }
    put_bundle(bundle, {"eval": {**PACKAGES, "beta": "2.0"}})
    pack(bundle, tmp_path / "one.tar", since=since.get(base, tmp_path / "old.tar"))
    assert unpack([tmp_path / "one.tar"], tmp_path / "live")[0].relation == "newer"
    assert tree(tmp_path / "live") == tree(bundle)
    with opened(tmp_path / "one.tar") as one:
        assert wheel_path("beta", "2.0") in one.included
        assert wheel_path("alpha", "1.0") not in one.included
        assert one.base == (digest_of(tmp_path / "old"), 1)
    if base == "difference":
        put_bundle(bundle, {"eval": {**PACKAGES, "beta": "3.0"}})
        pack(bundle, tmp_path / "two.tar", since=tmp_path / "one.tar")
        unpack([tmp_path / "two.tar"], tmp_path / "live")
        assert tree(tmp_path / "live") == tree(bundle)
    assert is_whole(tmp_path / "live")


def test_a_difference_for_one_package_is_its_files_and_at_most_1_mib(tmp_path: Path) -> None:
    """With URLs, lock entries and inventories as of 200 packages from a public index."""
    packages = {f"some_typical_package{number}": "1.0" for number in range(200)}
    changed = {**packages, "some_typical_package7": "1.1"}
    bundle = described_fully(put_bundle(tmp_path / "bundle", {"eval": packages}))
    shutil.copytree(bundle, tmp_path / "old")
    described_fully(put_bundle(bundle, {"eval": changed}))
    report = pack(bundle, tmp_path / "d.tar", since=tmp_path / "old")
    own = sum(path.stat().st_size for path in bundle.glob("*/*package7-1.1*"))
    assert report.size == (tmp_path / "d.tar").stat().st_size
    assert report.size <= own + 1024 * 1024
    assert report.left_out > 400
    verified = verify_archive([tmp_path / "d.tar"])
    assert (verified.files, verified.left_out) == (report.members, report.left_out)
    assert verified.size == diff(read_manifest(tmp_path / "old"), read_manifest(bundle)).to_carry
    assert count_left_out(tmp_path / "d.tar") == report.left_out
    assert count_left_out(bundle) == count_left_out(bundle / "bundle.json") == 0


def described_fully(bundle: Path) -> Path:
    """Add metadata of usual length to each wheel, and the inventories."""
    with BundleWriter(bundle) as writer:
        manifest = read_manifest(bundle)
        contents: dict[str, bytes] = {}
        wheels = {path: file for path, file in manifest.files.items() if path.endswith(".whl")}
        files = dict(manifest.files)
        lock = next(path for path in files if path.startswith("locks/") and path.endswith(".toml"))
        contents[lock] = b""
        for path, file in wheels.items():
            url = f"https://files.example.org/packages/ab/cd/{(file.sha256 or '')[:60]}/{path}"
            source = Source(index="https://index.example.org/simple", url=url)
            files[path] = replace(
                file, requires_python=">=3.10", upload_time="2026-01-01T00:00:00Z", source=source
            )
            contents[f"{path}.metadata"] = (
                f"Metadata-Version: 2.4\nName: {file.name}\nVersion: {file.version}\n"
                "License-Expression: BSD-3-Clause\n"
                "Summary: What it is for, in a sentence of a usual length\n"
                "Author-email: Its Team <team@example.org>\n"
                f"Project-URL: Homepage, https://{file.name}.example.org\n"
                "Requires-Dist: some_typical_package1\n"
            ).encode()
            contents[lock] += (
                f'[[packages]]\nname = "{file.name}"\nversion = "{file.version}"\n\n'
                "[[packages.wheels]]\n"
                f'name = "{path[7:]}"\npath = "../../{path}"\nsize = {file.size}\n'
                "upload-time = 2026-01-01 00:00:00+00:00\n\n[packages.wheels.hashes]\n"
                f'sha256 = "{file.sha256}"\n\n'
            ).encode()
        files |= {path: file_entry(content) for path, content in contents.items()}
        plain = replace(manifest, files=files)
        whole, inventories = add_inventories(
            plain, lambda: gather_metadata(plain, contents, bundle), None
        )
        writer.commit(whole, {**contents, **inventories})
    return bundle


def test_a_difference_onto_another_bundle_names_the_missing_files(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", {"eval": PACKAGES})
    shutil.copytree(bundle, tmp_path / "old")
    put_bundle(bundle, {"eval": {**PACKAGES, "beta": "2.0"}})
    pack(bundle, tmp_path / "d.tar", since=tmp_path / "old")
    wrong = put_bundle(tmp_path / "wrong", {"other": {"alpha": "1.0"}})
    before = tree(wrong)
    with pytest.raises(IntegrityError, match="difference from generation 1") as caught:
        unpack([tmp_path / "d.tar"], wrong)
    assert f"missing: {wheel_path('gamma', '1.0')}" in caught.value.problems
    assert wheel_path("alpha", "1.0") not in str(caught.value)
    assert tree(wrong) == before
    with pytest.raises(IntegrityError, match="missing or damaged"):
        unpack([tmp_path / "d.tar"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_difference_onto_a_damaged_bundle_names_the_damage(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", {"eval": PACKAGES})
    shutil.copytree(bundle, tmp_path / "live")
    shutil.copytree(bundle, tmp_path / "old")
    path = tmp_path / "live" / wheel_path("gamma", "1.0")
    path.write_bytes(b"#" + path.read_bytes()[1:])
    put_bundle(bundle, {"eval": {**PACKAGES, "beta": "2.0"}})
    pack(bundle, tmp_path / "d.tar", since=tmp_path / "old")
    with pytest.raises(IntegrityError) as caught:
        unpack([tmp_path / "d.tar"], tmp_path / "live")
    assert caught.value.problems == (f"missing: {wheel_path('gamma', '1.0')}",)


def test_a_damaged_inventory_is_not_packed_into_a_difference(tmp_path: Path) -> None:
    bundle = described_fully(put_bundle(tmp_path / "bundle", {"eval": PACKAGES}))
    shutil.copytree(bundle, tmp_path / "old")
    described_fully(put_bundle(bundle, {"eval": {**PACKAGES, "beta": "2.0"}}))
    page = bundle / "report.html"
    page.write_bytes(page.read_bytes().swapcase())
    with pytest.raises(IntegrityError, match="damaged and was not packed") as caught:
        pack(bundle, tmp_path / "d.tar", since=tmp_path / "old")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["report.html"]
    assert not (tmp_path / "d.tar").exists()


def test_an_invalid_base_is_reported(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="is not a bundle, its bundle"):
        pack(bundle, tmp_path / "d.tar", since=tmp_path / "x")
    with pytest.raises(InputError, match="cannot be read"):
        pack(bundle, tmp_path / "d.tar", since=tmp_path / "y")


def test_parts_have_names_for_small_media_and_their_digests(parts: list[Path]) -> None:
    names = [path.name for path in parts]
    assert names == [
        *(f"b.tar.{n:03}" for n in range(1, 6)),
        "b.tar.parts.sha256",
        "b.tar.unpack.py",
    ]
    assert [path.stat().st_size for path in parts[:4]] == [64 * 1024] * 4
    lines = parts[-2].read_text().splitlines()
    assert lines == [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}" for p in parts[:5]]


@pytest.mark.parametrize("has_list", [True, False])
def test_parts_are_accepted_in_any_order_and_from_any_folder(
    bundle: Path, parts: list[Path], tmp_path: Path, *, has_list: bool
) -> None:
    shuffled = parts[:5] + ([parts[5]] if has_list else [])
    random.Random(1).shuffle(shuffled)
    places = []
    for number, part in enumerate(shuffled):
        (tmp_path / f"stick{number}").mkdir()
        places.append(part.rename(tmp_path / f"stick{number}" / part.name))
    unpack(places, tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)
    assert verify_archive(places).ok


@pytest.mark.parametrize("is_good_one_first", [True, False])
def test_a_part_that_is_named_has_priority_over_one_beside_the_others(
    bundle: Path, parts: list[Path], tmp_path: Path, *, is_good_one_first: bool
) -> None:
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(parts[1], again)
    parts[1].write_bytes(b"#" * parts[1].stat().st_size)
    given = [again / parts[1].name, parts[0]]
    unpack(given if is_good_one_first else given[::-1], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)


def test_parts_of_two_archives_of_one_name_are_refused(parts: list[Path], tmp_path: Path) -> None:
    other = put_bundle(tmp_path / "other", {"plot": PACKAGES}, wheel_size=60_000)
    (tmp_path / "second").mkdir()
    pack(other, tmp_path / "second" / "b.tar", split_size=64 * 1024)
    with pytest.raises(IntegrityError, match="belong to two archives") as caught:
        unpack([parts[0], tmp_path / "second" / "b.tar.002"], tmp_path / "copy")
    assert str(parts[5]) in caught.value.message
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("given_name", ["b.tar.003", "b.tar.parts.sha256", "b.tar"])
def test_one_name_is_enough_for_parts_in_one_folder(
    bundle: Path, parts: list[Path], tmp_path: Path, given_name: str
) -> None:
    unpack([parts[0].with_name(given_name)], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)


@pytest.mark.parametrize("has_list", [True, False])
@pytest.mark.parametrize("lost", [(1,), (3,), (5,), (1, 2, 4, 5)])
def test_missing_parts_are_named(
    bundle: Path, parts: list[Path], tmp_path: Path, lost: tuple[int, ...], *, has_list: bool
) -> None:
    (tmp_path / "second").mkdir()
    names = [f"b.tar.{number:03}" for number in lost]
    for name in names:
        parts[0].with_name(name).rename(tmp_path / "second" / name)
    if not has_list:
        parts[5].unlink()
    with pytest.raises(IntegrityError) as caught:
        unpack([path for path in parts[:6] if path.exists()], tmp_path / "copy")
    said = str(caught.value)
    if has_list or lost != (1, 2, 4, 5):
        assert [
            name for name in sorted(f"b.tar.{n:03}" for n in range(1, 6)) if name in said
        ] == names
    assert not (tmp_path / "copy").exists()
    rest = [path for path in parts[:6] if path.exists()]
    unpack([*sorted((tmp_path / "second").iterdir()), *rest], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)
    assert [path.name for path in (tmp_path / "copy/.writer").iterdir()] == ["lock"]


@pytest.mark.parametrize("has_list", [True, False])
@pytest.mark.parametrize("ruined", [1, 2, 4, 5])
def test_damaged_parts_are_named(
    bundle: Path, parts: list[Path], tmp_path: Path, ruined: int, *, has_list: bool
) -> None:
    part = parts[ruined - 1]
    good = part.read_bytes()
    part.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
    if not has_list:
        parts[5].unlink()
    with pytest.raises(IntegrityError, match=r"damaged|cut off") as caught:
        unpack([parts[0]], tmp_path / "copy")
    said = " ".join([caught.value.message, *caught.value.problems])
    assert part.name in said
    if has_list:
        assert [p.name for p in parts[:5] if p.name in said] == [part.name]
        assert part.name in named_by_verify(parts[0])
    part.write_bytes(good)
    unpack([parts[0]], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)


def named_by_verify(part: Path) -> str:
    try:
        return str(verify_archive([part]).problems)
    except IntegrityError as error:  # it does not even begin like an archive
        return str(error)


def test_a_short_part_is_named(parts: list[Path], tmp_path: Path) -> None:
    parts[1].write_bytes(parts[1].read_bytes()[:-512])
    with pytest.raises(IntegrityError) as caught:
        unpack([parts[0]], tmp_path / "copy")
    assert "b.tar.002" in caught.value.message


def test_a_damaged_list_is_named_and_not_required(
    bundle: Path, parts: list[Path], tmp_path: Path
) -> None:
    parts[5].write_bytes(parts[5].read_bytes().replace(b"b.tar.002", b"b.tar.00?"))
    with pytest.raises(IntegrityError, match="line 2 is damaged") as caught:
        unpack([parts[0]], tmp_path / "copy")
    assert "move it away" in (caught.value.hint or "")
    parts[5].unlink()
    unpack([parts[0]], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)


def test_packing_again_removes_earlier_parts(bundle: Path, parts: list[Path]) -> None:
    put_bundle(bundle, {"eval": {"alpha": "1.0"}})
    again = pack(bundle, parts[0].parent / "b.tar", split_size=64 * 1024).files
    assert sorted(path.name for path in parts[0].parent.iterdir()) == sorted(
        path.name for path in again
    )


def test_four_gigabytes_fit_fat32(bundle: Path, tmp_path: Path) -> None:
    assert part_sizes(10 * 2**30, 4 * 2**30) == [
        2**32 - 512,
        2**32 - 512,
        2 * 2**30 + 1024,
    ]
    assert len(pack(bundle, tmp_path / "b.tar", split_size=4 * 2**30).files) == 3


def test_tiny_parts_are_bad_usage(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too small"):
        pack(bundle, tmp_path / "b.tar", split_size=1000)


def test_unpacking_again_changes_nothing(archive: Path, tmp_path: Path) -> None:
    unpack([archive], tmp_path / "copy")
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*") if path.is_file()
    }
    (done,) = unpack([archive], tmp_path / "copy")
    assert (done.relation, done.changed) == ("same", False)
    assert {
        path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*") if path.is_file()
    } == before


def test_unpacking_again_repairs_a_damaged_bundle(
    bundle: Path, archive: Path, tmp_path: Path
) -> None:
    unpack([archive], tmp_path / "copy")
    path = tmp_path / "copy" / wheel_path("alpha", "1.0")
    path.write_bytes(b"#" + path.read_bytes()[1:])
    (tmp_path / "copy/simple/index.html").unlink()
    (tmp_path / "copy/SHA256SUMS").write_bytes(b"")
    unpack([archive], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)


def test_what_was_unpacked_before_a_kill_is_not_copied_again(
    bundle: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BundleWriter.commit

    def die(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(BundleWriter, "commit", die)
    with pytest.raises(KeyboardInterrupt):
        unpack([archive], tmp_path / "copy")
    monkeypatch.setattr(BundleWriter, "commit", real)
    left = list((tmp_path / "copy/.writer/incoming").iterdir())
    assert len(left) == len(tree(bundle)) - 2
    left[0].write_bytes(b"#" * left[0].stat().st_size)  # not believed, all the same
    inodes = {path.stat().st_ino for path in left}
    unpack([archive], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)
    assert (
        len({path.stat().st_ino for path in (tmp_path / "copy").rglob("*")} & inodes)
        >= len(left) - 1
    )


def test_an_older_bundle_is_refused_unless_allowed(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", text="one")
    pack(bundle, tmp_path / "one.tar")
    one = tree(bundle)
    put_bundle(bundle, {"eval": {"alpha": "2.0"}}, text="two")
    pack(bundle, tmp_path / "two.tar")
    unpack([tmp_path / "two.tar"], tmp_path / "live")
    with pytest.raises(IntegrityError, match="generation 1 against 2") as caught:
        unpack([tmp_path / "one.tar"], tmp_path / "live")
    assert "--allow-rollback" in (caught.value.hint or "")
    assert tree(tmp_path / "live") == tree(bundle)
    (done,) = unpack([tmp_path / "one.tar"], tmp_path / "live", allow_rollback=True)
    assert done.relation == "older"
    assert tree(tmp_path / "live") == one
    assert is_whole(tmp_path / "live")


def test_archives_given_together_are_unpacked_in_the_order_that_works(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", {"eval": PACKAGES})
    pack(bundle, tmp_path / "one.tar")
    put_bundle(bundle, {"eval": {**PACKAGES, "beta": "2.0"}})
    pack(bundle, tmp_path / "two.tar", since=tmp_path / "one.tar")
    done = unpack([tmp_path / "two.tar", tmp_path / "one.tar"], tmp_path / "live")
    assert [one.archive for one in done] == ["one.tar", "two.tar"]
    assert tree(tmp_path / "live") == tree(bundle)


def test_the_signature_is_kept_with_its_manifest_and_removed_with_it(
    bundle: Path, tmp_path: Path
) -> None:
    signature = b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"
    (bundle / "bundle.json.sig").write_bytes(signature)
    pack(bundle, tmp_path / "b.tar")
    assert read_archive([tmp_path / "b.tar"])[1] == signature
    assert not unpack([tmp_path / "b.tar"], tmp_path / "live")[0].unsigned
    assert tree(tmp_path / "live") == tree(bundle)
    assert not unpack([tmp_path / "b.tar"], tmp_path / "live")[0].changed
    other = put_bundle(tmp_path / "other", {"other": {"zeta": "1.0"}})
    pack(other, tmp_path / "other.tar")
    assert unpack([tmp_path / "other.tar"], tmp_path / "live")[0].unsigned
    assert not (tmp_path / "live/bundle.json.sig").exists()
    assert is_whole(tmp_path / "live")


def test_a_failed_signature_check_stops_before_anything_is_written(
    archive: Path, tmp_path: Path
) -> None:
    def distrust(document: bytes, signature: bytes | None) -> None:
        assert document.startswith(b"{")
        assert signature is None
        raise BundleError("no")

    with pytest.raises(BundleError, match="no"):
        unpack([archive], tmp_path / "copy", check_signature=distrust)
    assert not (tmp_path / "copy").exists()


def test_no_archive_is_bad_usage(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.tar")
    for name in ("missing.tar", "fifo.tar", "."):
        with pytest.raises(InputError):
            unpack([tmp_path / name], tmp_path / "copy")
        with pytest.raises(InputError):
            verify_archive([tmp_path / name])


def test_a_folder_that_is_not_a_bundle_is_unchanged(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not a bundle"):
        unpack([archive], tmp_path / "home")
    assert tree(tmp_path / "home") == {"thesis.tex": b"years of work"}


def test_an_intact_archive_verifies(bundle: Path, archive: Path) -> None:
    seen: list[int] = []
    report = verify_archive([archive], progress=seen.append)
    assert report.ok
    assert report.files == len(tree(bundle)) - 1
    assert sum(seen) == sum(map(len, tree(bundle).values()))


def test_the_archive_that_is_verified_is_the_one_whose_signature_was_checked(
    archive: Path, tmp_path: Path
) -> None:
    """Replaced by another file in between: opened once, it is the first one throughout."""
    damaged = archive.read_bytes()
    (tmp_path / "other.tar").write_bytes(damaged.replace(b"print('run')", b"print('RUN')"))
    checked: list[bytes] = []

    def swap(document: bytes, _: bytes | None) -> None:
        checked.append(document)
        (tmp_path / "other.tar").replace(archive)

    assert verify_archive([archive], check_signature=swap).ok
    assert len(checked) == 1
    assert not verify_archive([archive]).ok


@pytest.mark.parametrize("changes", SLOW_1000)
def test_every_changed_byte_of_a_difference_is_found_and_named(
    bundle: Path, tmp_path: Path, changes: int
) -> None:
    shutil.copytree(bundle, tmp_path / "old")
    put_bundle(bundle, {"eval": {**PACKAGES, "beta": "2.0"}})
    pack(bundle, tmp_path / "d.tar", since=tmp_path / "old")
    good = (tmp_path / "d.tar").read_bytes()
    chance = random.Random(changes)
    bad = tmp_path / "bad.tar"
    with opened(tmp_path / "d.tar") as whole:
        starts = {entry.start: entry.path for entry in whole.entries}
    for _ in range(changes):
        offset = chance.randrange(len(good))
        bad.write_bytes(
            good[:offset] + bytes([good[offset] ^ chance.randrange(1, 256)]) + good[offset + 1 :]
        )
        name = starts[max(start for start in starts if start <= offset)]
        if offset >= len(good) - 1024:
            name = "the end of the archive"
        assert name in faults_of(bad), (offset, name)


@pytest.mark.parametrize("changes", SLOW_1000)
def test_every_changed_byte_of_an_archive_is_found_and_named(
    archive: Path, tmp_path: Path, changes: int
) -> None:
    good = archive.read_bytes()
    chance = random.Random(changes)
    bad = tmp_path / "bad.tar"
    for _ in range(changes):
        offset = chance.randrange(len(good))
        value = chance.choice([byte for byte in range(256) if byte != good[offset]])
        bad.write_bytes(good[:offset] + bytes([value]) + good[offset + 1 :])
        with opened(archive) as whole:
            entry = member_at(whole, offset)
        name = entry.path if entry else "the end of the archive"
        assert name in faults_of(bad), (offset, name)


def faults_of(archive: Path) -> str:
    try:
        report = verify_archive([archive])
    except IntegrityError as error:
        return str(error)
    assert not report.ok
    return str(report.problems)


@pytest.mark.parametrize("changes", SLOW_1000)
def test_every_changed_byte_of_a_bundle_is_found_and_named(bundle: Path, changes: int) -> None:
    chance = random.Random(changes)
    contents = tree(bundle)
    paths = [path for path in contents if contents[path]]
    for _ in range(changes):
        path = chance.choice(paths)
        content = bytearray(contents[path])
        offset = chance.randrange(len(content))
        content[offset] ^= chance.randrange(1, 256)
        (bundle / path).write_bytes(content)
        try:
            report = verify(bundle)
            named = " ".join(report.problems)
            assert not report.ok
        except IntegrityError as error:
            named = str(error)
        assert path in named or (path == "bundle.json" and "SHA256SUMS" in named)
        (bundle / path).write_bytes(contents[path])


def test_every_truncation_is_refused_and_the_bundle_in_place_stays(tmp_path: Path) -> None:
    bundle = put_bundle(
        tmp_path / "bundle", {"eval": {f"p{n}": "1.0" for n in range(20)}}, wheel_size=50_000
    )
    live = put_bundle(tmp_path / "live", text="live")
    before = tree(live)
    pack(bundle, tmp_path / "b.tar")
    good = (tmp_path / "b.tar").read_bytes()
    lengths = [
        0,
        1,
        511,
        512,
        513,
        *range(65536, len(good), 65536),
        len(good) - 1024,
        len(good) - 512,
        len(good) - 1,
    ]
    for length in lengths:
        (tmp_path / "cut.tar").write_bytes(good[:length])
        with pytest.raises(IntegrityError, match=r"cut\.tar"):
            unpack([tmp_path / "cut.tar"], live, replace_scripts=True)
        assert faults_of(tmp_path / "cut.tar")
        assert main([str(tmp_path / "cut.tar"), "-o", str(tmp_path / "alone")]) == 5
        assert tree(live) == before
    assert not (tmp_path / "alone/bundle.json").exists()
    (tmp_path / "cut.tar").write_bytes(good + bytes(512))
    with pytest.raises(IntegrityError, match="the end of the archive"):
        unpack([tmp_path / "cut.tar"], live, replace_scripts=True)
    assert is_whole(live)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_mixture_of_blocks_is_accepted_as_an_archive(
    data: st.DataObject, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Blocks dropped, doubled, swapped, zeroed or taken from elsewhere."""
    good = archive.read_bytes()
    blocks = [good[start : start + 512] for start in range(0, len(good), 512)]
    for _ in range(data.draw(st.integers(1, 3))):
        at, other = (data.draw(st.integers(0, len(blocks) - 1)) for _ in range(2))
        match data.draw(st.sampled_from(["drop", "double", "swap", "zero", "copy"])):
            case "drop":
                del blocks[at]
            case "double":
                blocks.insert(at, blocks[at])
            case "swap":
                blocks[at], blocks[other] = blocks[other], blocks[at]
            case "zero":
                blocks[at] = bytes(512)
            case _:
                blocks[at] = blocks[other]
    bad = b"".join(blocks)
    if bad == good:
        return
    folder = tmp_path_factory.mktemp("mixture")
    (folder / "bad.tar").write_bytes(bad)
    with pytest.raises(IntegrityError):
        unpack([folder / "bad.tar"], folder / "copy")
    assert main([str(folder / "bad.tar"), "-o", str(folder / "copy")]) == 5
    assert not (folder / "copy/bundle.json").exists()
    assert {path.name for path in folder.iterdir()} <= {"bad.tar", "copy"}
    assert faults_of(folder / "bad.tar")


def test_two_packs_do_not_write_one_file(bundle: Path, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / ".b.tar.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match="another `pack`"):
            pack(bundle, tmp_path / "b.tar")
    pack(bundle, tmp_path / "b.tar")
    assert not (tmp_path / ".b.tar.partial").exists()
