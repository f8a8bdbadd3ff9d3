from __future__ import annotations

from offline_bundle.runner.model import FileEntry, JobEntry


def job(number: int, state: str = "evaluated", **changes: object) -> JobEntry:
    name = f"job-{number:04}"
    given: dict[str, object] = {
        "name": name,
        "state": state,
        "seconds": float(number),
        "values": {"thickness": number / 10, "material": "steel" if number % 2 else "wood"},
        "files": (FileEntry(f"{name}/plot.png", 1000),),
    }
    return JobEntry(**(given | changes))  # type: ignore[arg-type]
