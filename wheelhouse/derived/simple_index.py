"""The static package index of a bundle: `simple/NAME/index.html` and `index.json`. Pure.

    pages = render_index(manifest.files)                   # "simple/numpy/index.html" -> bytes
    page = render_project_html("demo", [IndexFile(filename="demo-1.0-py3-none-any.whl", ...)])

All links are relative, so the pages work over `file://`, from any static web server and below any
prefix. Over `file://` uv and pip read the HTML only; a server with content negotiation may serve
the JSON. The comments quote the PEP behind each rule, in the words of the simple repository API
specification.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import quote

from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from offline_bundle.wheelhouse.derived.wheel_metadata import is_wheel
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile

INDEX = "simple/"
"""The folder of the pages in a bundle."""
API_VERSION = "1.1"
"""PEP 629: "constrained to ONLY be Major.Minor"; 1.1 added PEP 700's versions, sizes and times.

PEP 691: "All serializations version numbers, within a major version, SHOULD be kept in sync", so
the HTML pages have it too.
"""


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """One file of a project in the index."""

    filename: str
    url: str
    """Relative to the project's page, unquoted: `../../wheels/torch-2.0+cpu-….whl`."""
    sha256: str
    size: int
    """Bytes."""
    requires_python: str | None = None
    upload_time: str | None = None
    """PEP 700: "in the format yyyy-mm-ddThh:mm:ss.ffffffZ", the fraction "is optional"."""
    yanked: str | None = None
    """PEP 592: the reason, possibly empty; None when the file is not yanked."""
    metadata_sha256: str | None = None
    """Digest of the METADATA beside it, "with a .metadata appended" (PEP 658); None if absent."""


def render_index(files: Mapping[str, BundledFile]) -> dict[str, bytes]:
    """Render the pages of all wheels among *files*: content by path."""
    projects: dict[str, list[IndexFile]] = {}
    for path, file in sorted(files.items()):
        entry = _index_file(path, file, files.get(f"{path}.metadata"))
        if entry is not None:
            name = file.name or str(canonicalize_name(entry.filename.partition("-")[0]))
            projects.setdefault(name, []).append(entry)
    pages = {
        f"{INDEX}index.html": render_root_html(projects).encode(),
        f"{INDEX}index.json": render_root_json(projects).encode(),
    }
    for name, entries in projects.items():
        pages |= _project_pages(name, tuple(entries))
    return pages


def wheel_name_problems(paths: Iterable[str]) -> list[str]:
    """Find wheels among *paths* whose names are invalid, one line each."""
    problems = []
    for path in sorted(filter(is_wheel, paths)):
        try:
            parse_wheel_filename(path.removeprefix("wheels/"))
        except (InvalidWheelFilename, InvalidVersion) as error:
            problems.append(f"{path}: {error}")
    return problems


def render_project_html(name: str, files: Iterable[IndexFile]) -> str:
    """Render `simple/NAME/index.html`, sorted by version, then file name."""
    links = [
        # PEP 503: "The text of the anchor tag MUST match the final path component (the filename) of
        # the URL".
        f"<a {_attributes(_anchor(file))}>{escape(file.filename)}</a><br>"
        for file in _sorted(files)
    ]
    return _page(f"Links for {canonicalize_name(name)}", links)


def render_root_html(names: Iterable[str]) -> str:
    """Render `simple/index.html`.

    PEP 503: "The text of the anchor tag MUST be the name of the project"; "All URLs which respond
    with an HTML5 page MUST end with a /".
    """
    return _page(
        "Simple index", [f'<a href="{name}/">{name}</a><br>' for name in _normalised(names)]
    )


def render_project_json(name: str, files: Iterable[IndexFile]) -> str:
    """Render `simple/NAME/index.json` (PEP 691, PEP 700)."""
    sorted_files = _sorted(files)
    return _json(
        {
            "name": canonicalize_name(name),
            # PEP 700: "All of the files listed in the files key MUST be associated with one of the
            # versions".
            "versions": list(
                dict.fromkeys(str(version_of(file.filename)) for file in sorted_files)
            ),
            "files": [_json_file(file) for file in sorted_files],
        }
    )


def render_root_json(names: Iterable[str]) -> str:
    """Render `simple/index.json`.

    PEP 691: "each entry is a dictionary with a single key, name".
    """
    return _json({"projects": [{"name": name} for name in _normalised(names)]})


def version_of(filename: str) -> Version:
    """Return the version in the name of a wheel or sdist; raises ValueError for other names."""
    if filename.endswith(".whl"):
        return parse_wheel_filename(filename)[1]
    return parse_sdist_filename(filename)[1]


