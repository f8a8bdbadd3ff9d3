"""File tables of environments and images."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.disk.files import CHUNK_SIZE
from offline_bundle.wheelhouse.runtime.launcher.prepare.contents import (
    changed_files,
    checksums,
    file_checksums,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1])
def test_a_file_has_the_checksums_of_its_content(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "file").write_bytes(content)
    assert file_checksums(str(tmp_path / "file")) == checksums(content)


def test_large_files_are_compared_in_pieces(tmp_path: Path) -> None:
    """Libraries of CUDA packages have more than a gigabyte."""
    with (tmp_path / "large.so").open("wb") as file:
        file.truncate(64 * CHUNK_SIZE)
    table = {"large.so": file_checksums(str(tmp_path / "large.so"))}
    tracemalloc.start()
    assert list(changed_files(str(tmp_path), table)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * CHUNK_SIZE
