"""An audit as table rows, as JSON, and as SARIF 2.1.0. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from offline_bundle.wheelhouse.derived.audit_result import Accepted, Audit, Breach, Finding
from offline_bundle.wheelhouse.derived.sarif import sarif_log
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.errors import first_problems
from offline_bundle.wheelhouse.runtime.names import MANIFEST

FINDING_TITLES = ("package", "version", "id", "severity", "fixed in", "required", "needed by")
BREACH_TITLES = ("rule", "subject", "reason")
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "none": "note"}


def finding_row(finding: Finding) -> tuple[str, ...]:
    """Return a finding as the cells of `FINDING_TITLES`."""
    return (
        finding.package.name,
        finding.package.version,
        finding.id,
        finding.rating,
        finding.fix,
        finding.requirement,
        finding.needed_by,
    )


def breach_row(breach: Breach) -> tuple[str, ...]:
    """Return a breach as the cells of `BREACH_TITLES`."""
    return breach.rule, breach.subject, breach.reason


def notes(audit: Audit) -> list[str]:
    """Return what a reviewer must know beside the findings, one line each."""
    findings = audit.findings
    return [
        *(
            f"accepted until {entry.until}: {finding.id} in {finding.package.name}: {entry.reason}"
            for finding, entry in findings.accepted
        ),
        *(f"exception expired on {entry.until}: {entry.id}" for entry in findings.expired),
        *(f"exception matches nothing: {entry.id}" for entry in findings.unused),
        *(f"not checked: {problem}" for problem in first_problems(audit.unchecked)),
    ]


def to_json(audit: Audit) -> dict[str, Any]:
    """Return the audit as a JSON document."""
    findings = audit.findings
    wrong = audit.provenance.wrong if audit.provenance else {}
    return {
        "ok": audit.is_clean and not audit.unchecked and not wrong,
        "bundle": audit.bundle,
        "packages": audit.packages,
        "advisories": audit.advisories,
        "sources": list(audit.sources),
        "vulnerabilities": [_finding_json(finding) for finding in findings.open],
        "accepted": [
            {**_finding_json(finding), "exception": _exception_json(entry)}
            for finding, entry in findings.accepted
        ],
        "expired-exceptions": [_exception_json(entry) for entry in findings.expired],
        "unused-exceptions": [_exception_json(entry) for entry in findings.unused],
        "breaches": None if audit.breaches is None else [vars(item) for item in audit.breaches],
        "attestations": dataclasses.asdict(audit.provenance) if audit.provenance else None,
        "unchecked": list(audit.unchecked),
    }


def to_sarif(audit: Audit, manifest: Manifest) -> dict[str, Any]:
    """Return the audit as a SARIF document; accepted findings are suppressed results."""
    findings = [(finding, None) for finding in audit.findings.open]
    accepted = [(finding, entry) for finding, entry in audit.findings.accepted]
    breaches = audit.breaches or ()
    rules = {finding.id: finding.summary or finding.id for finding, _ in [*findings, *accepted]}
    rules |= {breach.rule: f"Rule {breach.rule} of the policy" for breach in breaches}
    results = [_finding_result(*pair, manifest) for pair in [*findings, *accepted]]
    results += [_breach_result(breach) for breach in breaches]
    notifications = [
        {"level": "error", "message": {"text": f"not checked: {problem}"}}
        for problem in audit.unchecked
    ]
    invocation = {
        "executionSuccessful": not audit.unchecked,
        "toolExecutionNotifications": notifications,
    }
    return sarif_log(rules, results, invocation)


def _finding_result(finding: Finding, entry: Accepted | None, manifest: Manifest) -> dict[str, Any]:
    package = finding.package
    fixed = f"fixed in {finding.fix}" if finding.fixed else finding.fix
    locks = {manifest.scripts[use.script].locks[use.target].lock for use in finding.uses}
    text = f"{package.name} {package.version}: {finding.summary or finding.id} ({fixed})"
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "level": _LEVELS.get(finding.severity, "warning"),
        "message": {"text": text},
        "locations": [_location(path) for path in sorted(locks) or [MANIFEST]],
        "partialFingerprints": {"package/v1": f"{package.name}@{package.version}/{finding.id}"},
    }
    if entry is not None:
        result["suppressions"] = [{"kind": "external", "justification": entry.reason}]
    return result


def _breach_result(breach: Breach) -> dict[str, Any]:
    return {
        "ruleId": breach.rule,
        "level": "error",
        "message": {"text": f"{breach.subject}: {breach.reason}"},
        "locations": [_location(MANIFEST)],
    }


def _location(path: str) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": path}}}


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "aliases": list(finding.aliases),
        "package": finding.package.name,
        "version": finding.package.version,
        "summary": finding.summary,
        "severity": finding.severity,
        "score": finding.score,
        "vector": finding.vector,
        "fixed": list(finding.fixed),
        "needed-by": [
            {"script": use.script, "target": use.target, "direct": use.is_direct}
            for use in finding.uses
        ],
    }


def _exception_json(entry: Accepted) -> Mapping[str, Any]:
    return {**vars(entry), "until": entry.until.isoformat()}
