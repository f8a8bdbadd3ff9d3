"""A real browser without a window: a page as it renders it, its console, and its requests."""

from __future__ import annotations

import re
import socketserver
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.support.programs import require

if TYPE_CHECKING:
    from pathlib import Path

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-dev-shm-usage",
)
_ITS_OWN = re.compile(r"^[A-Z]+ (https?://)?[a-z0-9.-]+\.(google|googleapis|gstatic)\.com[:/]")


@dataclass(frozen=True)
class Visit:
    """A page after it was opened."""

    dom: str
    console: tuple[str, ...]
    """Lines of the browser's console."""
    requests: tuple[str, ...]
    """First line of each request that the page caused; the browser's own are left out."""


def visit(page: Path, profile: Path, *flags: str, query: str = "") -> Visit:
    """Open a file in the browser; a proxy records every request and answers none."""
    browser = require("chromium")
    with _Proxy() as proxy:
        command = [
            browser,
            *QUIET,
            f"--user-data-dir={profile}",
            f"--proxy-server=http://127.0.0.1:{proxy.server_address[1]}",
            "--proxy-bypass-list=<-loopback>",
            "--enable-logging=stderr",
            *flags,
            "--dump-dom",
            page.as_uri() + query,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    said = re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr)
    foreign = [line for line in proxy.seen if not _ITS_OWN.search(line)]
    return Visit(done.stdout, tuple(said), tuple(foreign))


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refuse)
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Refuse(socketserver.StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        line = self.rfile.readline(8192).decode("latin-1").strip()
        self.server.seen.append(line)
        self.wfile.write(
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
