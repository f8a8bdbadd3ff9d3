"""Vulnerabilities of the packages in a bundle, merged by alias. Pure.

uses = used_packages(manifest)
findings, problems = find_vulnerabilities(uses, database.read())
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from offline_bundle.wheelhouse.audit.osv.matching import (
    fixed_versions,
    is_affected,
    parse_version,
    unusable_events,
)
from offline_bundle.wheelhouse.audit.osv.severity import worst
from offline_bundle.wheelhouse.derived.audit_result import (
    INTERPRETER,
    SEVERITIES,
    Finding,
    Package,
    Use,
)
from offline_bundle.wheelhouse.derived.requirement_graph import parse_requirement
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest

if TYPE_CHECKING:
    from packaging.version import Version

    from offline_bundle.wheelhouse.audit.osv.advisory import Advisory, Affected

_PREFERRED = ("PYSEC-", "GHSA-", "CVE-")


def used_packages(manifest: Manifest) -> dict[Package, tuple[Use, ...]]:
    """Return every package of a bundle, and the locks that have it.

    Every lock has uv, and the interpreter of its target if the bundle has one.
    """
    uses: dict[Package, list[Use]] = {
        Package(str(canonicalize_name(file.name)), file.version): []
        for file in manifest.files.values()
        if file.name and file.version
    }
    programs = {Package("uv", uv.version) for uv in manifest.uv.values()}
    for script_name, script in manifest.scripts.items():
        requirements = map(parse_requirement, script.dependencies)
        direct = {canonicalize_name(item.name) for item in requirements if item is not None}
        for target, lock in script.locks.items():
            for name, package in lock.packages.items():
                normalized = canonicalize_name(name)
                use = Use(script_name, target, normalized in direct)
                uses.setdefault(Package(str(normalized), package.version), []).append(use)
            interpreter = manifest.pythons.get(target)
            present = {Package(INTERPRETER, interpreter.version)} if interpreter else set()
            for program in programs | present:
                uses.setdefault(program, []).append(Use(script_name, target, is_direct=False))
    return {package: tuple(sorted(set(uses[package]))) for package in sorted(uses)}


def find_vulnerabilities(
    uses: Mapping[Package, tuple[Use, ...]], advisories: Iterable[Advisory]
) -> tuple[list[Finding], list[str]]:
    """Return the findings, worst first, and what could not be compared as `SUBJECT: reason`."""
    versions: dict[str, list[tuple[Package, Version]]] = defaultdict(list)
    problems = []
    for package in uses:
        version = parse_version(package.version)
        if version is None:
            problems.append(f"{package.name} {package.version}: not a version of PEP 440")
        else:
            versions[package.name].append((package, version))
    matches: dict[Package, list[Advisory]] = defaultdict(list)
    for advisory in advisories:
        if advisory.is_withdrawn:
            continue
        affecting: dict[Package, None] = {}
        for affected in advisory.affected:
            if affected.name not in versions:
                continue
            if unusable := unusable_events(affected):
                subject = f"{advisory.id}: {affected.name} {unusable[0]!r}"
                problems.append(f"{subject}: not a version of PEP 440")
            affecting |= {
                package: None
                for package, version in versions[affected.name]
                if is_affected(version, affected)
            }
        for package in affecting:
            matches[package].append(advisory)
    return merge_findings(uses, matches), problems


def merge_findings(
    uses: Mapping[Package, tuple[Use, ...]], matches: Mapping[Package, Iterable[Advisory]]
) -> list[Finding]:
    """Return the findings of *matches*, the advisories that affect each package, worst first."""
    findings = [
        _finding(package, group, uses[package])
        for package, found in matches.items()
        for group in _merge_by_alias(item for item in found if not item.is_withdrawn)
    ]
    return sorted(findings, key=_worst_first)


def _merge_by_alias(advisories: Iterable[Advisory]) -> list[list[Advisory]]:
    """Group advisories that share an id or alias, also through a third one."""
    groups: list[tuple[set[str], list[Advisory]]] = []
    for advisory in advisories:
        ids, members = {advisory.id, *advisory.aliases}, [advisory]
        separate = []
        for group in groups:
            if ids.isdisjoint(group[0]):
                separate.append(group)
            else:
                ids |= group[0]
                members = [*group[1], *members]
        groups = [*separate, (ids, members)]
    return [members for _, members in groups]


def _finding(package: Package, group: list[Advisory], uses: tuple[Use, ...]) -> Finding:
    ids = sorted({identifier for item in group for identifier in (item.id, *item.aliases)})
    first = min((item.id for item in group), key=_preference)
    severities = (worst(item.vectors, item.word) for item in group)
    severity = min(severities, key=lambda item: (SEVERITIES.index(item.rating), -(item.score or 0)))
    entries: list[Affected] = [
        affected for item in group for affected in item.affected if affected.name == package.name
    ]
    version = parse_version(package.version)
    summaries = {item.id: item.summary for item in group}
    return Finding(
        package=package,
        id=first,
        aliases=tuple(identifier for identifier in ids if identifier != first),
        summary=summaries[first] or next(filter(None, summaries.values()), ""),
        severity=severity.rating,
        score=severity.score,
        vector=severity.vector,
        fixed=fixed_versions(version, entries) if version else (),
        uses=uses,
    )


def _preference(identifier: str) -> tuple[int, str]:
    ranks = [rank for rank, prefix in enumerate(_PREFERRED) if identifier.startswith(prefix)]
    return (ranks[0] if ranks else len(_PREFERRED)), identifier


def _worst_first(finding: Finding) -> tuple[int, float, Package, str]:
    rank = SEVERITIES.index(finding.severity)
    return rank, -(finding.score or 0), finding.package, finding.id
