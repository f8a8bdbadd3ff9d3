from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pypi_simple
import pytest

from offline_bundle.wheelhouse.derived.simple_index import (
    IndexFile,
    render_project_html,
    render_project_json,
    render_root_html,
    render_root_json,
    version_of,
)
from tests.support.distributions import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.simple_index_cases import YANKED, Index, index, server, site

__all__ = ["index", "server", "site"]


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
