"""Folders in which other users may write: no path below them leads elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.archive.unpack import main
from offline_bundle.wheelhouse.runtime.disk import safe_folder
from offline_bundle.wheelhouse.runtime.disk.commit import commit_files
from offline_bundle.wheelhouse.runtime.disk.files import NotRegularError
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.runtime.errors import BundleError, IntegrityError
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.archives import put_bundle, tree, wheel_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["dir_fd", "no dir_fd"])
def folder(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SafeFolder]:
    """A folder, resolved by descriptors, and as on Windows."""
    monkeypatch.setattr(safe_folder, "_HAS_DIR_FD", request.param == "dir_fd")
    (tmp_path / "folder").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"outside")
    with SafeFolder(tmp_path / "folder") as opened:
        yield opened


def test_files_are_written_moved_and_removed(folder: SafeFolder, tmp_path: Path) -> None:
    folder.make_folder("a/b")
    folder.write("a/b/x", b"content", durable=True)
    folder.replace("a/b/x", "a/y")
    folder.flush("a/y")
    folder.flush("a")
    folder.flush("")
    assert (folder.read("a/y"), folder.size("a/y"), folder.read("a/b/x")) == (b"content", 7, None)
    assert (folder.names("a"), folder.names("none")) == (["b", "y"], [])
    assert folder.exists("a/b")
    assert not folder.exists("a/b/x")
    folder.remove_with_folders("a/y")
    assert folder.names("a") == ["b"]
    folder.remove_tree("a")
    assert list((tmp_path / "folder").iterdir()) == []


def test_links_are_not_followed(folder: SafeFolder, tmp_path: Path) -> None:
    (tmp_path / "folder/link").symlink_to(tmp_path / "outside")
    (tmp_path / "folder/file").symlink_to(tmp_path / "outside/file")
    assert folder.read("link/file") is folder.read("file") is folder.size("file") is None
    with pytest.raises(IntegrityError, match="is a link or a file"):
        folder.make_folder("link/new")
    for attempt in (
        lambda: folder.write("link/new", b""),
        lambda: folder.open("file"),
        lambda: folder.open_lock("link/lock"),
        lambda: folder.open_lock("file"),
    ):
        with pytest.raises(OSError, match=r"link|file"):
            attempt()
    folder.write("x", b"x")
    with pytest.raises(OSError, match="x"):
        folder.replace("x", "link/x")
    folder.remove_with_folders("link/file")
    folder.remove_tree("link")
    assert tree(tmp_path / "outside") == {"file": b"outside"}


def test_a_fifo_is_not_opened(folder: SafeFolder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "folder/fifo")
    assert folder.read("fifo") is None
    with pytest.raises(NotRegularError):
        folder.open_lock("fifo")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    packages = {f"package{number}": "1.0" for number in range(20)}
    pack(put_bundle(tmp_path / "bundle", {"eval": packages}), tmp_path / "b.tar")
    return tmp_path / "b.tar"


def unpack_alone(archive: Path, directory: Path) -> None:
    if main([str(archive), "-o", str(directory)]):
        raise BundleError("failed")


@pytest.mark.parametrize("command", [lambda file, to: unpack([file], to), unpack_alone])
@pytest.mark.parametrize("name", ["wheels", ".writer", ".writer/incoming", ".writer/tmp"])
def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(
    archive: Path, tmp_path: Path, name: str, command: Callable[[Path, Path], object]
) -> None:
    """Another user who may write in the destination replaces a folder by a link, many times."""
    outside = tmp_path / "outside"
    outside.mkdir()
    stop = threading.Event()
    live = tmp_path / "live"
    place, aside, link = live / name, tmp_path / "aside", tmp_path / "link"

    def swap() -> None:
        while not stop.is_set():
            try:
                link.symlink_to(outside)
                place.rename(aside)
                link.rename(place)
                place.rename(link)
                aside.rename(place)
                link.unlink()
            except OSError:
                link.unlink(missing_ok=True)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(5):
            with suppress(BundleError):
                command(archive, live)
            assert list(outside.iterdir()) == []
    finally:
        stop.set()
        swapper.join()


def test_a_lock_file_that_is_a_dangling_link_creates_nothing(archive: Path, tmp_path: Path) -> None:
    live = put_bundle(tmp_path / "live", {"other": {"zeta": "1.0"}})
    (live / ".writer/lock").unlink()
    (live / ".writer/lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="not a regular file"):
        unpack([archive], live)
    assert main([str(archive), "-o", str(live)]) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_journal_that_is_a_fifo_stops_no_command(archive: Path, tmp_path: Path) -> None:
    live = put_bundle(tmp_path / "live", {"other": {"zeta": "1.0"}})
    os.mkfifo(live / ".writer/pending.json")
    assert verify(live).ok
    unpack([archive], live)
    assert (live / wheel_path("package1", "1.0")).exists()
    assert not (live / ".writer/pending.json").exists()


def test_a_commit_flushes_contents_before_names_and_names_before_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut no name leads to an empty file."""
    live = tmp_path / "live"
    (live / ".writer/incoming").mkdir(parents=True)
    (live / ".writer/incoming/1").write_bytes(b"wheel")
    events: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def record_flush(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(("flush", os.path.relpath(path, live)))

    def record_rename(source: str, target: str, **options: int) -> None:
        replace(source, target, **options)
        events.append(("rename", target))

    monkeypatch.setattr(os, "fsync", record_flush)
    monkeypatch.setattr(os, "replace", record_rename)
    staged = {"wheels/a.whl": live / ".writer/incoming/1"}
    commit_files(live, staged, document=b"{}", checksums=b"", journal=b"{}")
    order = [
        ("rename", "pending.json"),
        ("flush", ".writer"),
        ("flush", ".writer/tmp/bundle.json"),
        ("flush", ".writer/incoming/1"),
        ("rename", "a.whl"),
        ("flush", "wheels"),
        ("rename", "bundle.json"),
        ("flush", "."),
    ]
    positions = [events.index(event) for event in order]
    assert positions == sorted(positions)


@pytest.mark.parametrize("has_syncfs", [True, False])
def test_many_files_are_flushed_at_once_where_the_platform_can(
    folder: SafeFolder, monkeypatch: pytest.MonkeyPatch, *, has_syncfs: bool
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    if not has_syncfs:
        monkeypatch.setitem(sys.modules, "ctypes", None)
    paths = [f"file{number}" for number in range(40)]
    for path in paths:
        folder.write(path, b"")
    folder.flush_all(paths)
    by_descriptor = safe_folder._HAS_DIR_FD
    assert len(flushed) == (40 if by_descriptor and not has_syncfs else 0)
