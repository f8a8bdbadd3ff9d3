"""The list by which uv finds the interpreters in a bundle: `python-downloads.json`. Pure.

With these variables an unmodified uv, of any version, installs its Pythons from the bundle, and
verifies them:

    UV_PYTHON_DOWNLOADS_JSON_URL=BUNDLE/python-downloads.json  UV_PYTHON_INSTALL_MIRROR=file://BUNDLE/python
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledPython,
    BundledTarget,
)
from offline_bundle.wheelhouse.runtime.python.platforms import parse_platform

DOWNLOADS = "python-downloads.json"
# uv replaces this prefix, and no other, by its mirror (uv 0.7 to 0.13).
_UPSTREAM = "https://github.com/astral-sh/python-build-standalone/releases/download"
_SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "windows"}
_LIBCS = {"glibc": "gnu", "musl": "musl"}


def render_downloads(
    pythons: Mapping[str, BundledPython],
    targets: Mapping[str, BundledTarget],
    files: Mapping[str, BundledFile],
) -> dict[str, bytes]:
    """Return `python-downloads.json` in the format of uv's own list: content by path.

    Empty if there are no *pythons*.
    """
    document = {}
    for name, python in sorted(pythons.items()):
        target = targets[name]
        platform = parse_platform(target.platform)
        system = _SYSTEMS.get(platform.system)
        if system is None:
            continue
        libc = _LIBCS.get(platform.libc_family, "none")
        is_free_threaded = target.python.endswith("t")
        suffix = "+freethreaded" if is_free_threaded else ""
        major, minor, patch = map(int, python.version.split("."))
        document[f"cpython-{python.version}{suffix}-{system}-{platform.machine}-{libc}"] = {
            "name": "cpython",
            "arch": {"family": platform.machine, "variant": None},
            "os": system,
            "libc": libc,
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "url": f"{_UPSTREAM}/{quote(python.path.removeprefix('python/'))}",
            "sha256": files[python.path].sha256,
            "variant": "freethreaded" if is_free_threaded else None,
            "build": python.path.split("/")[1],
        }
    content = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")
    return {DOWNLOADS: content} if pythons else {}
