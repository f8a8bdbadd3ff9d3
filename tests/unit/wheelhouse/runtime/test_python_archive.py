"""Unpacking interpreters: real archives are extracted as they are, hostile ones are refused."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.launcher.prepare import python_archive
from offline_bundle.wheelhouse.runtime.launcher.prepare.python_archive import (
    interpreter_path,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
from tests.support.python_archive_cases import folder

__all__ = ["folder"]


TEMPTATION = b"#!/bin/sh\necho owned\n"


def member(
    name: str,
    content: bytes | None = None,
    kind: bytes | None = None,
    link: str = "",
    **changes: object,
) -> tuple[tarfile.TarInfo, bytes | None]:
    info = tarfile.TarInfo(name)
    info.type = kind or (tarfile.REGTYPE if content is not None else tarfile.DIRTYPE)
    info.size, info.linkname, info.mode = len(content or b""), link, 0o755
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def archive(*members: tuple[tarfile.TarInfo, bytes | None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes | None]:
    return member(name, kind=tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes | None]:
    return member(name, kind=tarfile.LNKTYPE, link=target)


def test_folders_links_and_hard_links_of_any_order_and_length(folder: Path) -> None:
    long = "python/" + "/".join(["deep" * 10] * 8) + "/file"
    unpack(
        archive(
            member("python/lib/a", b"a" * 3000),
            symlink("python/bin/python", "../lib/python3"),
            symlink("python/lib/python3", "a"),
            hard_link("python/lib/b", "python/lib/a"),
            member("python/empty"),
            member("python/lib/none", b""),
            *(symlink(f"python/lib/link{number}", "a") for number in range(200)),
            member(long, b"far"),
            member("python/share/e", b"", mode=0o600),
            member("python/share/E", b"", mode=0o4777),
        ),
        str(folder),
    )
    assert (folder / "python/bin/python").read_bytes() == b"a" * 3000
    assert (folder / "python/lib/b").stat().st_nlink == 2
    assert (folder / long).read_bytes() == b"far"
    assert list((folder / "python/empty").iterdir()) == []
    assert (folder / "python/share/E").stat().st_mode & 0o7777 == 0o755, (
        "no set-user-id, not for others to write"
    )


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([member("../outside", TEMPTATION)], "leaves the folder"),
        ([member("python/../../outside", TEMPTATION)], "leaves the folder"),
        ([member("/tmp/absolute", TEMPTATION)], "leaves the folder"),
        ([member("elsewhere/file", TEMPTATION)], "leaves the folder"),
        ([member("python\\..\\..\\outside", TEMPTATION)], "leaves the folder"),
        ([member("python/c:/x", TEMPTATION)], "leaves the folder"),
        ([member("python/a\nb", TEMPTATION)], "leaves the folder"),
        ([member("python//a", TEMPTATION)], "leaves the folder"),
        ([member("python/./a", TEMPTATION)], "leaves the folder"),
        ([member("python/" + "x/" * 600 + "x", TEMPTATION)], "leaves the folder"),
        ([symlink("python/a", "../../outside")], "leads out"),
        ([symlink("python/a", "/etc/passwd")], "leads out"),
        ([symlink("python/a", "")], "leads out"),
        ([member("python/d"), symlink("python/d/a", "x/../../../outside")], "leads out"),
        ([symlink("python/a", "b/../../.."), symlink("python/b", ".")], "leads out"),
        (
            [
                member("python/x/y/z", b""),
                symlink("python/l", "x/y"),
                symlink("python/m", "l/../x"),
            ],
            "leads out",
        ),
        (
            [symlink("python/a", "."), member("python/a/b", TEMPTATION)],
            "as a folder and as something else",
        ),
        ([symlink("python/a", "b"), member("python/a", TEMPTATION)], "occurs twice"),
        ([member("python/a", b"1"), member("python/a", b"2")], "occurs twice"),
        ([member("python/a", b"1"), symlink("python/a", "b")], "occurs twice"),
        ([member("python/a/b", b""), member("python/a", b"")], "occurs twice"),
        ([member("python/a", b""), member("python/a/b", b"")], "as a folder and as something else"),
        ([hard_link("python/a", "python/b")], "not a file before it"),
        ([hard_link("python/a", "../outside")], "leaves the folder"),
        ([symlink("python/b", "c"), hard_link("python/a", "python/b")], "not a file before it"),
        (
            [member("python/a", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)],
            "not a file, folder or link",
        ),
        ([member("python/a", kind=tarfile.BLKTYPE)], "not a file, folder or link"),
        ([member("python/a", kind=tarfile.FIFOTYPE)], "not a file, folder or link"),
        ([member("python/a", b"", kind=tarfile.CONTTYPE)], "not a file, folder or link"),
    ],
)
def test_hostile_members_are_refused(
    members: list[tuple[tarfile.TarInfo, bytes | None]], reason: str, folder: Path
) -> None:
    with pytest.raises(IntegrityError, match=reason):
        unpack(archive(*members), str(folder))
    assert (folder.parent / "outside").read_text() == "untouched"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["outside", "unpacked"]


def sparse() -> bytes:
    """A file of 1 GiB that takes a block: GNU's format 1.0, in pax records."""
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "python/a",
               "GNU.sparse.realsize": str(1 << 30)}  # fmt: skip
    return archive(
        member("python/GNUSparseFile.0/a", b"0\n".ljust(512, b"\0"), pax_headers=records)
    )


def huge_header() -> bytes:
    """A pax header of 20 MB."""
    return archive(member("python/a", b"", pax_headers={"comment": "x" * 20_000_000}))


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "make",
    [
        sparse,
        huge_header,
        lambda: b"",
        lambda: b"PK\x03\x04 not a tar",
        lambda: gzip.compress(b"not a tar at all" * 100),
        lambda: cut(archive(member("python/a", b"0123456789" * 100_000))),
        lambda: gzip.compress(cut(gzip.decompress(archive(member("python/a", b"x" * 100_000))))),
    ],
    ids=["sparse", "huge header", "empty", "zip", "no tar", "cut gzip", "cut tar"],
)
def test_what_is_no_plain_archive_is_refused(make: Callable[[], bytes], folder: Path) -> None:
    with pytest.raises(IntegrityError):
        unpack(make(), str(folder))


@pytest.mark.parametrize("how", ["declared", "stream", "members"])
def test_bombs_are_refused_before_they_fill_the_disk(
    how: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_archive, "LARGEST_TREE", 1_000_000)
    monkeypatch.setattr(python_archive, "MOST_MEMBERS", 100)
    files = {
        "declared": [member("python/a", bytes(2_000_000))],
        "stream": [member(f"python/{number}", bytes(300_000)) for number in range(5)],
        "members": [member(f"python/{number}", b"") for number in range(200)],
    }
    with pytest.raises(IntegrityError, match="unpacks to more than"):
        unpack(archive(*files[how]), str(folder))
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 1_000_000


def test_where_the_interpreter_is() -> None:
    assert (
        interpreter_path("/c", (3, 12), free_threaded=False, system="linux")
        == "/c/python/bin/python3.12"
    )
    assert (
        interpreter_path("/c", (3, 13), free_threaded=True, system="darwin")
        == "/c/python/bin/python3.13t"
    )
    assert interpreter_path("/c", (3, 12), free_threaded=False, system="win32").endswith(
        "python.exe"
    )
