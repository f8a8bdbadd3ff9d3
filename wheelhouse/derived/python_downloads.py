"""The interpreters that a bundle brings: what uv needs to find them, rendered from the manifest. Pure.

With these two variables an unmodified uv, of any version, installs its Pythons from the bundle, and checks them:

    UV_PYTHON_DOWNLOADS_JSON_URL=BUNDLE/python-downloads.json  UV_PYTHON_INSTALL_MIRROR=file://BUNDLE/python
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offline_bundle.wheelhouse.runtime.manifest import BundledFile, BundledPython, BundledTarget

DOWNLOADS = "python-downloads.json"
BOOTSTRAP = "run.sh"
"""The launcher for nodes without any Python, which only a bundle with interpreters has."""

# What uv's mirrors stand in for: only of URLs that begin so can a mirror be another place (uv 0.7 to 0.13).
_UPSTREAM = "https://github.com/astral-sh/python-build-standalone/releases/download"
_PLATFORM = re.compile(
    r"(?P<arch>[a-z0-9_]+)-(?:(?P<gnu>manylinux_.*)|(?P<musl>unknown-linux-musl)|(?P<macos>apple-darwin)|"
    r"(?P<windows>pc-windows-msvc))"
)


def render_downloads(
    pythons: Mapping[str, BundledPython],
    targets: Mapping[str, BundledTarget],
    files: Mapping[str, BundledFile],
) -> dict[str, bytes]:
    """`python-downloads.json` by its path, in the form of uv's own list; nothing where there are no *pythons*."""
    document = {}
    for name, python in sorted(pythons.items()):
        target = targets[name]
        match = _PLATFORM.fullmatch(target.platform)
        if match is None:
            continue
        is_linux = match["gnu"] or match["musl"]
        system = "linux" if is_linux else "darwin" if match["macos"] else "windows"
        libc = "gnu" if match["gnu"] else "musl" if match["musl"] else "none"
        variant = "freethreaded" if target.python.endswith("t") else None
        major, minor, patch = map(int, python.version.split("."))
        key = f"cpython-{python.version}{'+freethreaded' if variant else ''}-{system}-{match['arch']}-{libc}"
        document[key] = {
            "name": "cpython",
            "arch": {"family": match["arch"], "variant": None},
            "os": system,
            "libc": libc,
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "url": f"{_UPSTREAM}/{quote(python.path.removeprefix('python/'))}",
            "sha256": files[python.path].sha256,
            "variant": variant,
            "build": python.path.split("/")[1],
        }
    content = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")
    return {DOWNLOADS: content} if pythons else {}
