"""The `vulnerabilities` of an SBOM: the findings of an audit in CycloneDX 1.6. Pure.

An accepted finding has an analysis with the reason of its exception. Ratings have the CVSS vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from cyclonedx.model.impact_analysis import ImpactAnalysisState
from cyclonedx.model.vulnerability import (
    BomTarget,
    Vulnerability,
    VulnerabilityAnalysis,
    VulnerabilityRating,
    VulnerabilityReference,
    VulnerabilityScoreSource,
    VulnerabilitySeverity,
    VulnerabilitySource,
)

from offline_bundle.wheelhouse.derived.audit_result import Accepted, Audit, Finding, Package

_METHODS = {
    "CVSS:4.0": VulnerabilityScoreSource.CVSS_V4,
    "CVSS:3.1": VulnerabilityScoreSource.CVSS_V3_1,
    "CVSS:3.0": VulnerabilityScoreSource.CVSS_V3,
}


def vulnerabilities(
    audit: Audit, references: Mapping[Package, list[str]]
) -> Iterator[Vulnerability]:
    """Yield each finding; *references* has the components of each package, by bom-ref."""
    findings = [(finding, None) for finding in audit.findings.open]
    for finding, accepted in [*findings, *audit.findings.accepted]:
        package = finding.package
        yield Vulnerability(
            bom_ref=f"{finding.id}/{package.name}@{package.version}",
            id=finding.id,
            source=_source(finding.id),
            references=[
                VulnerabilityReference(id=alias, source=_source(alias)) for alias in finding.aliases
            ],
            ratings=[_rating(finding)],
            description=finding.summary or None,
            recommendation=f"Fixed in: {finding.fix}",
            affects=[BomTarget(ref=reference) for reference in references.get(package, [])],
            analysis=_analysis(accepted),
        )


def _source(identifier: str) -> VulnerabilitySource:
    """Return the database of an id: CVE, GHSA, PYSEC."""
    return VulnerabilitySource(name=identifier.partition("-")[0])


def _rating(finding: Finding) -> VulnerabilityRating:
    severity = VulnerabilitySeverity(finding.severity)
    if finding.score is None or finding.vector is None:
        return VulnerabilityRating(severity=severity)
    return VulnerabilityRating(
        severity=severity,
        score=Decimal(str(finding.score)),
        method=_METHODS.get(finding.vector[:8], VulnerabilityScoreSource.CVSS_V2),
        vector=finding.vector,
    )


def _analysis(accepted: Accepted | None) -> VulnerabilityAnalysis | None:
    if accepted is None:
        return None
    return VulnerabilityAnalysis(
        # why not not_affected: the reason is the site's, in its own words
        state=ImpactAnalysisState.IN_TRIAGE,
        detail=f"accepted until {accepted.until}: {accepted.reason}",
    )
