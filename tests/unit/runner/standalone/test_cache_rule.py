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
    cache = parent / "cache"
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
        parent.chmod(0o1777)
    if kind == "no sticky bit":
        parent.chmod(0o777)
    if kind == "other owner":
        os.chown(cache, 12345, 12345)
    if kind == "link of another user":
        os.chown(cache, 12345, 12345, follow_symlinks=False)
    return cache


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("own folder", None),
        ("own link", None),
        ("link in a shared folder", "is a symbolic link that another user may have created"),
        ("link of another user", "is a symbolic link that another user may have created"),
        ("no sticky bit", "is in a folder where any user may replace it (no sticky bit)"),
        ("file", "is not a folder"),
        ("other owner", "belongs to user 12345, not to you (user 0)"),
        ("writable by others", "can be written by others"),
    ],
)
def test_cache_fault_is_the_same_in_every_program(
    program: str, kind: str, expected: str | None, tmp_path: Path, exec_script: ModuleType
) -> None:
    if "other" in kind.replace("others", "") and os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    cache = make_folder(kind, tmp_path)
    faults = {
        "launcher": lambda: cache_dir.cache_fault(str(cache)),
        "exec script": lambda: exec_script.cache_fault(cache),
        "probe": lambda: probe.cache_fault(str(cache)),
    }
    assert faults[program]() == expected


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
