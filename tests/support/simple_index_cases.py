from __future__ import annotations

import functools
import hashlib
import threading
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from offline_bundle.wheelhouse.derived.simple_index import (
    IndexFile,
    render_project_html,
    render_project_json,
    render_root_html,
    render_root_json,
)
from offline_bundle.wheelhouse.derived.wheel_metadata import metadata_of_wheel, parse_metadata
from tests.support.distributions import make_wheel, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator


JSON_TYPE = "application/vnd.pypi.simple.v1+json"


UPLOADED = {
    "demo-1.0": "2024-01-01T00:00:00Z",
    "demo-2.0": "2025-01-01T00:00:00.123456Z",
    "demo-3.0": "2026-01-01T00:00:00Z",
}


YANKED = {"demo-2.5": 'broken: "1 < 2" & <script>', "demo-2.6": ""}


@dataclass
class Index:
    """A bundle's index as some client reaches it."""

    url: str
    folder: Path
    requests: list[str] = field(default_factory=list)
    """Paths asked for over HTTP."""


class Handler(SimpleHTTPRequestHandler):
    """Plain files, as any static server has them; with `negotiates`, JSON on request."""

    negotiates = False
    requests: list[str]

    def __init__(self, *args: object, requests: list[str], **options: object) -> None:
        self.requests = requests
        super().__init__(*args, **options)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        self.requests.append(self.path)
        page = Path(f"{self.directory}{self.path}index.json")
        wants_json = self.negotiates and JSON_TYPE in self.headers.get("Accept", "")
        if not (wants_json and self.path.endswith("/") and page.exists()):
            return super().send_head()
        content = page.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", JSON_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return BytesIO(content)


class NegotiatingHandler(Handler):
    negotiates = True


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle's `wheels/` and `simple/`, made with the functions under test."""
    folder = tmp_path_factory.mktemp("site with space")
    wheels = [
        make_wheel(folder / "wheels", "demo", "1.0"),
        make_wheel(folder / "wheels", "demo", "2.0", requires=["Silly_Walk>=1"]),
        make_wheel(folder / "wheels", "demo", "2.5"),
        make_wheel(folder / "wheels", "demo", "2.6"),
        make_wheel(folder / "wheels", "demo", "3.0", requires_python=">=3.99"),
        make_wheel(folder / "wheels", "Silly_Walk", "1.0"),
        make_wheel(folder / "wheels", "torchlike", "2.0"),
        make_wheel(folder / "wheels", "torchlike", "2.0+cpu"),
        make_wheel(folder / "wheels", "epochal", "1!1.0"),
    ]
    projects: dict[str, list[IndexFile]] = {}
    for wheel in wheels:
        content = metadata_of_wheel(wheel)
        (wheel.parent / f"{wheel.name}.metadata").write_bytes(content)
        metadata = parse_metadata(content)
        key = f"{metadata.name}-{metadata.version}"
        projects.setdefault(metadata.name.lower().replace("_", "-"), []).append(
            IndexFile(
                filename=wheel.name,
                url=f"../../wheels/{wheel.name}",
                sha256=sha256_of(wheel),
                size=wheel.stat().st_size,
                requires_python=metadata.requires_python,
                upload_time=UPLOADED.get(key),
                yanked=YANKED.get(key),
                metadata_sha256=hashlib.sha256(content).hexdigest(),
            )
        )
    for name, files in projects.items():
        page = folder / "simple" / name
        page.mkdir(parents=True)
        (page / "index.html").write_text(render_project_html(name, files))
        (page / "index.json").write_text(render_project_json(name, files))
    (folder / "simple/index.html").write_text(render_root_html(projects))
    (folder / "simple/index.json").write_text(render_root_json(projects))
    return folder


@pytest.fixture(params=["file", "static server", "negotiating server"])
def index(site: Path, request: pytest.FixtureRequest) -> Iterator[Index]:
    """The same files, reached in three ways."""
    if request.param == "file":
        yield Index((site / "simple").as_uri(), site)
        return
    yield from _serve(
        site, NegotiatingHandler if request.param == "negotiating server" else Handler
    )


@pytest.fixture(params=["static server", "negotiating server"])
def server(site: Path, request: pytest.FixtureRequest) -> Iterator[Index]:
    yield from _serve(
        site, NegotiatingHandler if request.param == "negotiating server" else Handler
    )


def _serve(site: Path, handler: type[Handler]) -> Iterator[Index]:
    requests: list[str] = []
    make = functools.partial(handler, directory=str(site), requests=requests)
    with ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Index(f"http://127.0.0.1:{server.server_port}/simple", site, requests)
        finally:
            server.shutdown()
            thread.join()
