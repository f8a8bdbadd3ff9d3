"""Bytecode compiled from wheels, by a process of the Python that it is for."""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.derived.bytecode import compile_wheels
from offline_bundle.wheelhouse.runtime.bytecode import read_modules, source_of
from offline_bundle.wheelhouse.runtime.errors import FetchError
from tests.support.bytecode_cases import TAG, compile_one
from tests.support.distributions import make_wheel, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "pkg/__init__.py": "ORIGIN = __file__\ndef fail(): raise ValueError\n",
    "pkg/broken.py": "def (",
    "pkg/text.txt": "",
    "pkg/test.py": "",
    "pkg/test/helper.py": "",
    "pkg/sub/tests/test_sub.py": "",
    "pkg-1.0.data/purelib/pure.py": "",
    "pkg-1.0.data/platlib/sub/plat.py": "",
    "pkg-1.0.data/scripts/tool.py": "",
    "pkg-1.0.data/data/share/other.py": "",
}


def test_compiled_wheel_has_the_installed_modules_only(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "pkg", files=FILES)
    modules = dict(read_modules(compile_one(wheel, tmp_path / "out").read_bytes()))
    assert {source_of(name) for name in modules} == {
        "pkg.py",
        "pkg/__init__.py",
        "pkg/test.py",
        "pure.py",
        "sub/plat.py",
    }
    for code in modules.values():
        assert code[:4] == importlib.util.MAGIC_NUMBER
        assert code[4:8] == b"\1\0\0\0"  # by hash, unchecked (PEP 552)


def test_compiled_wheel_is_the_same_elsewhere_and_beside_others(tmp_path: Path) -> None:
    files = {f"pkg/m{number}.py": f"X = {{'a{number}', 'b', 'c'}}\n" for number in range(20)}
    wheel = make_wheel(tmp_path / "a", "pkg", files=files)
    again = make_wheel(tmp_path / "b" / "c", "pkg", files=files)
    other = make_wheel(tmp_path / "a", "other", files=files)
    alone = compile_one(wheel, tmp_path / "out").read_bytes()
    wheels = {sha256_of(path): path for path in (other, again)}
    together = compile_wheels(sys.executable, wheels, tmp_path / "out2")
    assert together[sha256_of(again)].read_bytes() == alone
    assert os.fsencode(tmp_path) not in gzip.decompress(alone)


def test_compiled_files_are_kept(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "pkg")
    first = compile_one(wheel, tmp_path / "out")
    inode = first.stat().st_ino
    assert compile_one(wheel, tmp_path / "out").stat().st_ino == inode
    assert [path.name for path in (tmp_path / "out").iterdir()] == [first.name]


def test_failed_compilation_is_reported(tmp_path: Path) -> None:
    (tmp_path / "broken.whl").write_text("not a zip file")
    with pytest.raises(FetchError, match="could not compile bytecode") as caught:
        compile_wheels(sys.executable, {"0": tmp_path / "broken.whl"}, tmp_path / "out")
    assert "BadZipFile" in str(caught.value)


def test_traceback_names_the_installed_file(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "again", "alpha", files={"alpha/__init__.py": "1 / 0\n"})
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    modules = dict(read_modules(compile_one(wheel, tmp_path / "out").read_bytes()))
    (site / "alpha/__pycache__").mkdir()
    name = f"alpha/__pycache__/__init__.{TAG}.pyc"
    (site / name).write_bytes(modules[name])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); import alpha"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert str(site / "alpha/__init__.py") in failed.stderr
