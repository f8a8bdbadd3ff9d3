"""The same versions are affected, and the same fixes named, as by pip-audit's own matching.

Of pip-audit's services only that of Ecosyste.ms matches versions itself; PyPI and OSV do it on the
server. It gets its answer here from the advisories of these tests, rewritten in its format.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version
from pip_audit._service.esms import EcosystemsService
from pip_audit._service.interface import ResolvedDependency

from offline_bundle.wheelhouse.audit.osv.database import Database
from offline_bundle.wheelhouse.audit.osv.matching import fixed_versions, is_affected, parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offline_bundle.wheelhouse.audit.osv.advisory import Affected, Event

ROOT = Path(__file__).resolve().parents[5]
DATABASES = (ROOT / "tests" / "data" / "advisories", ROOT.parent / "shared" / "data" / "advisories")
_OPERATORS = {"introduced": ">=", "fixed": "<", "last_affected": "<="}


class Answer:
    """The answer of a server, and the session that gets it."""

    def __init__(self, document: object) -> None:
        self._document = document

    def get(self, *_: object, **__: object) -> Answer:
        return self

    def raise_for_status(self) -> None:
        """Succeed."""

    def json(self) -> object:
        return self._document


def records(events: tuple[Event, ...]) -> Iterator[dict[str, Any]]:
    """Yield each span of a range: from one `introduced` to the next end."""
    span: list[Event] = []
    for event in events:
        span.append(event)
        if event.kind != "introduced":
            yield record(span)
            span = []
    if span:
        yield record(span)


def record(span: list[Event]) -> dict[str, Any]:
    clauses = [f"{_OPERATORS[event.kind]} {event.version}" for event in span]
    fixed = [event.version for event in span if event.kind == "fixed"]
    return {
        "vulnerable_version_range": ", ".join(clauses),
        **({"first_patched_version": fixed[0]} if fixed else {}),
    }


def pip_audit(affected: Affected, version: Version) -> list[str] | None:
    """Return the fixes that pip-audit names; None if it finds the version not affected."""
    packages = [
        {"package_name": affected.name, "ecosystem": "pypi", "versions": [item]}
        for events in affected.ranges
        for item in records(events)
    ]
    advisory = {"identifiers": ["T-1"], "withdrawn_at": None, "title": "t", "packages": packages}
    service = EcosystemsService.__new__(EcosystemsService)  # without its cache of HTTP answers
    service.timeout = None
    service.session = Answer([advisory])
    _, found = service.query(ResolvedDependency(affected.name, version))
    return [str(fix) for fix in found[0].fix_versions] if found else None


@pytest.mark.parametrize("folder", DATABASES, ids=["own", "sample"])
def test_every_listed_version_agrees_with_pip_audit(folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not there: real advisories beside the checkout")
    compared = 0
    for advisory in Database(folder).read():
        for affected in advisory.affected:
            if not affected.ranges or affected.name == "Python":
                continue
            if any(event.kind == "limit" for events in affected.ranges for event in events):
                continue  # of git ranges; pip-audit has no such thing
            only_ranges = type(affected)(affected.name, affected.ranges, ())
            texts = {event.version for events in affected.ranges for event in events}
            for version in filter(None, map(parse_version, {*affected.versions, *texts})):
                if version.is_prerelease or version.local:
                    continue  # SpecifierSet leaves them out, also where the advisory lists them
                compared += 1
                theirs = pip_audit(affected, version)
                assert (theirs is not None) == is_affected(version, only_ranges), (
                    advisory.id,
                    version,
                )
                if theirs:  # pip-audit names the fix of the span, this project all later ones
                    ours = [Version(text) for text in fixed_versions(version, [only_ranges])]
                    assert max(map(Version, theirs)) in ours
    assert compared > 5
