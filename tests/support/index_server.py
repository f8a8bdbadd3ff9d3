"""A package index on loopback, over a folder of wheels and sdists, that can be told to fail.

    with IndexServer(packages) as server:
        server.describe("alpha-1.0-py3-none-any.whl", yanked="broken")
        server.fault("*/alpha-*.whl", Fault.status(503, times=2))
        subprocess.run(["uv", "pip", "compile", "--index-url", server.url, …])
        assert [request.path for request in server.requests] == …

With `vulnerabilities` (name -> entries of the JSON API) there is also /pypi/NAME/VERSION/json.

Pages: /simple/, /simple/NAME/ (PEP 503 and 691, by Accept), /files/FILENAME and, for wheels,
/files/FILENAME.metadata (PEP 658). The folder is looked at anew for each request.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import html
import json
import re
import socket
import ssl
import struct
import threading
import time
import zipfile
from dataclasses import dataclass, field
from email.parser import Parser
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import Message
    from pathlib import Path

_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = "text/html; charset=utf-8"
_NAME = re.compile(r"(?P<name>.+?)-\d[^-]*(?:-.*\.whl|\.tar\.gz|\.zip)$")


class Request(NamedTuple):
    """One request as it came; the header names as they were sent, looked up in any case."""

    method: str
    path: str
    headers: Message


@dataclass
class Fault:
    """What goes wrong with a request; *times* is how often, None for always."""

    times: int | None = None
    status_code: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    cut_after: int | None = None
    is_reset: bool = False
    pause: float = 0.0
    body: bytes | None = None
    ignores_range: bool = False
    content_range: str | None = None

    @classmethod
    def status(
        cls, code: int, times: int | None = None, *, retry_after: str | None = None
    ) -> Fault:
        """Answer with *code*."""
        return cls(times, status_code=code, headers={"Retry-After": retry_after})

    @classmethod
    def cut(cls, after: int, times: int | None = None) -> Fault:
        """Close the connection after *after* bytes of the body."""
        return cls(times, cut_after=after)

    @classmethod
    def reset(cls, times: int | None = None, *, after: int | None = None) -> Fault:
        """Reset the connection at once, or after some bytes of the body."""
        return cls(times, cut_after=after, is_reset=True)

    @classmethod
    def trickle(cls, pause: float, times: int | None = None) -> Fault:
        """Wait *pause* seconds before each 1000 bytes."""
        return cls(times, pause=pause)

    @classmethod
    def wrong_bytes(cls, body: bytes, times: int | None = None) -> Fault:
        """Send these bytes instead, quite innocently."""
        return cls(times, body=body)

    @classmethod
    def redirect(cls, url: str, times: int | None = None, *, code: int = 302) -> Fault:
        """Send the client to *url*."""
        return cls(times, status_code=code, headers={"Location": url})

    @classmethod
    def no_ranges(cls, times: int | None = None) -> Fault:
        """Ignore Range, and send everything."""
        return cls(times, ignores_range=True)

    @classmethod
    def wrong_range(cls, content_range: str, times: int | None = None) -> Fault:
        """Answer a Range with this Content-Range."""
        return cls(times, content_range=content_range)

    @classmethod
    def change_headers(cls, times: int | None = None, **headers: str | None) -> Fault:
        """Send other headers (etag=…, content_length=None: without it, as a chunked body)."""
        return cls(
            times, headers={key.replace("_", "-").title(): value for key, value in headers.items()}
        )


class IndexServer:
    """Serve *packages_dir*; the attributes may be changed while it runs.

    With *username*, each request must have the credentials (HTTP basic). With *certificate* (a PEM
    file with its key) the server uses TLS.
    """

    def __init__(
        self,
        packages_dir: Path,
        *,
        username: str | None = None,
        password: str = "",
        certificate: Path | None = None,
        api: str = "both",
        hashes: Sequence[str] = ("sha256",),
        upload_time: str | None = "2024-01-01T00:00:00Z",
        has_metadata: bool = True,
    ) -> None:
        self.packages_dir = packages_dir
        self.username = username
        self.password = password
        self.api = api
        self.hashes = hashes
        self.upload_time = upload_time
        self.has_metadata = has_metadata
        self.vulnerabilities: dict[str, list[dict[str, Any]]] | None = None
        self.provenance: dict[str, bytes] = {}
        """File name -> its provenance, named in the JSON pages (PEP 740)."""
        self.requests: list[Request] = []
        self._descriptions: dict[str, dict[str, Any]] = {}
        self._faults: list[tuple[str, Fault]] = []
        self._lock = threading.Lock()
        self._server = _Server(self, certificate)
        scheme = "https" if certificate else "http"
        self.base = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.base}/simple/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()

    def file_url(self, filename: str) -> str:
        return f"{self.base}/files/{filename}"

    def url_with_credentials(self, path: str = "/simple/") -> str:
        scheme, _, rest = self.base.partition("://")
        return f"{scheme}://{self.username}:{self.password}@{rest}{path}"

    def describe(self, filename: str, **description: object) -> None:
        """Set upload_time, yanked, requires_python, size or hashes (a dict); None omits it."""
        self._descriptions.setdefault(filename, {}).update(description)

    def fault(self, pattern: str, fault: Fault) -> None:
        """Let requests for *pattern* fail, by the oldest fault that is not used up."""
        self._faults.append((pattern, fault))

    def clear_faults(self) -> None:
        self._faults.clear()

    def requests_for(self, pattern: str) -> list[Request]:
        return [request for request in self.requests if fnmatch.fnmatch(request.path, pattern)]

    def record(self, request: Request) -> Fault:
        """Keep *request*, and give the fault it meets: by default, one that does nothing."""
        with self._lock:
            self.requests.append(request)
            for pattern, fault in self._faults:
                if fnmatch.fnmatch(request.path, pattern) and fault.times != 0:
                    fault.times = fault.times - 1 if fault.times else None
                    return fault
        return Fault()

    def projects(self) -> dict[str, list[Path]]:
        """Give the files by normalised project name."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.packages_dir.rglob("*")):
            match = _NAME.match(path.name)
            if match:
                found.setdefault(re.sub(r"[-_.]+", "-", match["name"]).lower(), []).append(path)
        return found

    def file(self, filename: str) -> Path | None:
        return next((path for path in self.packages_dir.rglob("*") if path.name == filename), None)

    def entry(self, path: Path) -> dict[str, Any]:
        """Describe one file as PEP 691 and 700 do."""
        content = path.read_bytes()
        metadata = wheel_metadata(path) if self.has_metadata else None
        entry = {
            "filename": path.name,
            "url": f"../../files/{path.name}",
            "hashes": {name: hashlib.new(name, content).hexdigest() for name in self.hashes},
            "size": len(content),
            "upload-time": self.upload_time,
            "requires-python": _requires_python(path),
            "core-metadata": {"sha256": hashlib.sha256(metadata).hexdigest()} if metadata else None,
        }
        if path.name in self.provenance:
            entry["provenance"] = f"{self.base}/provenance/{path.name}"
        told = {
            key.replace("_", "-"): value
            for key, value in self._descriptions.get(path.name, {}).items()
        }
        return {key: value for key, value in {**entry, **told}.items() if value is not None}

    def project_page(self, name: str, files: Sequence[Path], *, is_json: bool) -> bytes:
        entries = [self.entry(path) for path in files]
        if is_json:
            versions = sorted({path.name.split("-")[1].removesuffix(".tar.gz") for path in files})
            page = {
                "meta": {"api-version": "1.1"},
                "name": name,
                "versions": versions,
                "files": entries,
            }
            return json.dumps(page).encode()
        return "\n".join(["<!DOCTYPE html>", *map(_anchor, entries)]).encode()

    def root_page(self, *, is_json: bool) -> bytes:
        names = self.projects()
        if is_json:
            return json.dumps(
                {"meta": {"api-version": "1.1"}, "projects": [{"name": n} for n in names]}
            ).encode()
        return "\n".join(["<!DOCTYPE html>", *(f'<a href="{n}/">{n}</a>' for n in names)]).encode()


