from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.model import FileEntry, JobEntry

if TYPE_CHECKING:
    from pathlib import Path


def page_data(page: Path) -> dict[str, Any]:
    """Return what a results page shows."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    document: dict[str, Any] = json.loads(found[1])
    return document


def job(number: int, state: str = "done", **changes: object) -> JobEntry:
    name = f"job-{number:04}"
    given: dict[str, object] = {
        "job": name,
        "state": state,
        "seconds": float(number),
        "values": {"thickness": number / 10, "material": "steel" if number % 2 else "wood"},
        "files": (FileEntry(f"{name}/plot.png", 1000),),
    }
    return JobEntry(**(given | changes))  # type: ignore[arg-type]
