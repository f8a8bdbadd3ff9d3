"""The static package index over a bundle's files: `simple/NAME/index.html` and `index.json`.

Pure: records in, text out. The pages hold relative links only, so they work over `file://`, from any static
web server and under any prefix. Over `file://` uv and pip read nothing but the HTML; a server that negotiates
content may serve the JSON.

    file = IndexFile(filename="demo-1.0-py3-none-any.whl", url="../../wheels/demo-1.0-py3-none-any.whl", …)
    page = render_project_html("demo", [file])

Beside each rule stands the PEP it comes from, in the words of the simple repository API specification, which
gathers them all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.version import Version

API_VERSION = "1.1"
"""PEP 629: "constrained to ONLY be Major.Minor"; 1.1 brought PEP 700's versions, sizes and upload times.

PEP 691: "All serializations version numbers, within a major version, SHOULD be kept in sync", so HTML says it
too.
"""


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """One file of a project as the index shows it."""

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
    """PEP 592: the reason, maybe empty; None for a file in good standing."""
    metadata_sha256: str | None = None
    """Digest of the METADATA that lies beside it, "with a .metadata appended" (PEP 658); None without one."""


def render_project_html(name: str, files: Iterable[IndexFile]) -> str:
    """Render `simple/NAME/index.html`, sorted by version, then file name."""
    links = [
        # PEP 503: "The text of the anchor tag MUST match the final path component (the filename) of the URL".
        f"<a {_attributes(_anchor(file))}>{escape(file.filename)}</a><br>"
        for file in _sorted(files)
    ]
    return _page(f"Links for {canonicalize_name(name)}", links)


def render_root_html(names: Iterable[str]) -> str:
    """Render `simple/index.html`.

    PEP 503: "The text of the anchor tag MUST be the name of the project"; "All URLs which respond with an
    HTML5 page MUST end with a /".
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
            # PEP 700: "All of the files listed in the files key MUST be associated with one of the versions".
            "versions": list(
                dict.fromkeys(str(version_of(file.filename)) for file in sorted_files)
            ),
            "files": [_json_file(file) for file in sorted_files],
        }
    )


def render_root_json(names: Iterable[str]) -> str:
    """Render `simple/index.json` (PEP 691): "each entry is a dictionary with a single key, name"."""
    return _json({"projects": [{"name": name} for name in _normalised(names)]})


def version_of(filename: str) -> Version:
    """Version of a wheel or source archive, by its name; ValueError when the name is neither's."""
    if filename.endswith(".whl"):
        return parse_wheel_filename(filename)[1]
    return parse_sdist_filename(filename)[1]


def _anchor(file: IndexFile) -> Iterator[tuple[str, str]]:
    # PEP 503: "The URL SHOULD include a hash in the form of a URL fragment". When it changes, uv stops
    # serving a file of the same name from its cache; with find-links it would go on.
    yield "href", f"{quote(file.url)}#sha256={file.sha256}"
    if file.requires_python is not None:
        # PEP 503: "In the attribute value, < and > have to be HTML encoded".
        yield "data-requires-python", file.requires_python
    if file.metadata_sha256 is not None:
        # PEP 714: "MUST be emitted using the attribute name data-core-metadata"; "the HTML representation MAY
        # also be emitted using the data-dist-info-metadata, and if it does so it MUST match".
        yield "data-core-metadata", f"sha256={file.metadata_sha256}"
        yield "data-dist-info-metadata", f"sha256={file.metadata_sha256}"
    if file.yanked is not None:
        # PEP 592: "Mirrors MUST NOT mirror a yanked file without also mirroring the data-yanked attribute".
        yield "data-yanked", file.yanked
    # PEP 700 leaves the HTML as it was; these two are uv's. Without an upload time, `exclude-newer` over
    # file:// finds no version at all.
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
        # PEP 691: "either a boolean to indicate if the file has been yanked, or a non empty, but otherwise
        # arbitrary, string".
        "yanked": file.yanked or file.yanked is not None,
    }
    if file.requires_python is not None:
        entry["requires-python"] = file.requires_python
    if file.metadata_sha256 is not None:
        # PEP 714: "MUST be emitted using the key core-metadata". Only HTML may keep the older name: in JSON
        # it makes pip 22.3 to 23.1 fail, which is why the key was renamed.
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
    # PEP 503: "the only valid characters in a name are the ASCII alphabet, ASCII numbers, ., -, and _", and
    # "all runs of the characters ., -, or _ replaced with a single - character". So names need no escaping.
    return sorted({canonicalize_name(name, validate=True) for name in names})