def wheel_metadata(path: Path) -> bytes | None:
    """Give the METADATA of a wheel; None for an sdist, or for bytes that are no wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return archive.read(names[0]) if names else None
    except zipfile.BadZipFile:
        return None


def _requires_python(path: Path) -> str | None:
    metadata = wheel_metadata(path)
    return Parser().parsestr(metadata.decode())["Requires-Python"] if metadata else None


def _anchor(entry: dict[str, Any]) -> str:
    """Write a link as PEP 503, 592 and 658 (with its correction, 714) have it."""
    fragment = "".join(f"#{name}={digest}" for name, digest in list(entry["hashes"].items())[:1])
    attributes = {
        "href": entry["url"] + fragment,
        "data-requires-python": entry.get("requires-python"),
    }
    if entry.get("yanked"):
        attributes["data-yanked"] = "" if entry["yanked"] is True else entry["yanked"]
    if "core-metadata" in entry:
        digest = f"sha256={entry['core-metadata']['sha256']}"
        attributes |= {"data-core-metadata": digest, "data-dist-info-metadata": digest}
    told = [
        f'{name}="{html.escape(value)}"' for name, value in attributes.items() if value is not None
    ]
    return f"<a {' '.join(told)}>{entry['filename']}</a><br>"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, index: IndexServer, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.index = index
        self._connections: list[socket.socket] = []
        self._context: ssl.SSLContext | None = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in the base
        self._connections.append(request)
        with contextlib.suppress(OSError):  # clients hang up, faults reset
            if self._context:
                with self._context.wrap_socket(request, server_side=True) as secured:
                    self._connections.append(secured)
                    super().finish_request(secured, client_address)
            else:
                super().finish_request(request, client_address)

    def close_connections(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Be quiet."""

    def do_GET(self) -> None:
        index = self.server.index
        path = unquote(urlsplit(self.path).path)  # a client of a proxy sends a whole URL
        fault = index.record(Request(self.command, self.path, self.headers))
        if fault.is_reset and fault.cut_after is None:
            self._reset()
        elif fault.status_code:
            self._send(fault.status_code, b"", fault, {})
        elif index.username and not self._is_authorized():
            self._send(401, b"", fault, {"WWW-Authenticate": 'Basic realm="tests"'})
        elif path.startswith("/files/"):
            self._send_file(path.removeprefix("/files/"), fault)
        else:
            self._send_page(path, fault)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _is_authorized(self) -> bool:
        index = self.server.index
        expected = base64.b64encode(f"{index.username}:{index.password}".encode()).decode()
        return self.headers["Authorization"] == f"Basic {expected}"

    def _send_page(self, path: str, fault: Fault) -> None:
        index = self.server.index
        is_json = index.api == "json" or (
            index.api == "both" and _JSON in (self.headers["Accept"] or "")
        )
        if path.startswith("/provenance/"):
            content = index.provenance[path.removeprefix("/provenance/")]
            return self._send(200, content, fault, {"Content-Type": "application/json"})
        release = re.fullmatch(r"/pypi/([^/]+)/[^/]+/json", path)
        if release and index.vulnerabilities is not None:
            document = {"vulnerabilities": index.vulnerabilities.get(release[1], [])}
            headers = {"Content-Type": "application/json"}
            return self._send(200, json.dumps(document).encode(), fault, headers)
        match = re.fullmatch(r"/simple/(?:([^/]+)/)?", path)
        files = index.projects().get(match[1]) if match and match[1] else None
        if match and not match[1]:
            body = index.root_page(is_json=is_json)
        elif match and files:
            body = index.project_page(match[1], files, is_json=is_json)
        else:
            return self._send(404, b"", fault, {})
        return self._send(200, body, fault, {"Content-Type": _JSON if is_json else _HTML})

    def _send_file(self, filename: str, fault: Fault) -> None:
        path = self.server.index.file(filename.removesuffix(".metadata"))
        body = None
        if path:
            body = wheel_metadata(path) if filename.endswith(".metadata") else path.read_bytes()
        if path is None or body is None:
            return self._send(404, b"", fault, {})
        body = fault.body if fault.body is not None else body
        modified = formatdate(path.stat().st_mtime, usegmt=True)
        headers = {"ETag": f'"{hashlib.md5(body).hexdigest()}"', "Last-Modified": modified}
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        start = self._range_start(headers, fault)
        if start is None:
            return self._send(200, body, fault, headers)
        if start >= len(body):
            return self._send(416, b"", fault, {"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = (
            fault.content_range or f"bytes {start}-{len(body) - 1}/{len(body)}"
        )
        return self._send(206, body[start:], fault, headers)

    def _range_start(self, headers: dict[str, str], fault: Fault) -> int | None:
        """Understand `bytes=N-`, if the file is still the one the client means."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        condition = self.headers["If-Range"]
        if (
            not match
            or fault.ignores_range
            or condition not in {None, headers["ETag"], headers["Last-Modified"]}
        ):
            return None
        return int(match[1])

    def _send(self, status: int, body: bytes, fault: Fault, headers: dict[str, str]) -> None:
        told: dict[str, str | None] = {**headers, "Content-Length": str(len(body)), **fault.headers}
        is_chunked = told["Content-Length"] is None
        self.send_response(status)
        for name, value in {**told, "Transfer-Encoding": "chunked" if is_chunked else None}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body if fault.cut_after is None else body[: fault.cut_after]
        for start in range(0, len(sent), 1000 if fault.pause else max(1, len(sent))):
            time.sleep(fault.pause)
            block = sent[start : start + 1000] if fault.pause else sent
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if is_chunked else block)
        if fault.cut_after is not None and fault.is_reset:
            self._reset()
        elif fault.cut_after is not None:
            self.close_connection = True
        elif is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _reset(self) -> None:
        """End the connection by RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
