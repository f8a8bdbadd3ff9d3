"""Git repositories behind a password, as plain files (git's dumb HTTP protocol)."""

from __future__ import annotations

import base64
import functools
import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _PrivateFiles(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments: object, login: str, directory: str) -> None:
        self._token = base64.b64encode(login.encode()).decode()
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.headers["Authorization"] == f"Basic {self._token}":
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def private_repositories(folder: Path, user: str, password: str) -> Iterator[str]:
    """Serve *folder*, after `git update-server-info`; yield host and port."""
    login = f"{user}:{password}"
    handler = functools.partial(_PrivateFiles, login=login, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
