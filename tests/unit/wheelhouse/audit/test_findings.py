"""Findings: per script and target, merged by alias, with exceptions that expire."""

from __future__ import annotations

import datetime as dt

import pytest

from offline_bundle.wheelhouse.audit.findings import find_vulnerabilities, used_packages
from offline_bundle.wheelhouse.audit.osv.advisory import Advisory, Affected, Event
from offline_bundle.wheelhouse.audit.rules.exceptions import apply_exceptions, parse_exceptions
from offline_bundle.wheelhouse.derived.audit_result import Finding, Package, Use
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledPython,
    BundledScript,
    BundledTarget,
    BundledUv,
    Manifest,
)
from offline_bundle.wheelhouse.runtime.errors import InputError

ALPHA = Package("alpha", "1.0")
USES = {ALPHA: (Use("eval", "cp312", is_direct=True),)}
TODAY = dt.date(2026, 6, 1)


def advisory(
    identifier: str,
    *aliases: str,
    fixed: str = "2.0",
    severity: str = "",
    is_withdrawn: bool = False,
) -> Advisory:
    events = (Event("introduced", "0"), Event("fixed", fixed))
    affected = (Affected("alpha", (events,), ()),)
    return Advisory(identifier, aliases, "summary", is_withdrawn, (), severity, affected)


def find(*advisories: Advisory) -> list[Finding]:
    return find_vulnerabilities(USES, advisories)[0]


def test_aliases_are_merged_also_through_a_third_advisory() -> None:
    [finding] = find(
        advisory("GHSA-1", "CVE-1", fixed="1.5", severity="high"),
        advisory("PYSEC-2", "CVE-2"),
        advisory("OTHER-3", "CVE-1", "CVE-2"),
    )
    assert finding.id == "PYSEC-2"
    assert finding.aliases == ("CVE-1", "CVE-2", "GHSA-1", "OTHER-3")
    assert finding.severity == "high"
    assert finding.fixed == ("2.0",)


def test_a_withdrawn_advisory_is_left_out() -> None:
    assert find(advisory("T-1", is_withdrawn=True)) == []


def test_the_worst_comes_first() -> None:
    findings = find(advisory("T-1", severity="low"), advisory("T-2", severity="critical"))
    assert [finding.id for finding in findings] == ["T-2", "T-1"]


def test_what_cannot_be_compared_is_named() -> None:
    uses = {ALPHA: (), Package("beta", "2004-legacy"): ()}
    findings, problems = find_vulnerabilities(uses, [advisory("T-1", fixed="r12b")])
    assert findings == []
    assert problems == [
        "beta 2004-legacy: not a version of PEP 440",
        "T-1: alpha 'r12b': not a version of PEP 440",
    ]


def test_packages_are_listed_per_script_and_target() -> None:
    wheel = "wheels/alpha-1.0-py3-none-any.whl"
    lock = BundledLock("lock", "req", None, {"alpha": BundledPackage("1.0", wheel)})
    scripts = {
        name: BundledScript(name, "", dependencies, None, "", {"cp312": lock})
        for name, dependencies in (("a", ("Alpha>=1",)), ("b", ("beta",)))
    }
    unused = BundledFile(None, None, name="Gamma", version="3")
    manifest = Manifest(
        "tests",
        "2026-01-01T00:00:00Z",
        scripts,
        {"cp312": BundledTarget("3.12", "x86_64-manylinux_2_28")},
        files={"wheels/gamma-3-py3-none-any.whl": unused},
    )
    assert used_packages(manifest) == {
        ALPHA: (Use("a", "cp312", is_direct=True), Use("b", "cp312", is_direct=False)),
        Package("gamma", "3"): (),
    }


def test_uv_and_interpreters_are_packages_of_every_lock() -> None:
    lock = BundledLock("lock", "requirements", None, {})
    script = BundledScript("scripts/a.py", "0" * 64, (), None, "0" * 64, {"cp312": lock})
    manifest = Manifest(
        "tests",
        "2026-01-01T00:00:00Z",
        {"a": script},
        {"cp312": BundledTarget("3.12", "x86_64-manylinux_2_28")},
        uv={"x86_64-manylinux_2_17": BundledUv("0.5.0", "uv/x86_64-manylinux_2_17/uv")},
        pythons={"cp312": BundledPython("3.12.1", "cpython", "python/20240107/x.tar.gz")},
    )
    use = Use("a", "cp312", is_direct=False)
    uses = used_packages(manifest)
    assert uses == {Package("Python", "3.12.1"): (use,), Package("uv", "0.5.0"): (use,)}
    versions = Affected("Python", (), ("3.12.0", "3.12.1"))
    commits = (Event("introduced", "0"), Event("fixed", "2ada64d2a073f85f"))
    advisories = [
        Advisory("PSF-1", (), "", is_withdrawn=False, vectors=(), word="", affected=(versions,)),
        Advisory(
            "PSF-2",
            (),
            "",
            is_withdrawn=False,
            vectors=(),
            word="",
            affected=(Affected("Python", (commits,), ()),),
        ),
    ]
    findings, problems = find_vulnerabilities(uses, advisories)
    assert [(item.id, item.package.name, item.requirement) for item in findings] == [
        ("PSF-1", "Python", "indirectly")
    ]
    assert problems == ["PSF-2: Python '2ada64d2a073f85f': not a version of PEP 440"]


def exception(until: str, identifier: str = "CVE-1", package: str = "alpha") -> str:
    return (
        f'[[exception]]\nid = "{identifier}"\npackage = "{package}"\n'
        f'reason = "unreachable"\nuntil = {until}\n'
    )


@pytest.mark.parametrize(("until", "is_open"), [("2026-06-01", False), ("2026-05-31", True)])
def test_an_exception_holds_until_the_end_of_its_last_day(until: str, *, is_open: bool) -> None:
    entries = parse_exceptions(exception(until), "exceptions.toml")
    applied = apply_exceptions(find(advisory("T-1", "CVE-1")), entries, TODAY)
    assert bool(applied.open) is is_open
    assert bool(applied.accepted) is not is_open
    assert bool(applied.expired) is is_open
    assert applied.unused == ()


@pytest.mark.parametrize("changed", [{"identifier": "CVE-9"}, {"package": "beta"}])
def test_an_exception_for_something_else_is_unused(changed: dict[str, str]) -> None:
    entries = parse_exceptions(exception("2026-12-31", **changed), "exceptions.toml")
    applied = apply_exceptions(find(advisory("T-1", "CVE-1")), entries, TODAY)
    assert len(applied.open) == len(applied.unused) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[[exception",
        "exception = 1",
        "other = 1",
        '[[exception]]\nid = "T-1"\nuntil = 2026-12-31\n',
        '[[exception]]\nid = "T-1"\nreason = "r"\n',
        '[[exception]]\nid = "T-1"\nreason = "r"\nuntil = "2026-12-31"\n',
        '[[exception]]\nid = "T-1"\nreason = " "\nuntil = 2026-12-31\n',
        '[[exception]]\nid = "T-1"\nreason = "r"\nuntil = 2026-12-31\nuntill = 1\n',
    ],
)
def test_a_faulty_exception_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match=r"exceptions\.toml"):
        parse_exceptions(text, "exceptions.toml")
