"""An OSV server on loopback: `POST /v1/query` with canned answers, over several pages.

with OsvServer({("alpha", "1.0"): [advisory]}) as server:
    call("build", script, "--osv-server", server.url, …)
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class OsvServer:
    """Answers with *advisories* by package and version, one on each page."""

    def __init__(self, advisories: Mapping[tuple[str, str], list[dict[str, Any]]]) -> None:
        self.advisories = advisories
        self.queries: list[dict[str, Any]] = []
        self.body: bytes | None = None
        """Sent in place of each answer, if it is set."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.osv = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return one page of the answer."""
        key = (query["package"]["name"], query["version"])
        found = self.advisories.get(key, [])
        page = int(query.get("page_token", "0"))
        answer: dict[str, Any] = {"vulns": found[page : page + 1]} if found else {}
        if page + 1 < len(found):
            answer["next_page_token"] = str(page + 1)
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    osv: OsvServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Be quiet."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.osv.queries.append(query)
        body = self.server.osv.body
        if body is None:
            body = json.dumps(self.server.osv.answer(query)).encode()
        self.send_response(200 if self.path == "/v1/query" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
