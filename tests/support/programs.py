"""System programs that tests start, and one report for all that are missing."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest

HINT = "install it with: make system-packages"
_LIST = Path(__file__).parents[2] / "tools" / "system-packages.txt"
_OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}


def find(name: str) -> str | None:
    """Return the path of a program, or None.

    Daemons are in `sbin` folders, which users other than root rarely have on PATH.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    siblings = [f"{folder[:-3]}sbin" for folder in folders if folder.endswith("/bin")]
    path = os.pathsep.join([*folders, *siblings])
    names = (name, *_OTHER_NAMES.get(name, ()))
    return next(filter(None, (shutil.which(each, path=path) for each in names)), None)


def require(*names: str) -> str:
    """Return the path of the first program; skip the test if one is missing, and fail it in CI."""
    paths = {name: find(name) for name in names}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        _check_listed(missing)
        # CI installs every package of the list: there, a missing program is an error.
        _skip_or_fail(f"{', '.join(missing)}: not installed; {HINT}")
    return paths[names[0]] or ""


@cache
def listed() -> frozenset[str]:
    """Return every program that a package of tools/system-packages.txt provides."""
    lines = [line.split() for line in _LIST.read_text(encoding="utf-8").splitlines()]
    return frozenset(name for words in lines if words and words[0] != "#" for name in words[1:])


def _check_listed(missing: list[str]) -> None:
    unlisted = sorted(set(missing) - listed())
    assert not unlisted, f"not in {_LIST.name}: {', '.join(unlisted)}"


def _skip_or_fail(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def summarize(skipped: list[object]) -> str:
    """Return one line on the tests that were skipped for missing programs, or an empty string.

    *skipped* holds pytest's reports; the reason of each is in `longrepr`.
    """
    counts: dict[str, int] = {}
    for report in skipped:
        reason = str(getattr(report, "longrepr", ""))
        if HINT in reason:
            names = reason.partition("Skipped: ")[2].partition(": not installed")[0]
            counts[names] = counts.get(names, 0) + 1
    if not counts:
        return ""
    each = "; ".join(f"{names}: {count}" for names, count in sorted(counts.items()))
    return (
        f"{sum(counts.values())} tests were skipped for missing programs ({each}). "
        "Install all of them with: make system-packages"
    )
