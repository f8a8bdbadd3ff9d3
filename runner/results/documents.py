"""Read what jobs and other users may have written: regular files only, and not without end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from offline_bundle.wheelhouse.runtime.disk.files import open_regular
from offline_bundle.wheelhouse.runtime.sizes import format_size

ODD_JSON = (ValueError, RecursionError, ArithmeticError)
"""What documents of jobs may raise: no JSON, nested deeply, numbers beyond every time."""

_LARGEST = 16 << 20
"""In bytes: far more than the values of a job are."""


def read_document(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Read a JSON document. Raises OSError, also for a fifo or a device, and ODD_JSON."""
    with open_regular(path, follow_links=True) as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"it is larger than {format_size(_LARGEST)}")
    return json.loads(content.decode())
