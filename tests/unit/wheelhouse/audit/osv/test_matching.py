"""Versions against ranges and lists, and agreement with a reference written from the OSV schema."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import InvalidVersion, Version

from offline_bundle.wheelhouse.audit.osv.advisory import Affected, Event, parse_advisory
from offline_bundle.wheelhouse.audit.osv.matching import (
    fixed_versions,
    is_affected,
    parse_version,
    unusable_events,
)

ROOT = Path(__file__).resolve().parents[5]
OWN = ROOT / "tests" / "data" / "advisories"
SAMPLE = ROOT.parent / "shared" / "data" / "advisories"


def entry(*events: tuple[str, str], versions: tuple[str, ...] = ()) -> Affected:
    ranges = (tuple(Event(*event) for event in events),) if events else ()
    return Affected("alpha", ranges, versions)


@pytest.mark.parametrize(
    ("version", "events", "expected"),
    [
        ("1.0", [("introduced", "0")], True),
        ("0.dev1", [("introduced", "0")], True),
        ("1.2", [("introduced", "0"), ("fixed", "1.2")], False),
        ("1.2rc1", [("introduced", "0"), ("fixed", "1.2")], True),
        ("1.2", [("introduced", "0"), ("last_affected", "1.2")], True),
        ("1.2.post1", [("introduced", "0"), ("last_affected", "1.2")], False),
        ("1.10", [("introduced", "0"), ("fixed", "1.9")], False),
        ("1!1.0", [("introduced", "0"), ("fixed", "2.0")], False),
        ("2.0", [("fixed", "1.0"), ("introduced", "0"), ("introduced", "2")], True),
        ("1.5", [("fixed", "1.0"), ("introduced", "0"), ("introduced", "2")], False),
        ("1.0", [("introduced", "1.0"), ("fixed", "1.0")], False),
        ("2.1.0+cpu", [("introduced", "0"), ("last_affected", "2.1")], True),
        ("2.1.0+cpu", [("introduced", "0"), ("fixed", "2.1")], False),
        ("1.0+security1", [("introduced", "0"), ("fixed", "1.0+security1")], False),
        ("3.0", [("introduced", "0"), ("limit", "3")], False),
        ("2.9", [("introduced", "0"), ("limit", "3")], True),
        ("3.0", [("introduced", "0"), ("limit", "3"), ("limit", "*")], True),
        ("1.0", [("introduced", "0"), ("fixed", "not-a-version")], False),
    ],
)
def test_a_version_is_in_a_range(
    version: str, events: list[tuple[str, str]], *, expected: bool
) -> None:
    assert is_affected(Version(version), entry(*events)) is expected


def test_a_listed_version_is_affected_in_every_spelling() -> None:
    listed = entry(versions=("1.0", "2.0-RC1", "2004-legacy", "9" * 5000))
    assert is_affected(Version("1.0.0"), listed)
    assert is_affected(Version("2.0rc1"), listed)
    assert is_affected(Version("1.0+local"), listed)
    assert not is_affected(Version("2004"), listed)


def test_a_fixed_version_is_one_that_no_entry_affects() -> None:
    first = entry(("introduced", "0"), ("fixed", "1.2"), ("introduced", "2"), ("fixed", "2.1"))
    second = entry(("introduced", "0"), ("fixed", "1.3"))
    assert fixed_versions(Version("1.0"), [first, second]) == ("1.3", "2.1")
    assert fixed_versions(Version("1.0"), [entry(("introduced", "0"))]) == ()


@pytest.mark.parametrize("text", ["9" * 5000, f"1.{'9' * 5000}", f"{'9' * 5000}!1", "1.0 beta x"])
def test_a_version_that_cannot_be_parsed_is_none(text: str) -> None:
    assert parse_version(text) is None


def test_events_that_cannot_be_ordered_are_named() -> None:
    assert unusable_events(entry(("introduced", "0"), ("fixed", "r12b"), ("limit", "*"))) == [
        "r12b"
    ]


order = cache(Version)


def reference(version: Version, affected: dict[str, Any]) -> bool:
    """IsVulnerable of https://ossf.github.io/osv-schema/#evaluation, line by line."""
    if str(version) in affected.get("versions", []):
        return True
    for item in affected.get("ranges", []):
        if item["type"] == "GIT":
            continue
        pairs = [pair for event in item["events"] for pair in event.items()]
        # sorted by version; "0" is before all versions
        pairs.sort(key=lambda pair: (pair[1] != "0", order(pair[1])))
        vulnerable = False
        for kind, text in pairs:
            if kind == "introduced" and (text == "0" or version >= order(text)):
                vulnerable = True
            if kind == "fixed" and version >= order(text):
                vulnerable = False
            if kind == "last_affected" and version > order(text):
                vulnerable = False
        limits = [text for kind, text in pairs if kind == "limit"]
        if vulnerable and (not limits or any(version < order(text) for text in limits)):
            return True
    return False


def disagreements(folder: Path) -> tuple[int, list[str]]:
    """Compare every advisory with every version of its package that the folder names."""
    documents = [
        yaml.load(path.read_text(), Loader=yaml.BaseLoader)
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".yaml", ".json"}
    ]
    pairs = [
        (document["id"], affected, ours)
        for document in documents
        for affected, ours in zip(
            [item for item in document["affected"] if item["package"]["ecosystem"] == "PyPI"],
            parse_advisory(document).affected,
            strict=True,
        )
    ]
    versions: dict[str, set[Version]] = {}
    for _, affected, ours in pairs:
        events = [event for item in affected.get("ranges", []) for event in item["events"]]
        texts = [*affected.get("versions", []), *(v for event in events for v in event.values())]
        versions.setdefault(ours.name, set()).update(filter(None, map(parsed, texts)))
    compared, differing = 0, []
    for identifier, affected, ours in pairs:
        for version in sorted(versions[ours.name]):
            compared += 1
            if is_affected(version, ours) != reference(version, affected):
                differing.append(f"{identifier} {ours.name} {version}")
    return compared, differing


def parsed(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def test_agrees_with_the_reference_on_the_own_advisories() -> None:
    compared, differing = disagreements(OWN)
    assert compared > 0
    assert differing == []


@pytest.mark.skipif(
    not SAMPLE.is_dir(), reason="the sample of real advisories is not beside the project"
)
def test_agrees_with_the_reference_on_real_advisories() -> None:
    compared, differing = disagreements(SAMPLE)
    assert compared > 1000
    assert differing == []
