"""Rules of a site, each broken and kept."""

from __future__ import annotations

import datetime as dt

import pytest

from offline_bundle.wheelhouse.audit.criteria import repair_hint
from offline_bundle.wheelhouse.audit.rules.licences import Licences
from offline_bundle.wheelhouse.audit.rules.policy import (
    find_breaches,
    find_exception_breaches,
    parse_rules,
)
from offline_bundle.wheelhouse.derived.audit_result import Accepted, Audit, Breach
from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest, Source
from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.report_cases import audit

WHEEL = "wheels/alpha-1.0-py3-none-any.whl"
INDEX = Source(index="https://packages.example.org/simple/")
TODAY = dt.date(2026, 6, 1)


def breaches(
    rules: str, *, licence: str = "MIT", source: Source | None = INDEX, size: int = 1000
) -> list[Breach]:
    file = BundledFile(None, size // 2, name="Alpha", version="1.0", source=source)
    wheels = (WHEEL, WHEEL.replace("none-any", "none-linux_x86_64"))
    manifest = Manifest("tests", "2026-01-01T00:00:00Z", files=dict.fromkeys(wheels, file))
    metadata = dict.fromkeys(wheels, WheelMetadata("alpha", "1.0", licence=licence))
    exceptions = [Accepted("T-1", "reason", dt.date(2026, 12, 31))]
    parsed = parse_rules(rules, "rules.toml")
    found = find_breaches(parsed, manifest, metadata)
    return [*found, *find_exception_breaches(parsed, exceptions, TODAY)]


@pytest.mark.parametrize(
    ("licence", "rule"),
    [
        ("MIT", None),
        ("mit", None),
        ("MIT OR GPL-3.0-only", None),
        ("MIT AND GPL-3.0-only", "allowed-licences"),
        ("MIT AND (BSD-3-Clause OR AGPL-3.0-only)", None),
        ("AGPL-3.0-only", "denied-licences"),
        ("AGPL-3.0-only AND MIT", "denied-licences"),
        ("AGPL-3.0-only WITH Classpath-exception-2.0", "denied-licences"),
        ("BSD License", None),
        ("Proprietary", "allowed-licences"),
        ("(MIT", "allowed-licences"),
        ("", "allowed-licences"),
    ],
)
def test_licences(licence: str, rule: str | None) -> None:
    licences = Licences(("MIT", "BSD-3-Clause", "BSD License"), ("AGPL-3.0-only",))
    problem = licences.problem(licence)
    assert (problem[0] if problem else None) == rule


def test_a_package_with_two_wheels_breaks_a_rule_once() -> None:
    assert breaches('denied-licences = ["MIT"]') == [
        Breach("denied-licences", "alpha 1.0", "licence MIT")
    ]


def test_the_hint_is_for_what_was_found() -> None:
    broken = Audit("b", 1, TODAY, breaches=(Breach("denied-licences", "alpha 1.0", "licence MIT"),))
    assert repair_hint(broken, "nothing was written") == (
        "build a bundle that keeps the rules; nothing was written"
    )
    both = repair_hint(audit())
    assert both.startswith("build with fixed versions, or accept a vulnerability with --exceptions")
    assert both.endswith("; build a bundle that keeps the rules")


def test_a_denied_licence_alone_allows_the_others() -> None:
    licences = Licences(None, ("AGPL-3.0-only",))
    assert [licences.problem(text) for text in ("", "Proprietary", "GPL-2.0-only")] == [None] * 3


def test_an_allowed_exception_overrides_the_denied_licence() -> None:
    text = "GPL-2.0-only WITH Classpath-exception-2.0"
    assert Licences((text,), ("GPL-2.0-only",)).problem(text) is None


@pytest.mark.parametrize(
    ("rules", "source", "rule"),
    [
        ('denied-packages = ["ALPHA"]', INDEX, "denied-packages"),
        ('denied-packages = ["alpha<2"]', INDEX, "denied-packages"),
        ('denied-packages = ["alpha<1", "beta"]', INDEX, None),
        ('allowed-indexes = ["https://packages.example.org/simple"]', INDEX, None),
        ('allowed-indexes = ["https://other.example.org/"]', INDEX, "allowed-indexes"),
        ('allowed-indexes = ["https://other.example.org/"]', None, "allowed-indexes"),
        ("allow-built = false", INDEX, None),
        ("allow-built = false", Source(index=INDEX.index, built_from="0" * 64), "allow-built"),
        ("allow-built = false", Source(git="https://git.example.org/a"), "allow-built"),
        ("allow-built = false", None, "allow-built"),
        ('maximum-size = "1K"', INDEX, None),
        ('maximum-size = "999"', INDEX, "maximum-size"),
        ("maximum-exception-days = 213", INDEX, None),
        ("maximum-exception-days = 212", INDEX, "maximum-exception-days"),
        ('allowed-licences = ["BSD-3-Clause"]', INDEX, "allowed-licences"),
        ("", INDEX, None),
    ],
)
def test_each_rule(rules: str, source: Source | None, rule: str | None) -> None:
    assert [breach.rule for breach in breaches(rules, source=source)] == ([rule] if rule else [])


@pytest.mark.parametrize(
    "text",
    [
        "allowed-licenses = []",
        "attestations-required = true",
        "allow-built = 0",
        'maximum-size = "large"',
        "maximum-size = 1",
        "maximum-exception-days = true",
        "maximum-exception-days = -1",
        'denied-packages = ["alpha; extra == 1"]',
        'denied-packages = ["alpha[x]"]',
        'denied-packages = "alpha"',
        "[",
        f"allow-built = {'9' * 5000}",
        f"allow-built = {'[' * 30_000}",
    ],
    ids=lambda text: text[:40],
)
def test_a_faulty_rule_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match=r"rules\.toml"):
        parse_rules(text, "rules.toml")
