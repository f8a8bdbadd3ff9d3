from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.wheelhouse.runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
from tests.support.cache_cases import DIGEST, cache, store

__all__ = ["cache"]


PROJECT = Path(__file__).resolve().parents[4]


@contextlib.contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Be somebody who may write in *folder*, but is not root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    os.chown(folder, nobody, nobody)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


class TestNoRoom:
    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(BundleError, match="Not a directory") as caught:
            store(DownloadCache(tmp_path / "file"))
        assert str(tmp_path / "file") in caught.value.message
        assert "OFFLINE_BUNDLE_CACHE" in str(caught.value.hint)

    def test_a_read_only_cache(self) -> None:
        with tempfile.TemporaryDirectory() as folder, unprivileged(Path(folder)):
            cache = DownloadCache(Path(folder))
            path = store(cache)
            for parent in [cache.root / "downloads/partial", path.parent]:
                parent.chmod(0o555)
            assert cache.get(DIGEST) == path
            with pytest.raises(BundleError, match="Permission denied"):
                store(cache, b"other")
            for parent in [cache.root / "downloads/partial", path.parent]:
                parent.chmod(0o755)

    def test_a_limit_on_the_size_of_files(self, cache: DownloadCache) -> None:
        code = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(PROJECT)!r})
from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.wheelhouse.runtime.errors import BundleError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
cache = DownloadCache(Path({str(cache.root)!r}))
try:
    with cache.partial({DIGEST!r}) as partial:
        cache.append(partial, b"x" * 5000)
except BundleError as error:
    print(error.message, error.hint)
"""
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        assert f"cannot write to the download cache {cache.root}: File too large" in told
        assert "OFFLINE_BUNDLE_CACHE" in told
