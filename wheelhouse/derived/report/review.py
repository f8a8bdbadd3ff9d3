"""The top of the report: known vulnerabilities, provenance, rules, and changes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from offline_bundle.wheelhouse.derived.audit_result import Audit
from offline_bundle.wheelhouse.derived.wheel_metadata import wheel_name, wheel_paths
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, Publisher
from offline_bundle.wheelhouse.runtime.sizes import count

COLOURS = {"critical": "bad", "high": "bad", "medium": "warn", "low": "plain"}
"""Severity -> colour; warn for the others."""
Badge = tuple[str, str]
"""Colour and text."""


@dataclass(frozen=True)
class Verdict:
    """One line at the top of the page."""

    label: str
    target: str
    """Id of the section with the details."""
    badges: tuple[Badge, ...]


@dataclass(frozen=True)
class Published:
    """The publisher of the wheels of one version of a package."""

    name: str
    version: str
    publisher: Publisher | None
    state: str
    """verified, wrong, absent, or not verified."""
    wheels: int


def verdicts(
    manifest: Manifest, audit: Audit | None, changed_packages: int | None
) -> list[Verdict]:
    """Return the lines; *changed_packages* is None without a bundle before."""
    changes = "first bundle"
    if changed_packages is not None:
        changes = f"{count(changed_packages, 'package')} changed"
    return [
        Verdict("Vulnerabilities", "vulnerabilities", tuple(_vulnerability_badges(audit))),
        Verdict("Rules", "rules", (_rules_badge(audit),)),
        Verdict("Provenance", "provenance", tuple(_provenance_badges(manifest, audit))),
        Verdict("Changes", "changes", (("plain", changes),)),
    ]


def publishers(manifest: Manifest, audit: Audit | None) -> list[Published]:
    """Return the publisher of each package; packages without one come first.

    The state is that of the build, or of *audit* if it verified the attestations again.
    """
    provenance = audit.provenance if audit else None
    wheels: Mapping[tuple[str, str, Publisher | None, str], list[str]] = defaultdict(list)
    for path in wheel_paths(manifest):
        file = manifest.files[path]
        state = "verified" if file.publisher else "absent"
        state = provenance.state(path) if provenance else state
        wheels[wheel_name(path, file), file.version or "", file.publisher, state].append(path)
    found = [Published(*key, wheels=len(paths)) for key, paths in wheels.items()]
    return sorted(
        found, key=lambda item: (item.state == "verified", item.state, item.name, item.version)
    )


def severity_colour(severity: str) -> str:
    """Return the colour of a severity."""
    return COLOURS.get(severity, "warn")


def _vulnerability_badges(audit: Audit | None) -> Iterator[Badge]:
    if audit is None or not audit.sources:
        yield "warn", "not checked"
        return
    for severity, number in audit.by_severity().items():
        text = "of unknown severity" if severity == "unknown" else severity
        yield severity_colour(severity), f"{number} {text}"
    if not audit.findings.open:
        yield "good", "none known"
    if audit.findings.accepted:
        yield "plain", f"{len(audit.findings.accepted)} accepted"
    if audit.unchecked:
        yield "warn", f"{len(audit.unchecked)} not checked"


def _rules_badge(audit: Audit | None) -> Badge:
    if audit is None or audit.breaches is None:
        return "plain", "not checked"
    return ("bad", f"{len(audit.breaches)} broken") if audit.breaches else ("good", "kept")


def _provenance_badges(manifest: Manifest, audit: Audit | None) -> Iterator[Badge]:
    wheels = wheel_paths(manifest)
    attested = sum(manifest.files[path].publisher is not None for path in wheels)
    provenance = audit.provenance if audit else None
    if provenance and provenance.wrong:
        yield "bad", f"{len(provenance.wrong)} wrong"
    colour = "good" if wheels and attested == len(wheels) else "plain"
    yield colour, f"{attested} of {count(len(wheels), 'wheel')} attested"
    if provenance and provenance.unverified:
        yield "warn", "not verified again"
