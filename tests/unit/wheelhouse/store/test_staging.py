"""How files get into a bundle, and who can read it."""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.store.staging import link_or_copy, private_notes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("mode", "links"), [(0o755, 2), (0o775, 2), (0o2775, 1), (0o777, 1)])
def test_a_shared_folder_gets_copies_of_the_cache(tmp_path: Path, mode: int, links: int) -> None:
    source, folder = tmp_path / "cached", tmp_path / "share"
    source.write_text("wheel")
    source.chmod(0o444)
    folder.mkdir()
    folder.chmod(mode)
    link_or_copy(source, folder / "wheel")
    assert (folder / "wheel").read_text() == "wheel"
    assert source.stat().st_nlink in {1, links}  # 1 where the file system clones files


@pytest.mark.skipif(sys.platform != "linux", reason="POSIX access control lists of Linux")
def test_a_file_gets_the_default_access_control_list_of_its_folder(tmp_path: Path) -> None:
    source, folder = tmp_path / "cached", tmp_path / "share"
    source.write_text("wheel")
    source.chmod(0o444)
    folder.mkdir()
    # acl(5): the owner, user 1000, the group, the mask, others
    entries = [(1, 7, -1), (2, 7, 1000), (4, 5, -1), (16, 7, -1), (32, 0, -1)]
    rules = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(folder, "system.posix_acl_default", rules)
    except OSError:
        pytest.skip("the file system has no access control lists")
    link_or_copy(source, folder / "wheel")
    assert os.listxattr(folder / "wheel") == ["system.posix_acl_access"]
    assert (folder / "wheel").stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(("mode", "is_private"), [(0o600, True), (0o640, False), (0o644, False)])
def test_a_bundle_that_others_cannot_read_is_noted(
    tmp_path: Path, mode: int, *, is_private: bool
) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    (tmp_path / "bundle.json").chmod(mode)
    notes = private_notes(tmp_path)
    assert bool(notes) is is_private
    assert all(f"chmod -R go+rX {tmp_path}" in note for note in notes)
