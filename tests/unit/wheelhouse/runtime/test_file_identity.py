"""The identity of a file tells it from the one that replaced it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.disk.file_identity import file_identity, read_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def with_state(monkeypatch: pytest.MonkeyPatch, **changes: int) -> None:
    """Make `os.stat` return the same state for each file, as two images of one shape have it."""
    state = {"st_dev": 1, "st_ino": 2, "st_size": 3, "st_mtime_ns": 0, "st_ctime_ns": 0, **changes}
    fields = type("State", (), state)
    monkeypatch.setattr(os, "stat", lambda _: fields)


def test_a_changed_or_replaced_file_has_another_identity(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_text("one")
    before = file_identity(str(path))
    assert file_identity(str(path)) == before
    (tmp_path / "other").write_text("two")
    (tmp_path / "other").replace(path)
    assert file_identity(str(path)) != before


def test_the_device_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that was replaced by another one can have the same inodes and times."""
    identities = set()
    for device in (1, 2):
        with_state(monkeypatch, st_dev=device, st_ctime_ns=5)
        identities.add(file_identity(str(tmp_path)))
    assert len(identities) == 2


@pytest.mark.parametrize("seconds", [0, 315532800, 1_767_225_600])
def test_with_times_of_whole_seconds_the_content_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """In images all times are a fixed epoch."""
    with_state(monkeypatch, st_ctime_ns=seconds * 1_000_000_000)
    identities = set()
    for content in ("one", "two"):
        (tmp_path / "bundle.json").write_text(content)
        identities.add(file_identity(str(tmp_path / "bundle.json")))
    assert len(identities) == 2


def test_with_exact_times_the_content_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm start reads no manifest."""
    with_state(monkeypatch, st_ctime_ns=1_767_225_600_000_000_001)
    assert file_identity(str(tmp_path / "missing"))


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.skipif(os.name == "nt", reason="fifos and devices are POSIX's")
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        make_socket,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
    ],
    ids=["fifo", "folder", "socket", "device", "link to itself"],
)
def test_only_a_regular_file_is_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(str(tmp_path / "link")) == b"content"
    make(tmp_path / "other")
    with pytest.raises(OSError, match="other"):
        read_regular(str(tmp_path / "other"))
