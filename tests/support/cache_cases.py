from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.cache import DownloadCache

if TYPE_CHECKING:
    from pathlib import Path


CONTENT = b"not really a wheel" * 100


DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> DownloadCache:
    return DownloadCache(tmp_path / "cache")


def store(cache: DownloadCache, content: bytes = CONTENT) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    with cache.partial(digest) as partial:
        partial.clear()
        cache.append(partial, content)
        return cache.store(partial, digest)
