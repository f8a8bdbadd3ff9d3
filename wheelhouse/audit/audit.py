"""One audit: what was checked, what is open, and what could not be checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.sizes import count

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.audit.exceptions import Applied
    from offline_bundle.wheelhouse.audit.policy import Breach


@dataclass(frozen=True)
class Audit:
    """The result of an audit."""

    bundle: str
    packages: int
    advisories: int | None
    """Advisories read; None if none were given: nothing was checked for vulnerabilities."""
    findings: Applied
    breaches: tuple[Breach, ...] | None
    """None if no rules were given."""
    unchecked: tuple[str, ...]
    """`SUBJECT: reason` of each advisory or version that could not be evaluated."""

    @property
    def is_clean(self) -> bool:
        """Return whether no vulnerability is open and no rule is broken."""
        return not self.findings.open and not self.breaches

    @property
    def summary(self) -> str:
        """Return one line: what was checked, and what is open."""
        parts = []
        if self.advisories is None:
            parts.append("vulnerabilities not checked (no --advisories)")
        else:
            number = len(self.findings.open)
            plural = "y" if number == 1 else "ies"
            parts.append(f"{number:,} vulnerabilit{plural}, advisories read: {self.advisories:,}")
        if self.advisories is not None and self.findings.accepted:
            parts.append(f"{len(self.findings.accepted):,} accepted")
        if self.breaches is not None:
            number = len(self.breaches)
            parts.append(f"{number:,} rule {'breach' if number == 1 else 'breaches'}")
        return f"{count(self.packages, 'package')}: {', '.join(parts)}"
