"""A proxy on loopback that answers for every package index, with the wheels of a bundle only.

    with IndexProxy(answers) as proxy:
        subprocess.run(["uv", "pip", "install", …], env={**environment, **proxy.variables})

uv files its cache by the URL of the index, in a format that only uv can write. So a cache for nodes
without network is filled by a uv that is sent here instead of to the indexes. It requests the pages
that a node's uv will request, and gets those of the bundle, which list exactly the locked files. No
byte comes from elsewhere, and nothing is downloaded twice. Only a process that gets `variables`
accepts this proxy: its certificate authority lives as long as the `with` block, and its key never
leaves this process.
"""

from __future__ import annotations

import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import trustme

_JSON = "application/vnd.pypi.simple.v1+json"
# Ten years: until then uv requests no page again, also without --offline.
_FOREVER = "max-age=315360000, immutable"


@dataclass(frozen=True)
class Answers:
    """The content that the proxy serves."""

    page: Callable[[str], bytes | None]
    """URL of a project's page (`https://HOST/simple/numpy/`) -> the page (PEP 691), or None."""
    file: Callable[[str], bytes | Path | None]
    """Name of a wheel, or of its `.metadata` -> its content."""


class IndexProxy:
    """A proxy that runs during the `with` block."""

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
        """Environment variables that make uv use the proxy."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and remove the certificate authority."""
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
        """Return a TLS context with a certificate for *host*."""
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._authority.issue_cert(host).configure_cert(self._contexts[host])
            return self._contexts[host]

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing for connections that uv drops: uv reports what it could not get."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    _origin = ""

    def do_CONNECT(self) -> None:
        """Answer as the requested host on the rest of this connection."""
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
        """Close the TLS connection, too."""
        super().finish()
        if self._origin:
            self.connection.close()

    def do_HEAD(self) -> None:
        """Send the headers of GET."""
        self.do_GET()

    def do_GET(self) -> None:
        """Send a file by its name, or else a project's page."""
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
        """Print nothing: uv reports what it does."""
