"""A plain web server on loopback over a folder, as an interpreter mirror; it records requests."""

from __future__ import annotations

import base64
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    def __init__(
        self, asked: list[str], login: str | None, *arguments: object, directory: str
    ) -> None:
        self._asked, self._login = asked, login
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._asked.append(self.path)
        expected = f"Basic {base64.b64encode((self._login or '').encode()).decode()}"
        if self._login and self.headers["Authorization"] != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="mirror"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(folder: Path, login: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Its address, `127.0.0.1:PORT`, and the paths asked for; *login* is USER:PASSWORD."""
    asked: list[str] = []
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Handler, asked, login, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
