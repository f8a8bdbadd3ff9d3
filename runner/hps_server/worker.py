"""The data transfer worker: an HTTP server between the client's disk and the embedded HPS.

The client downloads this file and starts it. Standard library only; it ends when its output is
closed. (No `from __future__`: `data_transfer.py` puts two lines before this text.)
"""

import argparse
import hmac
import http.client
import json
import os
import select
import shutil
import ssl
import sys
import threading
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, quote, urlsplit

_PREFIX = "/api/v1"
_CHUNK = 1 << 20
_KEPT_OPERATIONS = 1000
_MOST_DIGITS = 8
"""Of the size of a document in bytes: less than 100 MB."""
_SHORT_SECONDS = 0.5
"""Wait for short operations: the pauses between the client's polls grow fast."""


class Remote:
    """A connection to the embedded HPS, without proxies."""

    def __init__(self, url: str, token: str, *, insecure: bool) -> None:
        self._parts = urlsplit(url)
        self._insecure = insecure
        self.token = token
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "127.0.0.1", self._parts.port
        if self._parts.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=60)
        context = ssl.create_default_context()
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(host, port, timeout=60, context=context)

    def call(
        self, method: str, path: str, body: str | IO[bytes] | None = None, size: int | None = None
    ) -> http.client.HTTPResponse:
        """Send a request; return the response, unread. Raises OSError; PermissionError for 401."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if size is not None:
            headers["Content-Length"] = str(size)
        self._connection.request(
            method, f"{self._parts.path.rstrip('/')}{path}", body=body, headers=headers
        )
        answer = self._connection.getresponse()
        if answer.status >= 300:
            kind = PermissionError if answer.status == 401 else OSError
            raise kind(f"{method} {path}: {answer.status} {answer.read().decode(errors='replace')}")
        return answer

    def ask(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Send and receive JSON."""
        return dict(json.loads(self.call("POST", path, json.dumps(document)).read()))

    def upload(self, source: str, target: str) -> None:
        """Send a file."""
        with Path(source).open("rb") as content:
            self.call(
                "PUT", f"/data/{quote(target)}", content, os.fstat(content.fileno()).st_size
            ).read()

    def download(self, source: str, target: str) -> None:
        """Download a file to a temporary name, then rename it."""
        answer = self.call("GET", f"/data/{quote(source)}")
        place = Path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{uuid.uuid4().hex}.partial")
        try:
            with partial.open("wb") as content:
                shutil.copyfileobj(answer, content, _CHUNK)
                received = content.tell()  # words: allow
            expected = int(answer.headers.get("Content-Length", received))
            if received != expected:
                raise OSError(f"{source}: received {received} of {expected} bytes")
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)


class Worker(ThreadingHTTPServer):
    """Runs operations in threads and keeps their results."""

    daemon_threads = True

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__((options.host, options.port), _Handler)
        self.options = options
        self.operations: dict[str, dict[str, Any]] = {}
        self.token = options.token.removeprefix("Bearer ")
        self.user: str | None = None

    def remote(self, token: str | None = None) -> Remote:
        """Return a new connection for one operation."""
        return Remote(self.options.dt_url, token or self.token, insecure=self.options.insecure)

    def lengthen_token(self, token: str | None = None) -> None:
        """Exchange the token of the session, or a newer one, for a long-lived one."""
        try:
            answer = self.remote(token).ask("/token", {})
        except (OSError, http.client.HTTPException, ValueError) as error:
            _log("error", f"the token could not be exchanged: {error}")
        else:
            self.token, self.user = answer["token"], answer["user"]

    def is_own(self, token: str) -> bool:
        """Check that *token* belongs to the user of this worker. Raises OSError."""
        try:
            user = self.remote(token).ask("/token", {})["user"] if token else None
        except PermissionError:
            return False
        if self.user is None:
            self.lengthen_token()
        return user is not None and user == self.user

    def begin(self, action: str, document: dict[str, Any]) -> str:
        """Start an operation; return its id."""
        identifier = uuid.uuid4().hex
        operation: dict[str, Any] = {"id": identifier, "state": "running", "progress": 0.0}
        operation |= {"started_at": _now(), "result": {}}
        while len(self.operations) >= _KEPT_OPERATIONS:
            self.operations.pop(next(iter(self.operations)))
        self.operations[identifier] = operation
        thread = threading.Thread(target=self._run, args=(operation, action, document), daemon=True)
        thread.start()
        thread.join(_SHORT_SECONDS)
        return identifier

    def _run(self, operation: dict[str, Any], action: str, document: dict[str, Any]) -> None:
        try:
            if action == "metadata:get":
                operation["result"] = self.remote().ask("/metadata:get", document)["result"]
            elif action != "metadata:set":
                self._transfer(operation, action, document["operations"])
            operation.update(state="succeeded", progress=1.0)
        except Exception as error:  # noqa: BLE001 - whatever happens, the client learns of it
            operation.update(state="failed", error=str(error), messages=[str(error)])
            _log("error", f"{action}: {error}")
        operation["ended_at"] = _now()

    def _transfer(
        self, operation: dict[str, Any], action: str, steps: list[dict[str, Any]]
    ) -> None:
        remote = self.remote()
        for number, step in enumerate(steps, 1):
            places = (step["src"], step["dst"]) if "src" in step else (step,)
            if all(place.get("remote") != "local" for place in places):
                answer = remote.ask(f"/storage:{action}", {"operations": [step]})
                operation["result"].update(answer["result"])
            elif action == "copy":
                _copy(remote, step["src"], step["dst"])
            else:
                raise OSError(f"{action} of local files is not supported")
            operation["progress"] = number / len(steps)


