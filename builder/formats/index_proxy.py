"""A proxy on loopback that answers for every package index, with the wheels of a bundle and nothing else.

    with IndexProxy(pages, files) as proxy:
        subprocess.run(["uv", "pip", "install", …], env={**environment, **proxy.variables})

uv files what it caches under the address of the index it came from, in a form that only uv itself can write. So a cache
for nodes without a network is filled by a uv that believes to be talking to the indexes: it asks for the pages that a
node's uv will ask for, and gets those of the bundle, which list exactly the locked files. No byte comes from anywhere
else, and nothing is downloaded twice. Only a process that is given `variables` trusts this proxy: its certificate
authority lives as long as the `with` block, its key never leaves this process.
"""

from __future__ import annotations

import ssl
import tempfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_JSON = "application/vnd.pypi.simple.v1+json"
# Ten years: until then uv asks no index again, also where nobody told it to be offline.
_FOREVER = "max-age=315360000, immutable"


@dataclass(frozen=True)
class Answers:
    """What the proxy knows."""

    page: Callable[[str], bytes | None]
    """URL of a project's page, such as `https://HOST/simple/numpy/` -> the page (PEP 691), None where there is none."""
    file: Callable[[str], bytes | Path | None]
    """Name of a wheel, or of its `.metadata` -> its content."""


class IndexProxy:
    """Runs while the `with` block does."""

    def __init__(self, answers: Answers) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="offline-bundle-")
        authority = trustme.CA()
        certificate = Path(self._folder.name) / "authority.pem"
        authority.cert_pem.write_to_path(certificate)
        self._server = _Server(answers, authority)
        address = f"http://127.0.0.1:{self._server.server_port}"
        self.variables: Mapping[str, str] = {
            "HTTP_PROXY": address,
            "HTTPS_PROXY": address,
            "SSL_CERT_FILE": str(certificate),
        }
        """Environment variables that send uv here."""

    def __enter__(self) -> Self:
        """Begin to answer."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and forget the certificate authority."""
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answers: Answers, authority: trustme.CA) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self._authority = authority
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context(self, host: str) -> ssl.SSLContext:
        """TLS as *host*."""
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._authority.issue_cert(host).configure_cert(self._contexts[host])
            return self._contexts[host]

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that uv drops are its own affair; it says itself what it could not get."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    _origin = ""

    def do_CONNECT(self) -> None:
        """Become the host that is asked for: what follows on this connection is meant for it."""
        host = self.path.rpartition(":")[0].strip("[]")
        self.send_response(200)
        self.end_headers()
        self.rfile.close()
        self.connection = self.server.context(host).wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self._origin = f"https://{self.path.removesuffix(':443')}"
        self.close_connection = False

    def finish(self) -> None:
        """Close what was put over the connection, too."""
        super().finish()
        if self._origin:
            self.connection.close()

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """A file by its name, else a project's page."""
        url = f"{self._origin}{self.path}"
        name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
        kind, content = "application/octet-stream", self.server.answers.file(name)
        if content is None:
            kind, content = _JSON, self.server.answers.page(url)
        body = content.read_bytes() if isinstance(content, Path) else content
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("Cache-Control", "no-store" if body is None else _FOREVER)
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        """Nothing: uv says what it did."""
