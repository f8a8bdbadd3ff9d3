from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from offline_bundle.builder.fetch.model import Download
from offline_bundle.wheelhouse.runtime.errors import BundleError
from tests.support.index_server import Fault, IndexServer
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offline_bundle.builder.fetch.cache import DownloadCache
from tests.support.pool_cases import (
    CONTENT,
    NAME,
    SHA256,
    Fetcher,
    TunnelProxy,
    _clean_environment,
    alpha,
    cache,
    fetch_all,
    packages,
    server,
)

__all__ = ["_clean_environment", "alpha", "cache", "fetch_all", "packages", "server"]


PROJECT = Path(__file__).resolve().parents[4]


class TestCertificates:
    @pytest.fixture(scope="class")
    @staticmethod
    def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Make a self-signed certificate for 127.0.0.1, with its key in the same file."""
        require("openssl")
        path = tmp_path_factory.mktemp("tls") / "server.pem"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        names = ["-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        subprocess.run(
            [*command, *names, "-keyout", path, "-out", f"{path}.crt"],
            check=True,
            capture_output=True,
        )
        path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
        return path

    @pytest.fixture
    def secure(self, packages: Path, certificate: Path) -> Iterator[IndexServer]:
        with IndexServer(packages, certificate=certificate) as server:
            yield server

    @pytest.fixture
    def download(self, secure: IndexServer) -> Download:
        return Download(secure.file_url(NAME), NAME, {"sha256": SHA256}, len(CONTENT))

    @pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_named_by_a_variable(
        self,
        variable: str,
        download: Download,
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        monkeypatch.setenv(variable, f"{certificate}.crt")
        assert fetch_all(download)[0].sha256 == SHA256

    def test_named_by_one_of_two_variables(
        self,
        download: Download,
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        """uv, which found the file on this server, reads SSL_CERT_FILE only."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert fetch_all(download)[0].sha256 == SHA256

    def test_in_a_folder(
        self,
        download: Download,
        certificate: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        command = ["openssl", "x509", "-hash", "-noout", "-in", f"{certificate}.crt"]
        digest = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        (tmp_path / "certs").mkdir()
        (tmp_path / "certs" / f"{digest}.0").write_bytes(Path(f"{certificate}.crt").read_bytes())
        monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'none'}:{tmp_path / 'certs'}")
        (tmp_path / "none").mkdir()
        assert fetch_all(download)[0].sha256 == SHA256

    def test_not_trusted(self, secure: IndexServer, download: Download, fetch_all: Fetcher) -> None:
        error = fetch_all.failure(download)
        assert "the server's certificate is not trusted: self-signed certificate" in str(
            error
        ).replace("self ", "self-")
        assert "SSL_CERT_FILE" in str(error.hint)
        assert fetch_all.pauses == []
        assert secure.requests == []

    def test_for_another_host(
        self,
        download: Download,
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        url = download.url.replace("127.0.0.1", "localhost")
        assert "not trusted: Hostname mismatch" in str(
            fetch_all.failure(Download(url, NAME, {}, None))
        )

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_unreadable(
        self,
        content: str | None,
        download: Download,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        path = tmp_path / "ca.pem"
        if content:
            path.write_text(content)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(
            BundleError, match=f"cannot read the certificates in {re.escape(str(path))}"
        ):
            fetch_all(download)

    @pytest.mark.parametrize("is_secure", [False, True])
    def test_through_a_proxy(
        self,
        is_secure: bool,  # noqa: FBT001 - a parameter of the test
        download: Download,
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
        fetch_all: Fetcher,
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        with TunnelProxy(certificate if is_secure else None) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//proxy:pr0xy-word@"))
            assert fetch_all(download)[0].sha256 == SHA256
            [request] = proxy.requests
        assert request.split()[:2] == ["CONNECT", download.url.split("/")[2]]

    def test_interrupting_is_prompt_under_tls_too(
        self, secure: IndexServer, download: Download, certificate: Path, cache: DownloadCache
    ) -> None:
        secure.fault("*", Fault.trickle(0.2))
        interrupt(download, cache, SSL_CERT_FILE=f"{certificate}.crt")


def child(code: str, **environ: str) -> subprocess.Popen[str]:
    """Start a Python that has `download(url)` and `cache(root)`."""
    start = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(PROJECT)!r})
from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.model import Download
from offline_bundle.builder.fetch.pool import fetch
"""
    return subprocess.Popen(
        [sys.executable, "-c", start + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )


def interrupt(download: Download, cache: DownloadCache, **environ: str) -> None:
    """Start a slow fetch and press Ctrl-C: it ends at once and keeps its bytes."""
    code = f"""
class Watch:
    def begin(self, files, size, largest): pass
    def advance(self, size): print(size, flush=True)
    def done(self, download): pass
cache = DownloadCache(Path({str(cache.root)!r}))
download = Download({download.url!r}, "a", {dict(download.hashes)!r}, {download.size})
try:
    fetch([download], cache, credentials=Credentials(), progress=Watch())
except KeyboardInterrupt:
    print("interrupted")
"""
    with cache.partial(SHA256) as partial:
        cache.append(partial, CONTENT[:1000])
    with child(code, **environ) as process:
        assert process.stdout
        assert process.stdout.readline() == "1000\n"
        time.sleep(0.5)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    assert time.monotonic() - start < 2
    assert (output.splitlines()[-1], errors) == ("interrupted", "")
    with cache.partial(SHA256) as partial:
        kept = b"".join(partial.read())
    assert len(kept) >= 1000
    assert CONTENT.startswith(kept)


class TestProcesses:
    def test_interrupting_is_prompt_and_keeps_what_arrived(
        self, server: IndexServer, alpha: Download, cache: DownloadCache
    ) -> None:
        server.fault("*", Fault.trickle(0.2))
        interrupt(alpha, cache)

    def test_two_builds_at_once(
        self, server: IndexServer, alpha: Download, fetch_all: Fetcher
    ) -> None:
        server.fault("*", Fault.trickle(0.0005))
        code = f"""
cache = DownloadCache(Path({str(fetch_all.cache.root)!r}))
download = Download({alpha.url!r}, "a", {dict(alpha.hashes)!r}, {alpha.size})
[file] = fetch([download], cache, credentials=Credentials())
print(file.path)
"""
        processes = [child(code) for _ in range(3)]
        results = [process.communicate(timeout=20) for process in processes]
        assert {errors for _, errors in results} == {""}
        assert len({output for output, _ in results}) == 1
        assert fetch_all.partials() == []
        assert fetch_all.cache.get(SHA256, len(CONTENT))

    def test_requests_is_loaded_only_when_something_is_transferred(
        self, alpha: Download, cache: DownloadCache, fetch_all: Fetcher
    ) -> None:
        fetch_all(alpha)
        code = f"""
import json
cache = DownloadCache(Path({str(cache.root)!r}))
download = Download("http://127.0.0.1:1/x", "x", {{"sha256": {SHA256!r}}}, None)
fetch([download], cache, credentials=Credentials())
print(json.dumps("requests" in sys.modules))
"""
        with child(code) as process:
            output, errors = process.communicate(timeout=20)
        assert errors == ""
        assert json.loads(output) is False
