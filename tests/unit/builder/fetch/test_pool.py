from __future__ import annotations

import gzip
import hashlib
import logging
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
import requests

from offline_bundle.builder.fetch import transfer
from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.http import IndexSession
from offline_bundle.builder.fetch.model import Download
from offline_bundle.builder.fetch.pool import fetch
from offline_bundle.wheelhouse.runtime.errors import BundleError, FetchError, InputError
from tests.support.index_server import Fault, IndexServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
from tests.support.pool_cases import (
    CONTENT,
    NAME,
    SHA256,
    Fetcher,
    _clean_environment,
    alpha,
    cache,
    fetch_all,
    packages,
    server,
)

__all__ = ["_clean_environment", "alpha", "cache", "fetch_all", "packages", "server"]


WRONG = b"x" * len(CONTENT)


def without_promises(download: Download, **hashes: str) -> Download:
    """Give *download* as an index without sizes describes it, with other hashes or none."""
    return Download(download.url, download.filename, hashes, None)


def ranges(server: IndexServer) -> list[str | None]:
    return [request.headers["Range"] for request in server.requests]


class TestFetch:
    def test_files_come_in_the_order_asked_for(
        self, packages: Path, server: IndexServer, cache: DownloadCache, fetch_all: Fetcher
    ) -> None:
        downloads = []
        for number in range(30):
            content = b"%d" % number * (1 + number % 7) * 1000
            filename = f"p{number}-1.0-py3-none-any.whl"
            (packages / filename).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            downloads.append(
                Download(server.file_url(filename), filename, {"sha256": digest}, len(content))
            )
        fetched = fetch_all(*downloads)
        assert [file.sha256 for file in fetched] == [
            download.hashes["sha256"] for download in downloads
        ]
        assert [file.size for file in fetched] == [download.size for download in downloads]
        assert all(cache.get(file.sha256, file.size) == file.path for file in fetched)
        assert not any(file.from_cache for file in fetched)
        assert fetch_all.partials() == []

    def test_nothing_to_fetch(self, fetch_all: Fetcher) -> None:
        assert fetch_all() == []

    def test_what_is_in_the_cache_is_not_asked_for(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        [first] = fetch_all(alpha)
        [second] = fetch_all(alpha)
        assert (first.path, first.from_cache, second.path, second.from_cache) == (
            first.path,
            False,
            first.path,
            True,
        )
        assert len(server.requests) == 1

    def test_a_rotted_file_is_fetched_again(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        [first] = fetch_all(alpha)
        first.path.chmod(0o644)
        first.path.write_bytes(WRONG)
        assert fetch_all(alpha)[0].path.read_bytes() == CONTENT
        assert len(server.requests) == 2

    def test_the_same_file_twice_is_transferred_once(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        other_url = Download(alpha.url + "?mirror", alpha.filename, alpha.hashes, alpha.size)
        bare = without_promises(alpha)
        assert len({file.path for file in fetch_all(alpha, other_url, bare, bare, alpha)}) == 1
        assert (
            len(server.requests) == 2
        )  # without a digest, it takes a request to know that it is the same

    def test_headers(self, server: IndexServer, alpha: Download, fetch_all: Fetcher) -> None:
        fetch_all(alpha)
        [request] = server.requests
        assert re.fullmatch(r"offline-bundle/\d.*", request.headers["User-Agent"])
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.headers["Authorization"] is None

    def test_connections_are_kept(
        self, alpha: Download, server: IndexServer, fetch_all: Fetcher
    ) -> None:
        fetch_all(
            *(Download(f"{alpha.url}?{number}", NAME, {}, len(CONTENT)) for number in range(30)),
            workers=3,
        )
        assert len(server.requests) == 30
        assert len(server._server._connections) <= 3

    def test_a_body_that_claims_to_be_encoded_is_stored_as_it_was_sent(
        self, packages: Path, server: IndexServer, fetch_all: Fetcher
    ) -> None:
        content = gzip.compress(b"a tar file" * 1000)
        (packages / "beta-1.0.tar.gz").write_bytes(content)
        server.fault(
            "*", Fault.change_headers(content_encoding="gzip", content_type="application/x-tar")
        )
        digest = hashlib.sha256(content).hexdigest()
        url = server.file_url("beta-1.0.tar.gz")
        assert (
            fetch_all(Download(url, "beta", {"sha256": digest}, len(content)))[0].path.read_bytes()
            == content
        )

    def test_progress(self, server: IndexServer, alpha: Download, fetch_all: Fetcher) -> None:
        class Watch:
            def __init__(self) -> None:
                self.begun: tuple[int, int | None] | None = None
                self.size = 0
                self.files: list[Download] = []

            def begin(
                self, files: int, size: int | None, largest: Sequence[tuple[str, int]]
            ) -> None:
                self.begun = files, size
                self.largest = largest

            def advance(self, size: int) -> None:
                self.size += size

            def done(self, download: Download) -> None:
                self.files.append(download)

        server.fault("*", Fault.cut(600_000, times=1))
        server.fault("*", Fault.no_ranges(times=1))
        cold, warm, bare = Watch(), Watch(), Watch()
        fetch_all(alpha, alpha, progress=cold)
        fetch_all(alpha, progress=warm)
        fetch_all(without_promises(alpha), progress=bare)
        assert (cold.begun, cold.size, cold.files) == ((1, len(CONTENT)), len(CONTENT), [alpha])
        assert cold.largest == [(alpha.filename, len(CONTENT))]
        assert (warm.begun, warm.size, warm.files) == (None, 0, [])  # nothing is transferred
        assert (bare.begun, bare.size) == ((1, None), len(CONTENT))


class TestVerification:
    @pytest.mark.parametrize(
        "hashes",
        [
            {"sha256": "0" * 64},
            {"sha256": SHA256, "sha512": "0" * 128},
            {"md5": "0" * 32},
            {"blake2b": "0" * 128, "md5": hashlib.md5(CONTENT).hexdigest()},
        ],
    )
    def test_a_wrong_digest_is_not_tried_again_and_nothing_is_stored(
        self,
        hashes: dict[str, str],
        server: IndexServer,
        alpha: Download,
        fetch_all: Fetcher,
    ) -> None:
        error = fetch_all.failure(Download(alpha.url, NAME, hashes, len(CONTENT)))
        [problem] = error.problems
        [(algorithm, expected)] = [pair for pair in hashes.items() if set(pair[1]) == {"0"}]
        got = hashlib.new(algorithm, CONTENT).hexdigest()
        digests = f"expected {expected}, got {got}"
        assert problem == f"{NAME} from {alpha.url}: {algorithm} does not match: {digests}"
        assert error.exit_code == 4
        assert len(server.requests) == 1
        assert fetch_all.pauses == []
        assert fetch_all.stored() == []
        assert fetch_all.partials() == []

    @pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha384", "sha512", "blake2b"])
    def test_other_digests(self, algorithm: str, alpha: Download, fetch_all: Fetcher) -> None:
        [file] = fetch_all(
            without_promises(alpha, **{algorithm: hashlib.new(algorithm, CONTENT).hexdigest()})
        )
        assert (file.sha256, file.size) == (SHA256, len(CONTENT))

    def test_no_digest(self, alpha: Download, fetch_all: Fetcher) -> None:
        assert fetch_all(without_promises(alpha))[0].sha256 == SHA256

    def test_only_an_unknown_digest(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        error = fetch_all.failure(without_promises(alpha, crc32="00"))
        assert "checked here: crc32" in str(error)
        assert server.requests == []

    @pytest.mark.parametrize("size", [1, len(CONTENT) - 1, len(CONTENT) + 1])
    def test_another_size_is_refused_before_the_body(
        self, size: int, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        error = fetch_all.failure(Download(alpha.url, NAME, {"sha256": SHA256}, size))
        assert f"expected {size} bytes, got {len(CONTENT)}" in str(error)
        assert len(server.requests) == 1
        assert fetch_all.stored() == []

    def test_a_body_without_a_length_is_cut_off_when_it_exceeds_the_size(
        self, packages: Path, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        (packages / NAME).write_bytes(CONTENT * 20)
        server.fault("*", Fault(headers={"Content-Length": None}, pause=0.001))
        start = time.monotonic()
        error = fetch_all.failure(alpha)
        assert time.monotonic() - start < 15
        assert f"expected {len(CONTENT)} bytes, got more" in str(error)
        assert fetch_all.partials() == []

    @pytest.mark.parametrize("length", [None, str(len(CONTENT))])
    def test_a_body_of_undeclared_size_is_limited(
        self,
        server: IndexServer,
        alpha: Download,
        fetch_all: Fetcher,
        monkeypatch: pytest.MonkeyPatch,
        length: str | None,
    ) -> None:
        monkeypatch.setenv("OFFLINE_BUNDLE_DOWNLOAD_MAX", "100K")
        server.fault("*", Fault(headers={"Content-Length": length}))
        error = fetch_all.failure(without_promises(alpha))
        assert "no size is declared, and the body has more than 100 KiB" in str(error)
        assert fetch_all.partials() == []
        monkeypatch.setenv("OFFLINE_BUNDLE_DOWNLOAD_MAX", "100M")
        assert fetch_all(without_promises(alpha))[0].sha256 == SHA256

    def test_a_whole_body_without_a_length(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.change_headers(content_length=None))
        assert fetch_all(without_promises(alpha))[0].sha256 == SHA256

    def test_a_chunked_body_that_is_cut(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault(1, headers={"Content-Length": None}, cut_after=300_000))
        assert fetch_all(without_promises(alpha))[0].sha256 == SHA256
        assert len(server.requests) == 2

    def test_wrong_bytes(self, server: IndexServer, alpha: Download, fetch_all: Fetcher) -> None:
        server.fault("*", Fault.wrong_bytes(WRONG))
        assert f"expected {SHA256}, got {hashlib.sha256(WRONG).hexdigest()}" in str(
            fetch_all.failure(alpha)
        )
        assert len(server.requests) == 1


class TestResume:
    @pytest.mark.parametrize(
        "fault",
        [Fault.cut(600_000, times=1), Fault(1, cut_after=600_000, is_reset=True, pause=0.0005)],
    )
    def test_within_a_run_only_the_rest_is_asked_for(
        self, fault: Fault, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault(**vars(fault)))
        assert fetch_all(alpha)[0].path.read_bytes() == CONTENT
        first, second = server.requests
        assert first.headers["Range"] is None
        start = int(re.fullmatch(r"bytes=(\d+)-", second.headers["Range"])[1])  # type: ignore[index]
        assert 0 < start <= 600_000
        assert second.headers["If-Range"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'

    def test_many_cuts(self, server: IndexServer, alpha: Download, fetch_all: Fetcher) -> None:
        server.fault("*", Fault.cut(250_000, times=4))
        assert fetch_all(alpha)[0].sha256 == SHA256
        assert ranges(server) == [
            None,
            "bytes=250000-",
            "bytes=500000-",
            "bytes=750000-",
            "bytes=1000000-",
        ]

    def test_the_next_run_goes_on(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.cut(100_000, times=5))
        error = fetch_all.failure(alpha)
        assert "cut after 500000 bytes (5 tries)" in str(error)
        assert "run again" in str(error.hint)
        assert len(fetch_all.partials()) == 2
        fetch_all(alpha)
        assert ranges(server)[-1] == "bytes=500000-"
        assert server.requests[-1].headers["If-Range"]
        assert fetch_all.partials() == []

    def test_a_partial_file_that_lacks_nothing_needs_no_request(
        self, server: IndexServer, alpha: Download, cache: DownloadCache, fetch_all: Fetcher
    ) -> None:
        with cache.partial(SHA256) as partial:
            cache.append(partial, CONTENT)
        assert fetch_all(alpha)[0].sha256 == SHA256
        assert server.requests == []

    @pytest.mark.parametrize("left", [WRONG, WRONG[:1000], WRONG + b"x"])
    def test_a_partial_file_that_has_rotted_is_begun_again(
        self,
        left: bytes,
        server: IndexServer,
        alpha: Download,
        cache: DownloadCache,
        fetch_all: Fetcher,
    ) -> None:
        with cache.partial(SHA256) as partial:
            cache.append(partial, left)
        assert fetch_all(alpha)[0].path.read_bytes() == CONTENT
        assert ranges(server)[-1] is None
        assert len(server.requests) <= 2

    def test_a_server_that_ignores_ranges(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.cut(600_000, times=1))
        server.fault("*", Fault.no_ranges())
        assert fetch_all(alpha)[0].sha256 == SHA256
        assert ranges(server) == [None, "bytes=600000-"]

    @pytest.mark.parametrize(
        "told",
        [
            "bytes 0-1023999/1024000",
            "bytes 600000-1023998/1023999",
            "nonsense",
            "bytes 599999-1023999/*",
        ],
    )
    def test_a_server_that_sends_another_range(
        self, told: str, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.cut(600_000, times=1))
        server.fault("*", Fault.wrong_range(told))
        assert fetch_all(alpha)[0].sha256 == SHA256
        assert ranges(server) == [None, "bytes=600000-", None]
        assert len(fetch_all.pauses) == 1

    def test_a_file_replaced_meanwhile(
        self, packages: Path, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        bare = without_promises(alpha)
        server.fault("*", Fault.cut(1000, times=5))
        fetch_all.failure(bare)
        (packages / NAME).write_bytes(b"new" * 4000)
        assert fetch_all(bare)[0].path.read_bytes() == b"new" * 4000
        assert server.requests[-1].headers["Range"] == "bytes=5000-"

    def test_a_file_replaced_unnoticed_is_begun_again_once(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault(
            "*", Fault(1, headers={"ETag": None, "Last-Modified": None}, body=WRONG, cut_after=9000)
        )
        assert fetch_all(alpha)[0].path.read_bytes() == CONTENT
        assert ranges(server) == [None, "bytes=9000-", None]

    def test_without_digest_and_validator_nothing_is_mixed(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault(1, headers={"ETag": None, "Last-Modified": None}, cut_after=9000))
        assert fetch_all(without_promises(alpha))[0].path.read_bytes() == CONTENT
        assert ranges(server) == [None, None]

    def test_a_weak_tag_is_no_condition(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault(1, headers={"ETag": 'W/"1"'}, cut_after=9000))
        fetch_all(alpha)
        assert server.requests[1].headers["If-Range"].endswith("GMT")

    def test_a_range_that_is_not_there(
        self, server: IndexServer, alpha: Download, cache: DownloadCache, fetch_all: Fetcher
    ) -> None:
        with cache.partial(SHA256) as partial:
            cache.append(partial, CONTENT + b"more")
        assert fetch_all(without_promises(alpha, sha256=SHA256))[0].sha256 == SHA256
        assert ranges(server) == ["bytes=1024004-", None]


class TestRetry:
    @pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
    def test_a_status_that_may_pass(
        self, code: int, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.status(code, times=4))
        assert fetch_all(alpha)[0].sha256 == SHA256
        assert len(server.requests) == 5
        for number, seconds in enumerate(fetch_all.pauses):
            assert 0.25 * 2**number <= seconds <= 0.75 * 2**number

    def test_five_tries_and_no_more(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.status(503))
        assert f"{NAME} from {alpha.url}: HTTP 503 Service Unavailable (5 tries)" in str(
            fetch_all.failure(alpha)
        )
        assert len(server.requests) == 5
        assert len(fetch_all.pauses) == 4

    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            ("7", (7, 7)),
            ("0", None),
            ("86400", (60, 60)),
            (format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True), (60, 60)),
            (format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True), None),
            ("soon", (0.25, 0.75)),
            ("-5", (0.25, 0.75)),
        ],
        ids=["seconds", "none", "a day", "tomorrow", "yesterday", "words", "negative"],
    )
    def test_retry_after(
        self,
        told: str,
        expected: tuple[float, float] | None,
        server: IndexServer,
        alpha: Download,
        fetch_all: Fetcher,
    ) -> None:
        server.fault("*", Fault.status(429, times=1, retry_after=told))
        fetch_all(alpha)
        if expected:
            [pause] = fetch_all.pauses
            assert expected[0] <= pause <= expected[1]
        else:
            assert fetch_all.pauses == []

    def test_retry_after_a_date(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
        server.fault("*", Fault.status(503, times=1, retry_after=soon))
        fetch_all(alpha)
        assert 10 < fetch_all.pauses[0] <= 20

    @pytest.mark.parametrize(
        ("code", "told"),
        [
            (
                401,
                "HTTP 401 Unauthorized: credentials are needed; set UV_INDEX_CORP_USERNAME and UV",
            ),
            (403, "HTTP 403 Forbidden: credentials are needed; ~/.netrc"),
            (404, "HTTP 404 Not Found; the index no longer"),
            (410, "HTTP 410 Gone; the index no longer"),
            (400, "HTTP 400 Bad Request; run again"),
            (204, "HTTP 204 No Content; run again"),
        ],
    )
    def test_a_status_that_will_not_pass(
        self, code: int, told: str, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.status(code))
        known = Credentials([("corp", server.url)], {})
        error = fetch_all.failure(alpha, credentials=known)
        problem, hint = told.split("; ")
        assert error.problems == (f"{NAME} from {alpha.url}: {problem}",)
        assert hint in str(error.hint)
        assert len(server.requests) == 1

    def test_a_reset_connection(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.reset(times=2))
        assert fetch_all(alpha)[0].sha256 == SHA256
        assert len(server.requests) == 3

    def test_a_connection_that_is_always_reset(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.reset())
        assert re.search(
            r"Connection (reset by peer|aborted)|closed connection", str(fetch_all.failure(alpha))
        )

    def test_a_server_that_falls_asleep(
        self,
        server: IndexServer,
        alpha: Download,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        monkeypatch.setenv("UV_HTTP_TIMEOUT", "0.2")
        server.fault("*", Fault.trickle(1.0))
        error = fetch_all.failure(alpha)
        assert f"{NAME} from {alpha.url}: timed out (5 tries)" in error.problems
        assert "UV_HTTP_TIMEOUT" in str(error.hint)

    def test_a_server_below_the_speed_limit_is_given_up_and_its_bytes_are_kept(
        self,
        server: IndexServer,
        alpha: Download,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        monkeypatch.setattr(transfer, "SLOWEST", 10_000_000)
        monkeypatch.setattr(transfer, "SPEED_WINDOW", 0.1)
        server.fault("*", Fault.trickle(0.02))
        error = fetch_all.failure(alpha)
        assert error.problems == (
            f"{NAME} from {alpha.url}: slower than 10000000 bytes/s (5 tries)",
        )
        assert sum(path.stat().st_size for path in fetch_all.partials()) > 5 * 1000

    @pytest.mark.parametrize("value", ["soon", "-1", "0", "nan"])
    def test_a_timeout_that_is_none(
        self, value: str, alpha: Download, monkeypatch: pytest.MonkeyPatch, fetch_all: Fetcher
    ) -> None:
        monkeypatch.setenv("UV_HTTP_TIMEOUT", value)
        with pytest.raises(InputError, match="UV_HTTP_TIMEOUT"):
            fetch_all(alpha)

    def test_an_unreachable_host_is_found_out_once(self, fetch_all: Fetcher) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            base = f"http://127.0.0.1:{unused.getsockname()[1]}"
            downloads = [
                Download(f"{base}/{number}", str(number), {}, None) for number in range(20)
            ]
            error = fetch_all.failure(*downloads, workers=2)
        assert len(error.problems) == 20
        assert all("Connection refused" in problem for problem in error.problems)
        assert len(fetch_all.pauses) <= 8

    @pytest.mark.parametrize(
        "url", ["http://[broken/x", "ftp://127.0.0.1/x", "http:///x", "git+https://127.0.0.1/x"]
    )
    def test_a_url_that_is_none(self, url: str, fetch_all: Fetcher) -> None:
        assert f"alpha from {url}" in str(fetch_all.failure(Download(url, "alpha", {}, None)))
        assert fetch_all.pauses == []

    def test_all_failures_are_told_together_and_the_rest_is_kept(
        self, packages: Path, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        (packages / "bad-1.0-py3-none-any.whl").write_bytes(b"bad")
        bad = Download(server.file_url("bad-1.0-py3-none-any.whl"), "bad", {"sha256": "0" * 64}, 3)
        missing = Download(server.file_url("missing.whl"), "missing", {"sha256": "1" * 64}, 3)
        error = fetch_all.failure(bad, alpha, missing)
        assert error.message == "2 of 3 files could not be fetched"
        assert [problem.split()[0] for problem in error.problems] == ["bad", "missing"]
        assert fetch_all.stored() == [SHA256]


class TestCredentials:
    @pytest.fixture
    def private(self, packages: Path) -> Iterator[IndexServer]:
        with IndexServer(packages, username="alice", password="s3cret-word") as server:
            yield server

    def test_of_the_index_url(self, private: IndexServer, fetch_all: Fetcher) -> None:
        known = Credentials([(None, private.url_with_credentials())], {})
        download = Download(private.file_url(NAME), NAME, {"sha256": SHA256}, None)
        assert fetch_all(download, credentials=known)[0].sha256 == SHA256
        assert len(private.requests) == 1

    def test_of_the_file_url(self, private: IndexServer, fetch_all: Fetcher) -> None:
        download = Download(private.url_with_credentials(f"/files/{NAME}"), NAME, {}, None)
        assert fetch_all(download)[0].sha256 == SHA256

    def test_of_the_environment(self, private: IndexServer, fetch_all: Fetcher) -> None:
        environ = {"UV_INDEX_CORP_USERNAME": "alice", "UV_INDEX_CORP_PASSWORD": "s3cret-word"}
        known = Credentials([("corp", private.url)], environ)
        assert fetch_all(Download(private.file_url(NAME), NAME, {}, None), credentials=known)

    @pytest.mark.parametrize("user", [None, "alice"])
    def test_of_netrc(
        self,
        user: str | None,
        private: IndexServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password s3cret-word\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        url = private.url.replace("//", f"//{user}@") if user else private.url
        known = Credentials([(None, url)], {})
        assert fetch_all(Download(private.file_url(NAME), NAME, {}, None), credentials=known)

    def test_beyond_latin_1(self, private: IndexServer, fetch_all: Fetcher) -> None:
        private.password = "пароль-€"
        known = Credentials([(None, private.url_with_credentials())], {})
        assert fetch_all(Download(private.file_url(NAME), NAME, {}, None), credentials=known)

    def test_refused_ones_are_said_to_be(self, private: IndexServer, fetch_all: Fetcher) -> None:
        known = Credentials([(None, private.url.replace("//", "//alice:wr0ng-word@"))], {})
        error = fetch_all.failure(
            Download(private.file_url(NAME), NAME, {}, None), credentials=known
        )
        assert "HTTP 401 Unauthorized: the credentials were refused" in str(error)

    def test_a_redirect_takes_them_to_no_other_port(
        self, private: IndexServer, packages: Path, fetch_all: Fetcher
    ) -> None:
        known = Credentials([(None, private.url_with_credentials())], {})
        with IndexServer(packages) as other:
            private.fault("*", Fault.redirect(other.file_url(NAME)))
            fetch_all(
                Download(private.file_url(NAME), NAME, {"sha256": SHA256}, None), credentials=known
            )
            [request] = other.requests
        assert private.requests[0].headers["Authorization"]
        assert request.headers["Authorization"] is None
        assert "Cookie" not in request.headers

    def test_netrc_and_cookies_are_not_sent_to_another_port_of_the_host(
        self,
        private: IndexServer,
        packages: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password s3cret-word\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with IndexServer(packages) as other:
            fault = Fault.redirect(other.file_url(NAME))
            fault.headers["Set-Cookie"] = "session=s3cret-word"
            private.fault("*", fault)
            fetch_all(Download(private.file_url(NAME), NAME, {"sha256": SHA256}, None))
            [request] = other.requests
        assert private.requests[0].headers["Authorization"]
        assert request.headers["Authorization"] is None
        assert request.headers["Cookie"] is None

    def test_netrc_of_another_host_is_sent_to_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("machine files.example login alice password s3cret-word\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with IndexSession(Credentials(), 1) as session:
            redirect = requests.Response()
            redirect.request = session.prepare_request(requests.Request("GET", "https://a.example"))
            for url, is_sent in [
                ("https://files.example/x", True),
                ("https://files.example:8443/x", False),
                ("http://files.example/x", False),
            ]:
                request = session.prepare_request(requests.Request("GET", url, auth=lambda r: r))
                session.rebuild_auth(request, redirect)
                assert ("Authorization" in request.headers) is is_sent, url

    def test_a_redirect_to_another_known_host_gets_that_ones(
        self, server: IndexServer, private: IndexServer, fetch_all: Fetcher
    ) -> None:
        server_url = server.url.replace("//", "//bob:other-word@")
        known = Credentials([(None, server_url), (None, private.url_with_credentials())], {})
        server.fault("*", Fault.redirect(private.file_url(NAME)))
        assert fetch_all(Download(server.file_url(NAME), NAME, {}, None), credentials=known)

    def test_a_redirect_on_the_same_host_keeps_them(
        self, private: IndexServer, fetch_all: Fetcher
    ) -> None:
        known = Credentials([(None, private.url_with_credentials())], {})
        private.fault("*", Fault.redirect(f"/files/{NAME}?again", times=1, code=307))
        assert fetch_all(Download(private.file_url(NAME), NAME, {}, None), credentials=known)
        assert len(private.requests) == 2

    def test_a_range_survives_a_redirect(
        self, server: IndexServer, packages: Path, alpha: Download, fetch_all: Fetcher
    ) -> None:
        with IndexServer(packages) as other:
            server.fault("*", Fault.redirect(other.file_url(NAME)))
            other.fault("*", Fault.cut(500_000, times=1))
            fetch_all(alpha)
            assert ranges(other) == [None, "bytes=500000-"]

    def test_redirects_without_end(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.redirect(alpha.url))
        assert "redirects" in str(fetch_all.failure(alpha))

    @pytest.mark.parametrize(
        "fault",
        [
            Fault.status(401),
            Fault.status(403),
            Fault.status(503),
            Fault.reset(),
            Fault.cut(10),
            Fault.wrong_bytes(b"x"),
            Fault.redirect("http://eve:r3direct-word@[broken/?token=t0ken-word"),
            Fault.redirect("/files/x?token=t0ken-word"),
            Fault.redirect("ftp://eve:r3direct-word@127.0.0.1/?token=t0ken-word"),
        ],
    )
    def test_no_secret_is_ever_told(
        self,
        fault: Fault,
        private: IndexServer,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        fetch_all: Fetcher,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        private.fault(f"*/{NAME}*", fault)
        url = private.url_with_credentials(f"/files/{NAME}?sig=s1gnature-word")
        known = Credentials([(None, private.url_with_credentials())], {})
        error = fetch_all.failure(Download(url, NAME, {"sha256": SHA256}, None), credentials=known)
        told = f"{error} {error!r} {error.hint} {error.problems} {known!r} {capfd.readouterr()}"
        assert not re.search(r"s3cret|r3direct|t0ken|s1gnature|alice|YWxpY2U6", told)
        assert not re.search(r"s3cret|r3direct|YWxpY2U6", caplog.text)


class TestLocal:
    def test_a_file_url_and_a_path(self, tmp_path: Path, fetch_all: Fetcher) -> None:
        path = tmp_path / "with space#1.whl"
        path.write_bytes(CONTENT)
        by_url = Download(path.as_uri() + "#sha256=1", NAME, {"sha256": SHA256}, len(CONTENT))
        by_path = Download(str(path), NAME, {}, None)
        assert [file.path.read_bytes() for file in fetch_all(by_url, by_path)] == [CONTENT, CONTENT]
        assert fetch_all.partials() == []
        assert fetch_all(by_url)[0].from_cache

    def test_a_changed_file(self, packages: Path, fetch_all: Fetcher) -> None:
        error = fetch_all.failure(
            Download((packages / NAME).as_uri(), NAME, {"sha256": "0" * 64}, None)
        )
        assert "sha256 does not match" in str(error)
        assert fetch_all.stored() == []
        assert fetch_all.partials() == []

    @pytest.mark.parametrize(
        ("name", "told"), [("missing", "No such file"), (".", "Is a directory")]
    )
    def test_a_file_that_cannot_be_read(
        self, name: str, told: str, packages: Path, fetch_all: Fetcher
    ) -> None:
        assert told in str(fetch_all.failure(Download(f"file://{packages / name}", NAME, {}, None)))


def test_proxy(
    server: IndexServer, monkeypatch: pytest.MonkeyPatch, fetch_all: Fetcher, cache: DownloadCache
) -> None:
    monkeypatch.setenv("http_proxy", server.base.replace("//", "//proxy:pr0xy-word@"))
    url = f"http://files.index.invalid/files/{NAME}"
    assert fetch_all(Download(url, NAME, {"sha256": SHA256}, None))[0].sha256 == SHA256
    [request] = server.requests
    assert request.path == url
    assert request.headers["Proxy-Authorization"]
    monkeypatch.setenv("no_proxy", "index.invalid")
    (cache.root / "downloads/sha256" / SHA256[:2] / SHA256).unlink()
    assert "files.index.invalid" in str(
        fetch_all.failure(Download(url, NAME, {"sha256": SHA256}, None))
    )


def test_a_cache_that_cannot_be_written_ends_everything(
    tmp_path: Path, server: IndexServer, alpha: Download
) -> None:
    (tmp_path / "file").write_text("in the way")
    downloads = [Download(f"{alpha.url}?{number}", NAME, {}, None) for number in range(50)]
    with pytest.raises(BundleError, match="cannot write to the download cache") as caught:
        fetch(downloads, DownloadCache(tmp_path / "file"), credentials=Credentials())
    assert not isinstance(caught.value, FetchError)
    assert server.requests == []


def test_an_error_in_the_progress_display_is_not_swallowed(
    alpha: Download, fetch_all: Fetcher
) -> None:
    class Broken:
        def begin(self, files: int, size: int | None, largest: object) -> None: ...

        def advance(self, size: int) -> None:
            raise BrokenPipeError(size)

        def done(self, download: Download) -> None: ...

    with pytest.raises(BrokenPipeError):
        fetch_all(alpha, progress=Broken())
