from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.cache import DownloadCache

if TYPE_CHECKING:
    from collections.abc import Callable
from tests.support.cache_cases import CONTENT, DIGEST, cache, store

__all__ = ["cache"]


def partials(cache: DownloadCache) -> list[str]:
    return sorted(path.name for path in (cache.root / "downloads/partial").iterdir())


def test_a_stored_file_is_read_only_and_found_by_its_digest(cache: DownloadCache) -> None:
    path = store(cache)
    assert path == cache.root / "downloads/sha256" / DIGEST[:2] / DIGEST
    assert path.stat().st_mode & 0o777 == 0o444
    assert path.read_bytes() == CONTENT
    assert cache.get(DIGEST) == cache.get(DIGEST, len(CONTENT)) == path
    assert partials(cache) == []


def test_absent(cache: DownloadCache) -> None:
    assert cache.get(DIGEST) is None
    assert not cache.root.exists()


def _rot(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize("change", [_rot, lambda content: content[:-1], lambda _content: b""])
def test_a_rotted_file_is_deleted(cache: DownloadCache, change: Callable[[bytes], bytes]) -> None:
    path = store(cache)
    path.chmod(0o644)
    path.write_bytes(change(CONTENT))
    assert cache.get(DIGEST, len(CONTENT)) is None
    assert not path.exists()
    assert cache.get(store(cache).name) is not None


@pytest.mark.parametrize("digest", ["", "../../x", DIGEST[:-1], DIGEST.upper(), DIGEST + "\n"])
def test_only_a_digest_is_a_digest(cache: DownloadCache, digest: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        cache.get(digest)
    with pytest.raises(ValueError, match=r".*"), cache.partial(f"{digest}/../x"):
        pass


class TestPartial:
    def test_what_arrived_is_there_the_next_time_with_its_validator(
        self, cache: DownloadCache
    ) -> None:
        with contextlib.suppress(KeyboardInterrupt), cache.partial(DIGEST) as partial:
            cache.append(partial, b"one")
            partial.validator = '"v1"'
            raise KeyboardInterrupt
        with cache.partial(DIGEST) as partial:
            assert partial.validator == '"v1"'
            assert b"".join(partial.read()) == b"one"
            cache.append(partial, b"two")
        with cache.partial(DIGEST) as partial:
            assert b"".join(partial.read()) == b"onetwo"

    def test_emptied(self, cache: DownloadCache) -> None:
        with cache.partial(DIGEST) as partial:
            cache.append(partial, b"one")
            partial.validator = "x"
            partial.clear()
            cache.append(partial, b"two")
        with cache.partial(DIGEST) as partial:
            assert partial.validator is None
            assert b"".join(partial.read()) == b"two"

    def test_nothing_is_left_of_nothing(self, cache: DownloadCache) -> None:
        with cache.partial(DIGEST) as partial:
            partial.validator = "x"
        assert partials(cache) == []

    def test_a_second_one_gets_a_file_of_its_own(self, cache: DownloadCache) -> None:
        with cache.partial(DIGEST) as first, cache.partial(DIGEST) as second:
            cache.append(first, CONTENT[:50])
            cache.append(second, CONTENT)
            assert cache.store(second, DIGEST).read_bytes() == CONTENT
            cache.append(first, CONTENT[50:])
            assert cache.store(first, DIGEST).read_bytes() == CONTENT
        assert partials(cache) == []

    def test_a_file_of_its_own_is_not_kept(self, cache: DownloadCache) -> None:
        with cache.partial(DIGEST) as first, cache.partial(DIGEST) as second:
            cache.append(first, b"a")
            cache.append(second, b"bc")
        assert partials(cache) == [DIGEST]
        with cache.partial(DIGEST) as partial:
            assert b"".join(partial.read()) == b"a"


def _store_many(root: str) -> None:
    for number in range(20):
        store(DownloadCache(Path(root)), b"%d" % number * 100_000)


def test_processes_that_store_the_same_files_at_once(cache: DownloadCache) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_store_many, args=(str(cache.root),)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for number in range(20):
        assert cache.get(hashlib.sha256(b"%d" % number * 100_000).hexdigest())
    assert partials(cache) == []
