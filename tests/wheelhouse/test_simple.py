from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pypi_simple
import pytest
import uv

from offline_bundle.wheelhouse.derived.simple_index import (
    IndexFile,
    render_project_html,
    render_project_json,
    render_root_html,
    render_root_json,
    version_of,
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


def clean_environment(tmp_path: Path) -> dict[str, str]:
    """The caller's environment without any pip or uv setting of this machine."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))}
    ours = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CACHE_DIR": str(tmp_path / "pip-cache"),
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_NO_CONFIG": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return kept | ours


def run_uv(
    tmp_path: Path, *arguments: str, stdin: str = "", expect: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [uv.find_uv_bin(), *arguments, "--python", sys.executable]
    done = subprocess.run(
        command,
        env=clean_environment(tmp_path),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done


def compile_with_uv(tmp_path: Path, index: Index, requirement: str, *options: str) -> str:
    arguments = ["--no-header", "--no-annotate", "--default-index", index.url, *options]
    return run_uv(tmp_path, "pip", "compile", "-", *arguments, stdin=requirement).stdout


def run_pip(tmp_path: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--isolated", *arguments]
    done = subprocess.run(
        command, env=clean_environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# The pages


FILES = [
    IndexFile(
        filename="silly_walk-10.0+cpu-py3-none-any.whl",
        url="../../wheels/silly_walk-10.0+cpu-py3-none-any.whl",
        sha256="a" * 64,
        size=12,
        requires_python=">=3.8,<4",
        upload_time="2026-11-15T21:30:21.123456Z",
        yanked='say "no" & <go>',
        metadata_sha256="b" * 64,
    ),
    IndexFile(
        filename="silly_walk-9.0.tar.gz",
        url="../../wheels/silly_walk-9.0.tar.gz",
        sha256="c" * 64,
        size=7,
        yanked="",
    ),
]


def test_project_page_in_full() -> None:
    old = (
        f'<a href="../../wheels/silly_walk-9.0.tar.gz#sha256={"c" * 64}"'
        ' data-yanked="" data-size="7">silly_walk-9.0.tar.gz</a><br>'
    )
    new = (
        f'<a href="../../wheels/silly_walk-10.0%2Bcpu-py3-none-any.whl#sha256={"a" * 64}"'
        ' data-requires-python="&gt;=3.8,&lt;4"'
        f' data-core-metadata="sha256={"b" * 64}" data-dist-info-metadata="sha256={"b" * 64}"'
        ' data-yanked="say &quot;no&quot; &amp; &lt;go&gt;"'
        ' data-size="12" data-upload-time="2026-11-15T21:30:21.123456Z">'
        "silly_walk-10.0+cpu-py3-none-any.whl</a><br>"
    )
    assert render_project_html("Silly.Walk", FILES) == (
        "<!DOCTYPE html>\n<html>\n<head>\n"
        '<meta charset="utf-8">\n'
        '<meta name="pypi:repository-version" content="1.1">\n'
        "<title>Links for silly-walk</title>\n"
        f"</head>\n<body>\n{old}\n{new}\n</body>\n</html>\n"
    )


def test_project_in_json_in_full() -> None:
    text = render_project_json("Silly.Walk", FILES)
    assert text.endswith("}\n")
    assert json.loads(text) == {
        "meta": {"api-version": "1.1"},
        "name": "silly-walk",
        "versions": ["9.0", "10.0+cpu"],
        "files": [
            {
                "filename": "silly_walk-9.0.tar.gz",
                "url": "../../wheels/silly_walk-9.0.tar.gz",
                "hashes": {"sha256": "c" * 64},
                "size": 7,
                "yanked": True,
            },
            {
                "filename": "silly_walk-10.0+cpu-py3-none-any.whl",
                "url": "../../wheels/silly_walk-10.0%2Bcpu-py3-none-any.whl",
                "hashes": {"sha256": "a" * 64},
                "size": 12,
                "requires-python": ">=3.8,<4",
                "core-metadata": {"sha256": "b" * 64},
                "upload-time": "2026-11-15T21:30:21.123456Z",
                "yanked": 'say "no" & <go>',
            },
        ],
    }


def test_the_root_lists_normalised_names_once() -> None:
    names = ["Silly.Walk", "silly_walk", "numpy"]
    assert (
        '<body>\n<a href="numpy/">numpy</a><br>\n<a href="silly-walk/">silly-walk</a><br>\n</body>'
        in (render_root_html(names))
    )
    assert json.loads(render_root_json(names)) == {
        "meta": {"api-version": "1.1"},
        "projects": [{"name": "numpy"}, {"name": "silly-walk"}],
    }


@pytest.mark.parametrize("name", ["<b>", "a/b", "../x", "", "a b"])
def test_invalid_names_are_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        render_root_html([name])


def test_order_of_files_does_not_matter() -> None:
    assert render_project_html("x", FILES) == render_project_html("x", FILES[::-1])
    assert render_project_json("x", FILES) == render_project_json("x", FILES[::-1])


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("a-1.0-py3-none-any.whl", "1.0"),
        ("a-1!2+l-1-py3-none-any.whl", "1!2+l"),
        ("a-1.tar.gz", "1"),
    ],
)
def test_version_of(filename: str, version: str) -> None:
    assert str(version_of(filename)) == version


def test_version_of_something_else() -> None:
    with pytest.raises(ValueError, match="README"):
        version_of("README.txt")


# uv


def test_uv_resolves_without_the_yanked_and_the_unfit(tmp_path: Path, index: Index) -> None:
    assert compile_with_uv(tmp_path, index, "demo").splitlines() == ["demo==2.0", "silly-walk==1.0"]


def test_uv_takes_its_hashes_from_the_page(tmp_path: Path, index: Index) -> None:
    text = compile_with_uv(tmp_path, index, "demo==2.0", "--generate-hashes")
    assert f"--hash=sha256:{sha256_of(index.folder / 'wheels/demo-2.0-py3-none-any.whl')}" in text
    assert (
        f"--hash=sha256:{sha256_of(index.folder / 'wheels/Silly_Walk-1.0-py3-none-any.whl')}"
        in text
    )


def test_uv_writes_size_and_upload_time_into_its_lock(tmp_path: Path, index: Index) -> None:
    text = compile_with_uv(tmp_path, index, "demo==1.0", "--format", "pylock.toml")
    assert "size = " in text
    assert "upload-time = 2024-01-01T00:00:00Z" in text


def test_uv_honours_exclude_newer(tmp_path: Path, index: Index) -> None:
    text = compile_with_uv(tmp_path, index, "demo", "--exclude-newer", "2024-06-01T00:00:00Z")
    assert text.splitlines() == ["demo==1.0"]


@pytest.mark.parametrize(
    ("version", "reason"), [("2.5", 'broken: "1 < 2" & <script>'), ("2.6", "yanked")]
)
def test_uv_knows_why_a_file_was_yanked(
    tmp_path: Path, index: Index, version: str, reason: str
) -> None:
    arguments = [
        "--default-index",
        index.url,
        f"demo=={version}",
        "--target",
        str(tmp_path / "target"),
    ]
    assert reason in run_uv(tmp_path, "pip", "install", *arguments).stderr


def test_uv_installs_names_that_must_be_quoted(tmp_path: Path, index: Index) -> None:
    target = tmp_path / "target"
    arguments = ["--default-index", index.url, "torchlike", "epochal", "--target", str(target)]
    run_uv(tmp_path, "pip", "install", *arguments)
    assert "2.0+cpu" in (target / "torchlike.py").read_text()
    assert "1!1.0" in (target / "epochal.py").read_text()


def test_uv_reads_the_metadata_beside_the_wheel(tmp_path: Path, server: Index) -> None:
    compile_with_uv(tmp_path, server, "demo")
    assert "/wheels/demo-2.0-py3-none-any.whl.metadata" in server.requests
    assert "/wheels/demo-2.0-py3-none-any.whl" not in server.requests


# pip


def test_pip_downloads_what_fits(tmp_path: Path, index: Index) -> None:
    run_pip(tmp_path, "download", "--index-url", index.url, "-d", str(tmp_path / "got"), "demo")
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == [
        "Silly_Walk-1.0-py3-none-any.whl",
        "demo-2.0-py3-none-any.whl",
    ]


def test_pip_installs_names_that_must_be_quoted(tmp_path: Path, index: Index) -> None:
    target = tmp_path / "target"
    run_pip(
        tmp_path,
        "install",
        "--index-url",
        index.url,
        "--target",
        str(target),
        "torchlike",
        "epochal",
    )
    assert "2.0+cpu" in (target / "torchlike.py").read_text()
    assert "1!1.0" in (target / "epochal.py").read_text()


def test_pip_reads_the_metadata_beside_the_wheel(tmp_path: Path, server: Index) -> None:
    arguments = ["install", "--index-url", server.url, "--dry-run", "--ignore-installed", "demo"]
    assert "Would install" in run_pip(tmp_path, *arguments)
    assert "/wheels/demo-2.0-py3-none-any.whl.metadata" in server.requests


def test_pip_refuses_a_wheel_that_differs_from_the_page(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "demo")
    file = IndexFile(filename=wheel.name, url=f"../../wheels/{wheel.name}", sha256="0" * 64, size=1)
    page = tmp_path / "simple/demo/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(render_project_html("demo", [file]))
    url = (tmp_path / "simple").as_uri()
    with pytest.raises(AssertionError, match="DO NOT MATCH"):
        run_pip(tmp_path, "download", "--index-url", url, "-d", str(tmp_path / "got"), "demo")


# find-links: a flat folder, where metadata siblings lie between the wheels


def test_metadata_siblings_do_not_disturb_find_links(tmp_path: Path, site: Path) -> None:
    wheels = str(site / "wheels")
    offline = ["--no-index", "--find-links", wheels]
    run_uv(
        tmp_path,
        "pip",
        "install",
        "--offline",
        *offline,
        "demo==2.0",
        "--target",
        str(tmp_path / "by-uv"),
    )
    assert (tmp_path / "by-uv/Silly_Walk.py").exists()
    run_pip(tmp_path, "install", *offline, "--target", str(tmp_path / "by-pip"), "demo==2.0")
    assert (tmp_path / "by-pip/Silly_Walk.py").exists()


# pypi-simple, a third reader


def test_pypi_simple_reads_the_pages(server: Index) -> None:
    with pypi_simple.PyPISimple(server.url) as client:
        assert client.get_index_page().projects == ["demo", "epochal", "silly-walk", "torchlike"]
        page = client.get_project_page("demo")
        files = {package.version: package for package in page.packages}
        assert page.repository_version == "1.1"
        assert sorted(version or "" for version in files) == ["1.0", "2.0", "2.5", "2.6", "3.0"]
        first, yanked = files["1.0"], files["2.5"]
        assert first.digests["sha256"] == sha256_of(
            server.folder / "wheels/demo-1.0-py3-none-any.whl"
        )
        assert yanked.is_yanked
        assert yanked.yanked_reason == YANKED["demo-2.5"]
        assert files["2.6"].is_yanked
        assert files["3.0"].requires_python == ">=3.99"
        assert first.has_metadata
        assert "Name: demo" in client.get_package_metadata(first)


def test_pypi_simple_reads_the_json(site: Path) -> None:
    page = pypi_simple.ProjectPage.from_json_data(
        json.loads((site / "simple/demo/index.json").read_text()),
        base_url="http://127.0.0.1/simple/demo/",
    )
    files = {package.version: package for package in page.packages}
    assert page.versions == ["1.0", "2.0", "2.5", "2.6", "3.0"]
    wheel = site / "wheels/demo-2.0-py3-none-any.whl"
    assert files["2.0"].size == wheel.stat().st_size
    assert files["2.0"].upload_time is not None
    assert files["2.0"].upload_time.isoformat() == "2025-01-01T00:00:00.123456+00:00"
    assert files["2.0"].url == "http://127.0.0.1/wheels/demo-2.0-py3-none-any.whl"
    assert files["2.0"].metadata_digests == {
        "sha256": sha256_of(wheel.with_name(f"{wheel.name}.metadata"))
    }
    assert files["2.5"].yanked_reason == YANKED["demo-2.5"]
