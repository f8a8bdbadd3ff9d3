"""Shared by the unit and integration tests: Targets from node.json files of many machines, and
invalid files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

GLIBC = {"family": "glibc", "version": "2.28"}


def python(version: str, **changes: object) -> dict[str, object]:
    described = {
        "path": "/usr/bin/python3",
        "version": version,
        "implementation": "cpython",
        "release": "final",
        "free-threaded": False,
        "debug": False,
        "bits": 64,
        "libc": "glibc",
        "found": "PATH",
    }
    return {**described, **changes}


def node_json(folder: Path, name: str = "node.json", **changes: object) -> Path:
    document: dict[str, object] = {
        "format": 1,
        "system": "Linux",
        "machine": "x86_64",
        "libc": GLIBC,
        "macos": None,
        "pythons": [
            python("3.9.18"),
            python("3.12.1"),
            python("3.13.0", **{"free-threaded": True}),
        ],
    }
    path = folder / name
    path.write_text(json.dumps({**document, **changes}))
    return path
