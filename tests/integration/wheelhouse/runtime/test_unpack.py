"""The far side: hostile archives, and `unpack.py` alone with an old Python."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.wheelhouse.runtime.archive.open import open_archives
from offline_bundle.wheelhouse.runtime.archive.tar import Entry, header_digest, render_header
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.signing import sign
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.archives import archive_of, no_fsync, put_bundle, tar_of, tree, wheel_path
from tests.support.programs import require
from tests.support.signing_cases import allowing, make_key, public

if TYPE_CHECKING:
    from collections.abc import Callable
from tests.support.unpack_cases import EVIL, SCRIPT, Site, described, run_alone, site

__all__ = ["no_fsync", "site"]


def good_archive(folder: Path) -> bytes:
    pack(
        put_bundle(folder / "good", {"eval": {"alpha": "1.0", "gamma": "1.0"}}), folder / "good.tar"
    )
    return (folder / "good.tar").read_bytes()


def members_of(content: bytes, folder: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    (folder / "members.tar").write_bytes(content)
    with tarfile.open(folder / "members.tar") as tar:
        return [(info, tar.extractfile(info).read()) for info in tar.getmembers()]  # type: ignore[union-attr]


def member(name: str, content: bytes = EVIL, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mtime = 1767225600
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


EXTRA = {
    "traversal": [member("../outside/secret")],
    "deep traversal": [member("wheels/../../outside/secret")],
    "absolute": [member("/tmp/offline-bundle-evil")],
    "symlink": [member("wheels/x.whl", b"", type=tarfile.SYMTYPE, linkname="../../outside/secret")],
    "file through a symlink": [
        member("wheels/x", b"", type=tarfile.SYMTYPE, linkname="../../outside"),
        member("wheels/x/secret"),
    ],
    "hard link": [member("wheels/x.whl", b"", type=tarfile.LNKTYPE, linkname="../outside/secret")],
    "character device": [member("wheels/x.whl", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "block device": [member("wheels/x.whl", b"", type=tarfile.BLKTYPE, devmajor=8)],
    "fifo": [member("wheels/x.whl", b"", type=tarfile.FIFOTYPE)],
    "folder": [member("wheels", b"", type=tarfile.DIRTYPE)],
    "sparse": [member("wheels/x.whl", type=tarfile.GNUTYPE_SPARSE)],
    "duplicate": [member("run.py")],
    "second manifest": [member("bundle.json", b"{}")],
    "other case": [member("RUN.PY")],
    "dotted": [member("./run.py")],
    "writer": [member(".writer/pending.json", b"{}")],
    "reserved": [member("NUL")],
    "set-uid": [member("wheels/x.whl", mode=0o4755)],
    "owned": [member("wheels/x.whl", uid=1000, uname="eve")],
    "long": [member("wheels/" + "x" * 200)],
    "newline": [member("wheels/a\nb.whl")],
    "escapes": [member("wheels/\x1b[2J\x1b]0;owned\x07.whl")],
    "not UTF-8": [member("wheels/\udcff.whl")],
    "backslashes": [member("..\\outside\\secret")],
    "drive": [member("C:/evil")],
    "contiguous": [member("wheels/x.whl", type=tarfile.CONTTYPE)],
    "unknown kind": [member("wheels/x.whl", type=b"Z")],
    "volume label": [member("wheels/x.whl", b"", type=b"V")],
}


@pytest.mark.parametrize("place", ["second", "third", "last"])
@pytest.mark.parametrize("kind", EXTRA)
def test_an_extra_member_is_refused(site: Site, tmp_path: Path, kind: str, place: str) -> None:
    members = members_of(good_archive(tmp_path), tmp_path)
    at = {"second": 1, "third": 2, "last": len(members)}[place]
    content = tar_of([*members[:at], *EXTRA[kind], *members[at:]], tar_format=tarfile.GNU_FORMAT)
    site.refuses(content, "evil.tar")
    assert not Path("/tmp/offline-bundle-evil").exists()


@pytest.mark.parametrize(
    "kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE", "DIRTYPE", "GNUTYPE_SPARSE"]
)
def test_a_member_of_another_kind_is_refused(site: Site, tmp_path: Path, kind: str) -> None:
    good = good_archive(tmp_path)
    (tmp_path / "a.tar").write_bytes(good)
    with open_archives([tmp_path / "a.tar"]) as archives:
        entry = next(
            entry for entry in archives[0].entries if entry.path == wheel_path("gamma", "1.0")
        )
        header = bytearray(entry.header(archives[0].time))
        start = entry.start
    header[156:157] = getattr(tarfile, kind)
    header[157:168] = b"../outside\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    said = site.refuses(good[:start] + header + good[start + 512 :], wheel_path("gamma", "1.0"))
    assert ": a file named wheels/gamma" not in said  # it says what it is instead


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tricks_of_pax_and_gnu_are_refused(site: Site, tmp_path: Path, tar_format: int) -> None:
    members = members_of(good_archive(tmp_path), tmp_path)
    for headers in (
        {"path": "../outside/secret"},
        {"size": "999999999999"},
        {"GNU.sparse.name": "../x"},
    ):
        info, content = member(wheel_path("gamma", "1.0"), members[-1][1])
        if tar_format == tarfile.PAX_FORMAT:
            info.pax_headers = headers
        else:
            info.name = "../outside/" + "long" * 40
        site.refuses(tar_of([*members[:-1], (info, content)], tar_format=tar_format), "evil.tar")


def with_header(good: bytes, folder: Path, *changes: tuple[int, bytes]) -> bytes:
    """Return the archive with other fields in one header, whose own checksum is right."""
    (folder / "a.tar").write_bytes(good)
    with open_archives([folder / "a.tar"]) as archives:
        entry = next(
            entry for entry in archives[0].entries if entry.path == wheel_path("gamma", "1.0")
        )
        header = bytearray(entry.header(archives[0].time))
    for start, field in changes:
        header[start : start + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return good[: entry.start] + header + good[entry.start + 512 :]


SIZE, MODE, NAME = 124, 100, 0


FIELDS = {
    "a negative size": (SIZE, b"-0000000001\0"),
    "a negative base-256 size": (SIZE, b"\xff" * 12),
    "a base-256 size": (SIZE, b"\x80" + bytes(9) + b"\x0b\xb8"),  # 3000, as it is
    "a huge base-256 size": (SIZE, b"\x80" + b"\xff" * 11),
    "a size in spaces": (SIZE, b"       5670 "),  # 3000 as well
    "a set-uid mode": (MODE, b"0004755\0"),
    "a set-gid and sticky mode": (MODE, b"0003777\0"),
    "an executable": (MODE, b"0000755\0"),
    "an owner": (108, b"0001750\0"),
    "a later time": (136, b"17777777777\0"),
    "a NUL in the name": (NAME, b"wheels/gamma\x001.0-py3-none-any.whl"),
    "a newline in the name": (NAME, b"wheels/gamma\n1.0-py3-none-any.whl"),
    "escapes in the name": (NAME, b"\x1b[2J\x1b]0;x\x071.0-py3-none-any.whl"),
    "something after the name": (60, b"hidden"),
    "a prefix": (345, b"../outside"),
    "a link's target": (157, b"../outside/secret"),
    "a device number": (329, b"0000001\0"),
    "another magic": (257, b"ustar  \0"),
    "something in the last bytes": (505, b"hidden"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_changed_header_field_is_refused(site: Site, tmp_path: Path, field: str) -> None:
    said = site.refuses(
        with_header(good_archive(tmp_path), tmp_path, FIELDS[field]), wheel_path("gamma", "1.0")
    )
    assert "\x1b" not in said


@pytest.mark.parametrize("size", [10_000, 2**20])
@pytest.mark.parametrize(
    "key", ["path", "linkpath", "comment", "GNU.sparse.map", "SCHILY.xattr.user.x", "size"]
)
def test_huge_pax_records_are_refused(site: Site, tmp_path: Path, key: str, size: int) -> None:
    members = members_of(good_archive(tmp_path), tmp_path)
    info, content = members[-1]
    info.pax_headers = {key: "9" * size}
    site.refuses(
        tar_of([*members[:-1], (info, content)], tar_format=tarfile.PAX_FORMAT), "evil.tar"
    )


def test_a_pax_header_that_declares_more_than_the_file_has_is_refused(
    site: Site, tmp_path: Path
) -> None:
    info = tarfile.TarInfo("PaxHeaders/x")
    info.type, info.size = tarfile.XHDTYPE, 8**11 - 1
    good = good_archive(tmp_path)
    site.refuses(
        good[:-1024] + info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024), "the end of the archive"
    )


@pytest.mark.parametrize(
    "version", [{"major": "0", "minor": "0"}, {"major": "0", "minor": "1"}, {"major": "1"}]
)
def test_sparse_files_of_pax_are_refused(
    site: Site, tmp_path: Path, version: dict[str, str]
) -> None:
    members = members_of(good_archive(tmp_path), tmp_path)
    info, content = members[-1]
    info.pax_headers = {f"GNU.sparse.{key}": value for key, value in version.items()}
    info.pax_headers |= {
        "GNU.sparse.realsize": "1000000000000",
        "GNU.sparse.name": "../outside/secret",
    }
    site.refuses(
        tar_of([*members[:-1], (info, content)], tar_format=tarfile.PAX_FORMAT), "evil.tar"
    )


@pytest.mark.parametrize(
    "what", ["garbage", "zeros", "a block", "another archive", "itself", "a compressed one"]
)
def test_bytes_after_the_end_are_refused(site: Site, tmp_path: Path, what: str) -> None:
    import gzip

    good = good_archive(tmp_path)
    other = archive_of(described({"run.py": EVIL}), {"run.py": EVIL})
    after = {
        "garbage": b"garbage",
        "zeros": bytes(512),
        "a block": b"\1" * 512,
        "another archive": other,
        "itself": good,
        "a compressed one": gzip.compress(other),
    }
    site.refuses(good + after[what], "the end of the archive")
    site.refuses(good[:-1024] + after[what], "the end of the archive")


def test_parts_of_two_archives_do_not_make_one(site: Site, tmp_path: Path) -> None:
    for name, version in (("one", "1.0"), ("two", "2.0")):
        (tmp_path / name).mkdir()
        bundle = put_bundle(
            tmp_path / f"bundle-{name}", {"eval": {"alpha": version}}, wheel_size=150_000
        )
        pack(bundle, tmp_path / name / "b.tar", split_size=64 * 1024)
    mixed = tmp_path / "mixed"
    shutil.copytree(tmp_path / "one", mixed)
    for has_list in (True, False):
        shutil.copy(tmp_path / "two/b.tar.002", mixed)
        with pytest.raises(IntegrityError) as caught:
            unpack([mixed / "b.tar.001"], site.new)
        assert "b.tar.002" in str(caught.value)
        done = run_alone(sys.executable, [mixed / "b.tar.001", "-o", tmp_path / "alone"])
        assert done.returncode == 5
        assert "b.tar.002" in done.stderr
        assert not (site.new / "bundle.json").exists()
        assert not (tmp_path / "alone/bundle.json").exists()
        if has_list:
            (mixed / "b.tar.parts.sha256").unlink()
    assert verify(site.live).ok


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret",
        "wheels/../../outside/secret",
        "/tmp/offline-bundle-evil",
        "C:/evil",
        "wheels\\..\\evil",
        "wheels/./x",
        "wheels//x",
        "wheels/x.",
        "wheels/a\nb",
        "wheels/a\0b",
        "wheels/\x1b[2J",
        "wheels/\u202ex",
        "wheels/a?b",
        "wheels/a|b",
        "nul",
        "scripts/AUX.py",
        "COM1/x",
        "lpt9 .txt",
        "",
        ".",
        "..",
        ".writer/pending.json",
        ".WRITER/lock",
        "Bundle.json",
        "bundle.json.sig",
        "x" * 2000,
        "wheels/%2e%2e/../x",
    ],
)
def test_a_manifest_with_a_path_that_leaves_the_bundle_is_refused(site: Site, path: str) -> None:
    contents = {path: EVIL}
    site.refuses(archive_of(described(contents), contents), "unsafe path")


@pytest.mark.parametrize(
    "paths",
    [
        ("a", "A"),
        ("a", "a/b"),
        ("wheels/\u00e9", "wheels/e\u0301"),
        ("D/x", "d/y"),
        ("\u00df", "ss"),
    ],
)
def test_paths_that_are_equal_when_folded_are_refused(site: Site, paths: tuple[str, str]) -> None:
    contents = dict.fromkeys(paths, EVIL)
    site.refuses(archive_of(described(contents), contents), "does not describe a bundle")


def test_paths_that_collide_with_the_checksums_are_refused(site: Site) -> None:
    contents = {"sha256sums": EVIL}
    site.refuses(archive_of(described(contents), contents), "collides")


BOMB = wheel_path("bomb", "1.0")


def test_a_declared_size_allocates_no_space(site: Site) -> None:
    """Members are not compressed, and no space is allocated for a declared size."""
    contents = {BOMB: EVIL}
    document = json.loads(described(contents))
    for size in (2**62, 10**12):
        document["files"][BOMB]["size"] = size
        site.refuses(archive_of(json.dumps(document).encode(), contents), BOMB)
    document["files"][BOMB]["size"] = len(EVIL) - 1
    site.refuses(archive_of(json.dumps(document).encode(), contents), BOMB)


def test_a_huge_manifest_is_refused_by_its_size(site: Site) -> None:
    header = render_header("bundle.json", 300 * 2**20, 0)
    site.refuses(header + bytes(1024), "bundle.json", "more than")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 1, "format": 1}',
        b'{"format": NaN}',
        described({}, other=float("nan")),
        described({}, generation=float("inf")),
        b'{"format": 1, "generation": ' + b"9" * 5000 + b"}",
        described({}, generation=10**30),
        described({}, files={"SHA256SUMS": {}, "a": {"sha256": "0" * 64, "size": 10**30}}),
        b'{"format": 1, "files": {"SHA256SUMS": {}, "a": {}, "a": {}}}',
        b'{"a": ' + b'{"a": ' * 50_000,
        b'{"format": 2, "files": {}}',
        described({}, files=[]),
        described({}, files={}),
        described({}, files={"SHA256SUMS": {"sha256": "0" * 64, "size": 1}}),
        described({}, files={"SHA256SUMS": {}, "a": None}),
        described({}, files={"SHA256SUMS": {}, "a": {"sha256": "0" * 63, "size": 0}}),
        described({}, files={"SHA256SUMS": {}, "a": {"sha256": "0" * 64, "size": -1}}),
        described({}, files={"SHA256SUMS": {}, "a": {"sha256": "0" * 64, "size": True}}),
        described({}, files={"SHA256SUMS": {}, "a": {"sha256": "0" * 64, "size": 1e3}}),
        described({}, generation=-1),
        described({}, generation="new"),
        described({}, ancestors=["x"]),
        described({}, ancestors={}),
        described({}, timestamp=5),
    ],
)
def test_json_of_the_wrong_shape_is_refused(site: Site, document: bytes) -> None:
    site.refuses(archive_of(document, {}), "bundle.json")


@pytest.mark.parametrize(
    "name", ["x.whl", "a-b.whl", "a-1.0-py3-none.whl", "a b-1.0-py3-none-any.whl", "-1-1-1-1.whl"]
)
def test_a_wheel_with_a_bad_name_is_refused(site: Site, name: str) -> None:
    contents = {f"wheels/{name}": EVIL}
    site.refuses(archive_of(described(contents), contents), name)


def rename_wheel(document: dict[str, Any]) -> None:
    for table in (document["files"],):
        table["wheels/other.whl"] = table.pop(wheel_path("gamma", "1.0"))


def drop_file(document: dict[str, Any]) -> None:
    del document["files"][wheel_path("gamma", "1.0")]


def change_digest(document: dict[str, Any]) -> None:
    document["files"][wheel_path("gamma", "1.0")]["sha256"] = "0" * 64


@pytest.mark.parametrize("bend", [rename_wheel, drop_file, change_digest])
def test_a_manifest_that_does_not_fit_its_archive_is_refused(
    site: Site, tmp_path: Path, bend: Callable[[dict[str, Any]], None]
) -> None:
    good_archive(tmp_path)
    contents = {
        p: c for p, c in tree(tmp_path / "good").items() if p not in {"bundle.json", "SHA256SUMS"}
    }
    document = json.loads((tmp_path / "good/bundle.json").read_bytes())
    bent = copy.deepcopy(document)
    bend(bent)
    site.refuses(
        archive_of(json.dumps(bent).encode(), contents), "evil.tar" if bend is drop_file else ""
    )


@pytest.fixture
def difference(tmp_path: Path) -> bytes:
    bundle = put_bundle(tmp_path / "bundle")
    shutil.copytree(bundle, tmp_path / "old")
    put_bundle(bundle, {"eval": {"alpha": "2.0"}})
    pack(bundle, tmp_path / "d.tar", since=tmp_path / "old")
    return (tmp_path / "d.tar").read_bytes()


def test_a_difference_with_another_base_is_refused(site: Site, difference: bytes) -> None:
    assert difference.count(b'"base-generation": 1') == 1
    bent = difference.replace(b'"base-generation": 1', b'"base-generation": 2')
    site.refuses(bent, ".writer/delta.json")


def test_a_difference_with_a_compressed_head_names_the_version_that_reads_it(site: Site) -> None:
    """Written before 0.1.0 was released: bundle.json is in a compressed first member."""
    content = b"gzip"
    entry = Entry(".writer/lists.tar.gz", "", len(content), comment=header_digest(content))
    head = entry.header(1767225600) + content + bytes(508)
    said = site.refuses(head + bytes(1024), "offline-bundle 0.1.0")
    assert "difference with a compressed head" in said


def oldest_python() -> str:
    """A Python 3.9, if this machine has one; else the one of the tests."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = next((str(path) for path in sorted(root.glob("versions/3.9.*/bin/python3.9"))), None)
    return found or sys.executable


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A medium with two generations: the second as a difference, the first also in parts."""
    medium = tmp_path / "medium"
    medium.mkdir()
    bundle = put_bundle(tmp_path / "bundle", wheel_size=50_000)
    pack(bundle, medium / "one.tar")
    pack(bundle, medium / "split.tar", split_size=64 * 1024)
    shutil.copytree(bundle, tmp_path / "bundle1")
    put_bundle(bundle, {"eval": {"alpha": "2.0"}}, wheel_size=50_000)
    pack(bundle, medium / "two.tar", since=medium / "one.tar")
    return medium


def test_the_unpacker_creates_the_same_bundle(carried: Path, tmp_path: Path) -> None:
    python, script, live = oldest_python(), carried / "one.tar.unpack.py", tmp_path / "live"
    assert script.read_bytes() == SCRIPT.read_bytes()
    done = run_alone(python, [carried / "one.tar", "--verify"], script)
    assert (done.returncode, done.stderr) == (0, "")
    assert not live.exists()
    done = run_alone(python, [carried / "one.tar", "-o", live], script)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"one.tar: unpacked to {live}\n", "")
    assert tree(live) == tree(tmp_path / "bundle1")
    done = run_alone(python, [carried / "two.tar", "-o", live], script)
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(live) == tree(tmp_path / "bundle")
    assert verify(live).ok
    assert not verify(live).is_interrupted
    done = run_alone(python, [carried / "two.tar", "-o", live], script)
    assert done.stdout == f"two.tar: already in {live}\n"
    assert sorted(path.name for path in (live / ".writer").iterdir()) == ["lock", "tmp"]


def test_the_unpacker_accepts_parts(carried: Path, tmp_path: Path) -> None:
    done = run_alone(oldest_python(), [carried / "split.tar.002", "-o", tmp_path / "live"])
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(tmp_path / "live") == tree(tmp_path / "bundle1")
    (carried / "split.tar.002").unlink()
    done = run_alone(oldest_python(), [carried / "split.tar.001", "--verify"])
    assert done.returncode == 5
    assert "missing: split.tar.002" in done.stderr


def test_the_unpacker_refuses_what_unpack_refuses(carried: Path, tmp_path: Path) -> None:
    python, live = oldest_python(), tmp_path / "live"
    done = run_alone(python, [carried / "two.tar", "-o", live])
    assert done.returncode == 5
    assert f"missing: {wheel_path('alpha', '1.0')}" not in done.stderr
    assert "missing: run.py" in done.stderr
    assert not live.exists()
    assert run_alone(python, [carried / "one.tar", carried / "two.tar", "-o", live]).returncode == 0
    done = run_alone(python, [carried / "one.tar", "-o", live])
    assert done.returncode == 5
    assert "generation 1 against 2" in done.stderr
    assert run_alone(python, [carried / "one.tar", "-o", live, "--allow-rollback"]).returncode == 0
    assert tree(live) == tree(tmp_path / "bundle1")
    other = put_bundle(tmp_path / "other", {"other": {"zeta": "1.0"}})
    done = run_alone(python, [carried / "one.tar", "-o", other])
    assert done.returncode == 5
    assert "offline-bundle unpack" in done.stderr
    (tmp_path / "home").mkdir()
    (tmp_path / "home/mine").write_bytes(b"")
    assert run_alone(python, [carried / "one.tar", "-o", tmp_path / "home"]).returncode == 2
    assert run_alone(python, [carried / "none.tar", "-o", live]).returncode == 2
    assert verify(live).ok


def test_the_unpacker_replaces_no_untracked_file(carried: Path, tmp_path: Path) -> None:
    live = tmp_path / "live"
    assert run_alone(oldest_python(), [carried / "one.tar", "-o", live]).returncode == 0
    (live / wheel_path("alpha", "2.0")).write_bytes(b"mine")
    done = run_alone(oldest_python(), [carried / "two.tar", "-o", live])
    assert done.returncode == 5
    assert wheel_path("alpha", "2.0") in done.stderr
    assert (live / wheel_path("alpha", "2.0")).read_bytes() == b"mine"


def test_a_python_that_is_too_old_is_reported() -> None:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    old = next((path for path in sorted(root.glob("versions/3.[678].*/bin/python"))), None)
    if old is None:
        pytest.skip("this machine has no Python older than 3.9")
    done = run_alone(str(old), ["--help"])
    assert done.returncode == 1
    assert "needs Python 3.9 or newer" in done.stderr


class Guarded:
    """A site with a policy and a reviewed unpacker; no network, an empty home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "guarded"
        self.folder.mkdir()
        self.live = folder / "live"
        shutil.copy(SCRIPT, self.folder)
        for name in ("alice", "mallory"):
            make_key(self.folder / name)
        (self.folder / "policy.json").write_text(
            '{"allowed-signers": "allowed_signers", "signer": "alice"}'
        )
        self.allow(f"alice {public(self.folder / 'alice')}")
        self.bundle = put_bundle(folder / "bundle")
        self.archive = folder / "b.tar"

    def allow(self, *lines: str) -> None:
        allowing(self.folder, *lines)

    def signed_archive(self, key: str = "alice") -> Path:
        sign(self.bundle, str(self.folder / key))
        pack(self.bundle, self.archive)
        return self.archive

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        (self.folder / "home").mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "OFFLINE_BUNDLE_POLICY": str(self.folder / "policy.json"),
        }
        command = ["unshare", "-rn"] if can_cut_the_network() else []
        command += [
            oldest_python(),
            "-I",
            "-S",
            "-X",
            "utf8",
            str(self.folder / "unpack.py"),
            *map(str, arguments),
        ]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, env=environment
        )

    def refuses(self, said: str) -> None:
        for arguments in (["-o", self.live], ["--verify"]):
            done = self.run(self.archive, *arguments)
            assert (done.returncode, done.stdout) == (6, "")
            assert said in done.stderr
            assert "hint: " in done.stderr
            assert "Traceback" not in done.stderr
        assert not self.live.exists()


