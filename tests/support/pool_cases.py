from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Self

import pytest

from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.model import Download, Fetched, FetchProgress
from offline_bundle.builder.fetch.pool import fetch
from offline_bundle.wheelhouse.runtime.errors import FetchError
from tests.support.index_server import IndexServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


NAME = "alpha-1.0-py3-none-any.whl"


CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes: several blocks


SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if re.match(r"(UV|SSL|REQUESTS|CURL)_|(\w+_)?PROXY$", name.upper()):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    return folder


@pytest.fixture
def server(packages: Path) -> Iterator[IndexServer]:
    with IndexServer(packages) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> DownloadCache:
    return DownloadCache(tmp_path / "cache")


class Fetcher:
    """Calls `fetch` with its own cache. Only the pauses between tries are not real."""

    def __init__(self, cache: DownloadCache) -> None:
        self.cache = cache
        self.pauses: list[float] = []

    def __call__(
        self,
        *downloads: Download,
        credentials: Credentials | None = None,
        progress: FetchProgress | None = None,
        workers: int = 8,
    ) -> list[Fetched]:
        return fetch(
            downloads,
            self.cache,
            credentials=credentials or Credentials(),
            progress=progress,
            workers=workers,
            sleep=self.pauses.append,
        )

    def failure(
        self, *downloads: Download, credentials: Credentials | None = None, workers: int = 8
    ) -> FetchError:
        with pytest.raises(FetchError) as caught:
            self(*downloads, credentials=credentials, workers=workers)
        return caught.value

    def stored(self) -> list[str]:
        return sorted(path.name for path in self.cache.root.rglob("sha256/*/*"))

    def partials(self) -> list[Path]:
        return sorted(self.cache.root.glob("downloads/partial/*"))


@pytest.fixture
def fetch_all(cache: DownloadCache) -> Fetcher:
    return Fetcher(cache)


@pytest.fixture
def alpha(server: IndexServer) -> Download:
    return Download(server.file_url(NAME), NAME, {"sha256": SHA256}, len(CONTENT))


class TunnelProxy:
    """Takes CONNECT, and passes bytes on; under TLS itself, with a certificate."""

    def __init__(self, certificate: Path | None) -> None:
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context: ssl.SSLContext | None = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def _attend(self, client: socket.socket) -> None:
        if self._context:
            client = self._context.wrap_socket(client, server_side=True)
        with client:
            self._tunnel(client)

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        self.requests.append(head.decode().splitlines()[0])
        host, _, port = head.split()[1].decode().partition(":")
        with socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            _pass_on(client, server)
            back.join(5)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
