"""Folders that are refused, and the hint for each."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.disk.cache_setup import cache_directory, private_directory
from offline_bundle.wheelhouse.runtime.disk.commit import check_is_bundle_folder
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.launcher.os_errors import explain_os_error
from tests.support.launcher_cases import needs_posix

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_posix


def test_a_folder_of_other_files_is_named_with_them(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    check_is_bundle_folder(str(tmp_path))  # the top of a file system
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"is not a bundle \(a, b, c, \.\.\.\)"):
        check_is_bundle_folder(str(tmp_path))


@pytest.mark.parametrize(
    ("parent", "mode", "hint"),
    [(0o777, 0o700, "chmod +t the folder above"), (0o755, 0o777, "chmod go-w")],
)
def test_the_hint_for_a_cache_fits_its_fault(
    tmp_path: Path, parent: int, mode: int, hint: str
) -> None:
    folder = tmp_path / "parent" / "cache"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    folder.parent.chmod(parent)
    with pytest.raises(BundleError) as caught:
        private_directory(str(folder))
    assert hint in (caught.value.hint or "")
    assert "OFFLINE_BUNDLE_CACHE" in (caught.value.hint or "")


def test_a_cache_with_a_path_separator_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / f"a{os.pathsep}b"
    with pytest.raises(BundleError, match="which separates paths"):
        private_directory(str(folder))
    assert not folder.exists()


@pytest.mark.parametrize("name", ["file/cache", "loop/cache", "x" * 300])
def test_a_cache_that_cannot_be_created_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / name))
    with pytest.raises(BundleError, match="cannot be created: ") as caught:
        cache_directory()
    assert "set OFFLINE_BUNDLE_CACHE" in (caught.value.hint or "")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_is_explained(number: int) -> None:
    error = explain_os_error(OSError(number, os.strerror(number), "/cache/envs"), "/cache")
    assert isinstance(error, BundleError)
    assert "OFFLINE_BUNDLE_CACHE" in (error.hint or "")
    other = OSError(number, os.strerror(number), "/elsewhere")
    assert explain_os_error(other, "/cache") is other


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o750])
def test_others_cannot_enter_the_folders_of_a_cache(tmp_path: Path, mode: int) -> None:
    """Files in them may be writable for others: by the umask of a job, or a default access list.

    The cache itself may have other files, such as a home: it keeps its mode.
    """
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "cache"
    for name in ("uv", "other"):
        (folder / name).mkdir(parents=True)
    for path in (folder, folder / "uv", folder / "other", tmp_path / "elsewhere"):
        path.chmod(mode)
    (folder / "built").symlink_to(tmp_path / "elsewhere")
    assert private_directory(str(folder)) == str(folder)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in folder.iterdir()}
    assert modes == {"built": mode, "downloads": 0o700, "other": mode, "uv": 0o700, "uv-bin": 0o700}
    assert folder.stat().st_mode & 0o7777 == mode


def test_a_new_cache_is_empty_and_closed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    assert private_directory(str(folder)) == str(folder)
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert not list(folder.iterdir())