def can_cut_the_network() -> bool:
    program = shutil.which("unshare")
    return (
        bool(program)
        and subprocess.run([program, "-rn", "true"], capture_output=True, check=False).returncode
        == 0
    )


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    require("ssh-keygen")
    return Guarded(tmp_path)


def test_a_valid_signature_satisfies_the_policy(guarded: Guarded) -> None:
    archive = guarded.signed_archive()
    for arguments in (["--verify"], ["-o", guarded.live]):
        done = guarded.run(archive, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert tree(guarded.live) == tree(guarded.bundle)
    assert list((guarded.folder / "home").iterdir()) == []


def test_an_unsigned_archive_is_exit_6(guarded: Guarded) -> None:
    pack(guarded.bundle, guarded.archive)
    guarded.refuses("not signed")


def test_a_signature_by_another_signer_is_exit_6(guarded: Guarded) -> None:
    guarded.signed_archive("mallory")
    guarded.refuses("not allowed")
    guarded.allow(*(f"{name} {public(guarded.folder / name)}" for name in ("alice", "mallory")))
    guarded.refuses("signed by mallory")


def test_an_expired_key_is_exit_6(guarded: Guarded) -> None:
    guarded.signed_archive()
    guarded.allow(f'alice valid-before="20200101" {public(guarded.folder / "alice")}')
    guarded.refuses("expired")


def test_a_manifest_that_was_modified_after_signing_is_exit_6(guarded: Guarded) -> None:
    guarded.signed_archive()
    signature = (guarded.bundle / "bundle.json.sig").read_bytes()
    put_bundle(guarded.bundle, {"eval": {"alpha": "6.6"}})
    (guarded.bundle / "bundle.json.sig").write_bytes(signature)
    pack(guarded.bundle, guarded.archive)
    guarded.refuses("modified after signing")


def test_a_garbled_signature_is_exit_6(guarded: Guarded) -> None:
    guarded.signed_archive()
    (guarded.bundle / "bundle.json.sig").write_bytes(b"-----BEGIN SSH SIGNATURE-----\n")
    pack(guarded.bundle, guarded.archive)
    guarded.refuses("wrong signature")


def test_modules_beside_the_unpacker_are_not_imported(guarded: Guarded) -> None:
    guarded.signed_archive("mallory")
    (guarded.folder / "home").mkdir(exist_ok=True)
    for folder in (guarded.folder, guarded.folder / "home"):
        for name in ("policy.py", "signatures.py"):
            (folder / name).write_text("def check_policies(*_): pass")
    guarded.refuses("not allowed")


def test_a_faulty_policy_refuses_every_archive(guarded: Guarded) -> None:
    guarded.signed_archive()
    (guarded.folder / "policy.json").write_text("{")
    guarded.refuses("policy.json")
