"""The result of an audit: findings, exceptions and rule breaches, as frozen dataclasses. Pure.

The report and the SBOM show it, so it is below them; `wheelhouse.audit` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.bundle.manifest import Publisher
from offline_bundle.wheelhouse.runtime.sizes import count

if TYPE_CHECKING:
    import datetime as dt


INTERPRETER = "Python"
"""Name of CPython as a package; no name of an index has a capital letter."""
SEVERITIES = ("critical", "high", "medium", "low", "none", "unknown")
"""From the worst on. An unknown severity is not a low one; it is listed last."""


@dataclass(frozen=True, order=True)
class Package:
    """A package of a bundle at one version."""

    name: str
    """Normalized; `INTERPRETER` for a Python of the bundle."""
    version: str


@dataclass(frozen=True, order=True)
class Use:
    """A lock that has a package."""

    script: str
    target: str
    is_direct: bool
    """True if the script itself names the package in its dependencies."""


@dataclass(frozen=True)
class Finding:
    """A vulnerability of one package at one version."""

    package: Package
    id: str
    aliases: tuple[str, ...]
    """All other ids of the same vulnerability, sorted."""
    summary: str
    severity: str
    """One of `SEVERITIES`."""
    score: float | None
    vector: str | None
    """The CVSS vector that *score* is from."""
    fixed: tuple[str, ...]
    """Later versions that fix it, ascending; empty if none is known."""
    uses: tuple[Use, ...]
    """Empty if no lock has the package."""

    @property
    def ids(self) -> frozenset[str]:
        """Return all ids of the vulnerability."""
        return frozenset((self.id, *self.aliases))

    @property
    def rating(self) -> str:
        """Return the severity and, if it is known, the score: `high 7.5`."""
        return self.severity if self.score is None else f"{self.severity} {self.score:.1f}"

    @property
    def fix(self) -> str:
        """Return the versions that fix it, as text."""
        return ", ".join(self.fixed) or "no fix known"

    @property
    def requirement(self) -> str:
        """Return whether a script requires the package directly."""
        if not self.uses:
            return "unused"
        return "directly" if any(use.is_direct for use in self.uses) else "indirectly"

    @property
    def needed_by(self) -> str:
        """Return each script with its targets: `eval (cp312-..., cp313-...)`."""
        targets: dict[str, list[str]] = {}
        for use in self.uses:
            targets.setdefault(use.script, []).append(use.target)
        texts = [f"{script} ({', '.join(names)})" for script, names in sorted(targets.items())]
        return ", ".join(texts) or "unused"


@dataclass(frozen=True)
class Accepted:
    """One exception: a vulnerability that is accepted until a day."""

    id: str
    reason: str
    until: dt.date
    """The last day on which it holds."""
    package: str | None = None
    """Normalized; None for every package."""

    def matches(self, finding: Finding) -> bool:
        """Return whether the exception is for *finding*, expired or not."""
        return self.id in finding.ids and self.package in {None, finding.package.name}


@dataclass(frozen=True)
class Applied:
    """Findings divided by exceptions."""

    open: tuple[Finding, ...] = ()
    """Findings without an exception that holds."""
    accepted: tuple[tuple[Finding, Accepted], ...] = ()
    expired: tuple[Accepted, ...] = ()
    """Exceptions that would match an open finding, but have expired."""
    unused: tuple[Accepted, ...] = ()
    """Exceptions that match no finding."""


@dataclass(frozen=True)
class Breach:
    """One rule that something in a bundle does not keep."""

    rule: str
    """The key in the rules file."""
    subject: str
    """A package with its version, or what else breaks the rule."""
    reason: str


@dataclass(frozen=True)
class Provenance:
    """What the attestations prove about the wheels of a bundle, by their paths."""

    verified: Mapping[str, Publisher]
    wrong: Mapping[str, str]
    """Reasons: there is an attestation, and it does not hold."""
    absent: tuple[str, ...]
    """Wheels without an attestation."""
    unverified: str | None = None
    """Why nothing could be verified here; then *verified* and *wrong* are empty."""

    def state(self, path: str) -> str:
        """Return the state of a wheel: verified, wrong, absent, or not verified."""
        if path in self.verified:
            return "verified"
        if path in self.wrong:
            return "wrong"
        return "absent" if path in self.absent else "not verified"


@dataclass(frozen=True)
class Audit:
    """What was checked, what is open, and what could not be checked."""

    bundle: str
    packages: int
    """Packages in the bundle, with uv and interpreters."""
    day: dt.date
    """The day of the audit (UTC)."""
    sources: tuple[str, ...] = ()
    """Where the advisories are from; empty: nothing was checked for vulnerabilities."""
    advisories: int | None = None
    """Advisories read; None if *sources* is empty."""
    findings: Applied = field(default_factory=Applied)
    breaches: tuple[Breach, ...] | None = None
    """None if no rules were given."""
    provenance: Provenance | None = None
    """None if no attestation was verified."""
    unchecked: tuple[str, ...] = ()
    """`SUBJECT: reason` of each advisory or package that could not be evaluated."""

    @property
    def is_clean(self) -> bool:
        """Return whether no vulnerability is open and no rule is broken."""
        return not self.findings.open and not self.breaches

    @property
    def summary(self) -> str:
        """Return one line: what was checked, and what is open."""
        parts = []
        if not self.sources:
            parts.append("vulnerabilities not checked")
        else:
            number = len(self.findings.open)
            plural = "y" if number == 1 else "ies"
            parts.append(
                f"{number:,} vulnerabilit{plural}, advisories read: {self.advisories or 0:,}"
            )
        if self.findings.accepted:
            parts.append(f"{len(self.findings.accepted):,} accepted")
        if self.breaches is not None:
            number = len(self.breaches)
            parts.append(f"{number:,} rule {'breach' if number == 1 else 'breaches'}")
        return f"{count(self.packages, 'package')}: {', '.join(parts)}"

    def by_severity(self) -> dict[str, int]:
        """Return the number of open findings of each severity, the worst first, without zeros."""
        severities = [finding.severity for finding in self.findings.open]
        counts = {severity: severities.count(severity) for severity in SEVERITIES}
        return {severity: number for severity, number in counts.items() if number}