def _copy(remote: Remote, source: dict[str, Any], target: dict[str, Any]) -> None:
    if source.get("remote") != "local":
        remote.download(source["path"], target["path"])
    elif target.get("remote") != "local":
        remote.upload(source["path"], target["path"])
    else:
        shutil.copyfile(source["path"], target["path"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Worker

    def do_GET(self) -> None:
        """Status, storages, operations."""
        parts = urlsplit(self.path)
        path = parts.path.removeprefix(_PREFIX)
        if not self._is_allowed():
            return
        if path == "/operations":
            wanted = [
                part for text in parse_qs(parts.query).get("ids", []) for part in text.split(",")
            ]
            found = [
                self.server.operations[name] for name in wanted if name in self.server.operations
            ]
            self._answer({"operations": found})
        elif path == "/storage":
            self._answer({"storage": [{"name": "any", "type": "embedded"}]})
        else:
            self._answer(
                {"ready": True, "debug": {"panic_file": None}, "features": {}, "build_info": {}}
            )

    def do_POST(self) -> None:
        """Start an operation, or end the worker."""
        length = self.headers.get("Content-Length", "0")
        if not self._is_allowed():
            self.close_connection = True  # the body stays unread
            return
        if not length.isdecimal() or len(length) > _MOST_DIGITS:
            self.close_connection = True
            self._answer({"title": "Content Too Large", "detail": "a document is too large"}, 413)
            return
        body = self.rfile.read(int(length))
        action = urlsplit(self.path).path.removeprefix(f"{_PREFIX}/")
        if action == "shutdown":
            self._answer({})
            os._exit(0)
        if self.server.user is None:  # the first token had expired before this program started
            self.server.lengthen_token(
                self.headers.get("Authorization", "").removeprefix("Bearer ")
            )
        identifier = self.server.begin(action.removeprefix("storage:"), json.loads(body))
        self._answer({"id": identifier, "location": f"{_PREFIX}/operations/{identifier}"})

    def _is_allowed(self) -> bool:
        """Require the API key of the client or, for clients without keys, a token of its user."""
        key = os.environ.get("ANSYS_DT_AUTH__API_KEY__VALUE")
        name = os.environ.get("ANSYS_DT_AUTH__API_KEY__HEADER_NAME", "X-API-Key")
        header = name if key else "Authorization"
        given = self.headers.get(header, "")
        status, title, detail = 401, "Unauthorized", f"wrong or no {header}"
        try:
            if key:
                is_allowed = hmac.compare_digest(given.encode(), key.encode())
            else:
                is_allowed = self.server.is_own(given.removeprefix("Bearer "))
        except (OSError, http.client.HTTPException, ValueError) as error:
            is_allowed = False
            status, title, detail = (
                503,
                "Service Unavailable",
                f"the token cannot be checked: {error}",
            )
        if not is_allowed:
            self._answer({"title": title, "detail": detail}, status)
        return is_allowed

    def _answer(self, document: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _log(level: str, message: str) -> None:
    print(json.dumps({"level": level, "time": _now(), "message": message}), flush=True)  # noqa: T201


def _leave_with_reader() -> None:
    """Exit when the reader of standard output, the client, has exited."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    poll.poll()
    os._exit(0)


def main() -> None:
    """Serve until the client exits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dt-url", required=True)
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("-t", "--token", default="")
    options, _ = parser.parse_known_args()
    worker = Worker(options)
    if hasattr(select, "poll"):
        threading.Thread(target=_leave_with_reader, daemon=True).start()
    worker.lengthen_token()
    worker.serve_forever()


if __name__ == "__main__":
    main()
