"""Decide whether an advisory affects a version: OSV's evaluation with PEP 440 order. Pure.

    is_affected(Version("2.1"), affected)
    fixed_versions(Version("2.1"), [affected])      # ("2.1.4", "3.0.2")

The algorithm is that of https://ossf.github.io/osv-schema/#evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_version
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.audit.osv.advisory import Affected, Event

_FROM_THE_START = "0"
_NO_LIMIT = "*"
_RANK = {"introduced": 0, "last_affected": 1, "fixed": 2}
"""Order of events at one version: a fix there ends what was introduced there."""


@lru_cache(maxsize=200_000)
def parse_version(text: str) -> Version | None:
    """Parse a version of PEP 440; None for a version that is older than that standard."""
    try:
        return Version(text)
    except ValueError:  # InvalidVersion, or more digits than int() takes
        return None


def is_affected(version: Version, affected: Affected) -> bool:
    """Return whether *version* is in a range or in the list of *affected*.

    An event whose version is not of PEP 440 makes its range unusable: see `unusable_events`.
    """
    return any(_in_range(version, events) for events in affected.ranges) or _is_listed(
        version, affected.versions
    )


def unusable_events(affected: Affected) -> list[str]:
    """Return the versions of events that PEP 440 cannot order."""
    return [
        event.version for events in affected.ranges for event in events if not _is_usable(event)
    ]


def fixed_versions(version: Version, affected: Iterable[Affected]) -> tuple[str, ...]:
    """Return the later versions that fix it, ascending: those that no entry of *affected* affects.

    All entries must be of one package.
    """
    entries = list(affected)
    candidates = {
        parsed
        for entry in entries
        for events in entry.ranges
        for event in events
        if event.kind == "fixed" and (parsed := parse_version(event.version)) and parsed > version
    }
    return tuple(
        str(candidate)
        for candidate in sorted(candidates)
        if not any(is_affected(candidate, entry) for entry in entries)
    )


def _in_range(version: Version, events: tuple[Event, ...]) -> bool:
    if not all(map(_is_usable, events)):
        return False
    is_in = False
    ordered = sorted(
        (event for event in events if event.kind != "limit"),
        key=lambda event: (_begin(event), _RANK[event.kind]),
    )
    for event in ordered:
        if event.kind == "introduced" and (_is_start(event) or _reaches(version, event.version)):
            is_in = True
        elif event.kind != "introduced" and _ends(version, event):
            is_in = False
    return is_in and _is_before_limits(version, events)


def _is_before_limits(version: Version, events: tuple[Event, ...]) -> bool:
    limits = [event.version for event in events if event.kind == "limit"]
    return not limits or any(limit == _NO_LIMIT or not _reaches(version, limit) for limit in limits)


def _is_listed(version: Version, listed: tuple[str, ...]) -> bool:
    # why sets of texts: a database lists millions of versions, most of them many times
    wanted = {_canonical(str(version)), _canonical(version.public)}
    return not wanted.isdisjoint(map(_canonical, listed))


@lru_cache(maxsize=200_000)
def _canonical(text: str) -> str:
    """Return one text for all equal versions; a version not of PEP 440 stays as it is."""
    try:
        return canonicalize_version(text)
    except ValueError:  # more digits than int() takes
        return text


def _is_usable(event: Event) -> bool:
    is_limit = event.kind == "limit" and event.version == _NO_LIMIT
    return is_limit or parse_version(event.version) is not None


def _begin(event: Event) -> tuple[int, Version]:
    """Return the sort key of an event: `introduced: "0"` comes before every version."""
    return (0 if _is_start(event) else 1), _parsed(event.version)


def _ends(version: Version, event: Event) -> bool:
    """Return whether *version* is behind the end that a `fixed` or `last_affected` event sets."""
    if event.kind == "fixed":
        return _reaches(version, event.version)
    other = _parsed(event.version)
    return _comparable(version, other) > other


def _is_start(event: Event) -> bool:
    return event.kind == "introduced" and event.version == _FROM_THE_START


def _reaches(version: Version, text: str) -> bool:
    other = _parsed(text)
    return _comparable(version, other) >= other


def _comparable(version: Version, other: Version) -> Version:
    """Return *version* without its local part, unless *other* has one: as PEP 440 compares.

    2.1.0+cpu is a build of 2.1.0, and affected where that is.
    """
    if version.local is None or other.local is not None:
        return version
    return _parsed(version.public)


def _parsed(text: str) -> Version:
    version = parse_version(text)
    if version is None:
        raise InvalidVersion(text)
    return version