def _index_file(path: str, file: BundledFile, metadata: BundledFile | None) -> IndexFile | None:
    if not is_wheel(path) or file.sha256 is None or file.size is None:
        return None
    return IndexFile(
        filename=path.removeprefix("wheels/"),
        url=f"../../{path}",
        sha256=file.sha256,
        size=file.size,
        requires_python=file.requires_python,
        upload_time=file.upload_time,
        yanked=file.yanked,
        metadata_sha256=metadata.sha256 if metadata else None,
    )


@lru_cache(maxsize=4096)
def _project_pages(name: str, entries: tuple[IndexFile, ...]) -> Mapping[str, bytes]:
    # Cached: a build renders the pages of the present bundle while the resolver runs, then again.
    return {
        f"{INDEX}{name}/index.html": render_project_html(name, entries).encode(),
        f"{INDEX}{name}/index.json": render_project_json(name, entries).encode(),
    }


def _anchor(file: IndexFile) -> Iterator[tuple[str, str]]:
    # PEP 503: "The URL SHOULD include a hash in the form of a URL fragment". When it changes, uv no
    # longer serves a file of the same name from its cache; with find-links it would.
    yield "href", f"{quote(file.url)}#sha256={file.sha256}"
    if file.requires_python is not None:
        # PEP 503: "In the attribute value, < and > have to be HTML encoded".
        yield "data-requires-python", file.requires_python
    if file.metadata_sha256 is not None:
        # PEP 714: "MUST be emitted using the attribute name data-core-metadata"; "the HTML
        # representation MAY also be emitted using the data-dist-info-metadata, and if it does so it
        # MUST match".
        yield "data-core-metadata", f"sha256={file.metadata_sha256}"
        yield "data-dist-info-metadata", f"sha256={file.metadata_sha256}"
    if file.yanked is not None:
        # PEP 592: "Mirrors MUST NOT mirror a yanked file without also mirroring the data-yanked
        # attribute".
        yield "data-yanked", file.yanked
    # PEP 700 does not change the HTML; these two are uv's. Without an upload time, `exclude-newer`
    # over file:// finds no version at all.
    yield "data-size", str(file.size)
    if file.upload_time is not None:
        yield "data-upload-time", file.upload_time


def _json_file(file: IndexFile) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "filename": file.filename,
        "url": quote(file.url),
        "hashes": {"sha256": file.sha256},
        # PEP 700: "size: This field is mandatory."
        "size": file.size,
        # PEP 691: "either a boolean to indicate if the file has been yanked, or a non empty, but
        # otherwise arbitrary, string".
        "yanked": file.yanked or file.yanked is not None,
    }
    if file.requires_python is not None:
        entry["requires-python"] = file.requires_python
    if file.metadata_sha256 is not None:
        # PEP 714: "MUST be emitted using the key core-metadata". Only HTML may keep the older name:
        # in JSON it makes pip 22.3 to 23.1 fail.
        entry["core-metadata"] = {"sha256": file.metadata_sha256}
    if file.upload_time is not None:
        entry["upload-time"] = file.upload_time
    return entry


def _attributes(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f'{name}="{escape(value)}"' for name, value in pairs)


def _page(title: str, links: Iterable[str]) -> str:
    lines = [
        "<!DOCTYPE html>",  # PEP 503: "a valid HTML5 page"
        "<html>",
        "<head>",
        '<meta charset="utf-8">',
        # PEP 629: "a meta tag … which contains a name attribute of pypi:repository-version".
        f'<meta name="pypi:repository-version" content="{API_VERSION}">',
        f"<title>{escape(title)}</title>",
        "</head>",
        "<body>",
        *links,
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _json(document: dict[str, Any]) -> str:
    # PEP 691: "All JSON responses will have a meta.api-version key".
    return (
        json.dumps({"meta": {"api-version": API_VERSION}, **document}, indent=1, sort_keys=True)
        + "\n"
    )


def _sorted(files: Iterable[IndexFile]) -> list[IndexFile]:
    return sorted(files, key=lambda file: (version_of(file.filename), file.filename))


def _normalised(names: Iterable[str]) -> list[str]:
    # PEP 503: "the only valid characters in a name are the ASCII alphabet, ASCII numbers, ., -, and
    # _", and "all runs of the characters ., -, or _ replaced with a single - character". So names
    # need no escaping.
    return sorted({canonicalize_name(name, validate=True) for name in names})
