"""One rule for the cache folder: launcher, execution script and probe give the same verdict."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.standalone import probe
from offline_bundle.wheelhouse.runtime.disk import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[4]
PROGRAMS = ["launcher", "exec script", "probe"]


@pytest.fixture(scope="module")
def exec_script() -> Iterator[ModuleType]:
    shim = str(ROOT / "runner" / "hps_server" / "evaluation" / "shim")
    before = set(sys.modules)
    sys.path.insert(0, shim)
    path = ROOT / "runner" / "standalone" / "hps_exec_script.py"
    specification = importlib.util.spec_from_file_location("exec_script_cache_rule", path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    sys.path.remove(shim)
    for name in set(sys.modules) - before:
        if name.startswith("ansys.rep"):
            del sys.modules[name]


def make_folder(kind: str, parent: Path) -> Path:
    cache = parent / "above" / "cache"
    cache.parent.mkdir(mode=0o755)
    if kind == "file":
        cache.write_text("")
    elif "link" in kind:
        (parent / "scratch").mkdir(mode=0o700)
        cache.symlink_to(parent / "scratch")
    else:
        cache.mkdir(mode=0o700)
    if kind == "writable by others":
        cache.chmod(0o777)
    if kind == "link in a shared folder":
        cache.parent.chmod(0o1777)
    if kind in {"no sticky bit", "far above"}:
        (cache.parent if kind == "no sticky bit" else parent).chmod(0o777)
    if kind in {"a group", "own group"}:
        os.chown(cache.parent, -1, 12345 if kind == "a group" else os.getgid())
        cache.parent.chmod(0o775)
    if kind == "other owner":
        os.chown(cache, 12345, 12345)
    if kind == "other owner above":
        os.chown(cache.parent, 12345, 12345)
    if kind == "link of another user":
        os.chown(cache, 12345, 12345, follow_symlinks=False)
    return cache


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("own folder", None),
        ("own link", None),
        ("own group", None),
        ("link in a shared folder", "is behind {cache}, a symbolic link that another user may"),
        ("link of another user", "is behind {cache}, a symbolic link that another user may"),
        ("no sticky bit", "is in {above}, where another user may replace it"),
        ("far above", "is in {top}, where another user may replace it"),
        ("a group", "is in {above}, where another user may replace it"),
        ("other owner above", "is in {above}, where another user may replace it"),
        ("file", "is not a folder"),
        ("other owner", "belongs to user 12345, not to you (user 0)"),
        ("writable by others", "can be written by others"),
    ],
)
def test_cache_fault_is_the_same_in_every_program(
    program: str, kind: str, expected: str | None, tmp_path: Path, exec_script: ModuleType
) -> None:
    if kind in {"other owner", "other owner above", "link of another user", "a group"} and (
        os.getuid() != 0
    ):
        pytest.skip("only root can give a folder away")
    cache = make_folder(kind, tmp_path)
    faults = {
        "launcher": lambda: cache_dir.cache_fault(str(cache)),
        "exec script": lambda: exec_script.cache_fault(cache),
        "probe": lambda: probe.cache_fault(str(cache)),
    }
    fault = faults[program]()
    if expected is None or fault is None:
        assert fault == expected
    elif program != "exec script":  # it has one text for all that others can change
        assert fault.startswith(expected.format(cache=cache, above=cache.parent, top=tmp_path))


def test_each_link_on_the_way_is_checked(tmp_path: Path) -> None:
    """A link in the middle of a chain could be replaced as well as the first one."""
    shared, cache = tmp_path / "shared", tmp_path / "cache"
    (tmp_path / "scratch").mkdir(mode=0o700)
    shared.mkdir()
    (shared / "link").symlink_to("../scratch")
    cache.symlink_to("shared/../shared/link")
    assert cache_dir.cache_fault(str(cache)) is None
    shared.chmod(0o777)
    assert f"is in {shared}, where" in str(cache_dir.cache_fault(str(cache)))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        cache_dir.cache_fault(str(tmp_path / "loop"))


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": "/home/me"},
        {"HOME": "/home/me", "XDG_CACHE_HOME": "/scratch/me"},
        {"HOME": "/home/me", "TMPDIR": "/local"},
        {"TEMP": "/temp"},
        {"HOME": "/home/me", "XDG_CACHE_HOME": "relative"},
        {"OFFLINE_BUNDLE_CACHE": "/chosen/../cache"},
    ],
)
def test_cache_candidates_are_the_same_in_every_program(
    variables: dict[str, str], exec_script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "TMPDIR", "TEMP", "OFFLINE_BUNDLE_CACHE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    expected = cache_dir.cache_candidates()
    assert probe.cache_candidates() == expected
    assert [str(path) for path in exec_script.cache_candidates(os.environ)] == expected
