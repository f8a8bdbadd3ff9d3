"""Bytecode files of a bundle: their names, and their content, which is untrusted."""

from __future__ import annotations

import gzip
import tarfile

import pytest

from offline_bundle.wheelhouse.runtime.bytecode import (
    bytecode_path,
    read_modules,
    split_bytecode_path,
)
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from tests.support.bytecode_cases import ALPHA, archive, special


@pytest.mark.parametrize("python", ["3.9", "3.12", "3.13t"])
def test_path_of_bytecode_names_wheel_and_python(python: str) -> None:
    path = bytecode_path("wheels/a-1-py3-none-any.whl", python)
    assert path == f"bytecode/cp{python.replace('.', '')}/a-1-py3-none-any.whl.tar.gz"
    assert split_bytecode_path(path) == ("wheels/a-1-py3-none-any.whl", python)


HOSTILE: dict[str, dict[str, bytes | tarfile.TarInfo]] = {
    "absolute": {"/__pycache__/a.cpython-312.pyc": b""},
    "outside": {"../__pycache__/a.cpython-312.pyc": b""},
    "climbing": {"a/../__pycache__/a.cpython-312.pyc": b""},
    "source": {"a/b.py": b""},
    "not in __pycache__": {"a/b.cpython-312.pyc": b""},
    "sourceless": {"__pycache__/b.pyc": b""},
    "backslash": {"__pycache__/..\\b.cpython-312.pyc": b""},
    "unprintable": {"__pycache__/\x1b.cpython-312.pyc": b""},
    "link": {ALPHA: special(tarfile.SYMTYPE, "/etc/passwd")},
    "hard link": {ALPHA: special(tarfile.LNKTYPE, ALPHA)},
    "device": {ALPHA: special(tarfile.CHRTYPE)},
    "folder": {ALPHA: special(tarfile.DIRTYPE)},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members_are_refused(kind: str) -> None:
    with pytest.raises(IntegrityError):
        list(read_modules(archive(HOSTILE[kind])))


def test_damaged_archives_are_refused() -> None:
    good = archive({ALPHA: b"x" * 5000})
    assert list(read_modules(good)) == [(ALPHA, b"x" * 5000)]
    tar = gzip.decompress(good)
    damaged = [b"", b"text", good[:-1], good + b"x", gzip.compress(tar[:600])]
    for content in damaged:
        with pytest.raises(IntegrityError):
            list(read_modules(content))
    with pytest.raises(IntegrityError, match="more than 1000 bytes"):
        list(read_modules(good, largest=1000))
