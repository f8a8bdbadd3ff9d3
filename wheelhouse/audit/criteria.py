"""The rules and exceptions of a site, read from their files, and applied to a bundle.

criteria = read_criteria(policy=Path("rules.toml"), exceptions=None)
criteria.breaches(manifest, reader_of(bundle))
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from offline_bundle.wheelhouse.audit.provenance import AttestationVerifier, verify_wheels
from offline_bundle.wheelhouse.audit.rules.exceptions import apply_exceptions, parse_exceptions
from offline_bundle.wheelhouse.audit.rules.policy import (
    Rules,
    find_breaches,
    find_exception_breaches,
    find_size_breaches,
    parse_rules,
)
from offline_bundle.wheelhouse.audit.subject import Reader, read_metadata
from offline_bundle.wheelhouse.derived.audit_result import Accepted, Applied, Audit, Breach, Finding
from offline_bundle.wheelhouse.derived.wheel_metadata import read_all_metadata
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.errors import AuditError, InputError, first_problems

_LARGEST_TEXT = 1024 * 1024


@dataclass(frozen=True)
class Criteria:
    """What a bundle must keep, and which vulnerabilities are accepted."""

    rules: Rules | None
    """None: there are none."""
    exceptions: tuple[Accepted, ...]
    today: dt.date
    trusted_root: Path | None = None
    """Trusted root of a Sigstore; None for the public one."""

    def breaches(self, manifest: Manifest, read: Reader) -> tuple[Breach, ...] | None:
        """Return every breach of the rules, None if there are no rules."""
        if self.rules is None:
            return None
        # only a rule for licences needs the metadata
        contents = read_metadata(manifest, read) if self.rules.licences else {}
        metadata = read_all_metadata(manifest, contents)
        provenance = None
        if self.rules.required_attestations:
            provenance = verify_wheels(manifest, read, AttestationVerifier(self.trusted_root))
        breaches = find_breaches(self.rules, manifest, metadata, provenance)
        return (*breaches, *find_exception_breaches(self.rules, self.exceptions, self.today))

    def check_size(self, audit: Audit, manifest: Manifest) -> None:
        """Check the size of a bundle that has grown since *audit*; raises AuditError."""
        if self.rules is not None:
            breaches = tuple(find_size_breaches(self.rules, manifest))
            check_clean(
                replace(audit, breaches=breaches), "raise maximum-size; nothing was written"
            )

    def apply_exceptions(self, findings: Iterable[Finding]) -> Applied:
        """Divide *findings* into open and accepted ones."""
        return apply_exceptions(findings, self.exceptions, self.today)


def read_criteria(
    policy: Path | None, exceptions: Path | None, trusted_root: Path | None = None
) -> Criteria:
    """Read the files that the user names, each perhaps None. Raises InputError."""
    return Criteria(
        rules=parse_rules(_read_text(policy), str(policy)) if policy else None,
        exceptions=parse_exceptions(_read_text(exceptions), str(exceptions)) if exceptions else (),
        today=dt.datetime.now(dt.UTC).date(),
        trusted_root=trusted_root,
    )


def check_clean(audit: Audit, hint: str) -> None:
    """Raise AuditError (10) with every open vulnerability and every breach."""
    if audit.is_clean:
        return
    problems = [
        f"{finding.package.name} {finding.package.version}: {finding.id}, {finding.rating}, "
        f"fixed in: {finding.fix}"
        for finding in audit.findings.open
    ]
    problems += [
        f"{breach.subject}: {breach.rule}: {breach.reason}" for breach in audit.breaches or ()
    ]
    raise AuditError(
        f"{audit.bundle}: {audit.summary}", problems=first_problems(problems), hint=hint
    )


def repair_hint(audit: Audit, outcome: str = "") -> str:
    """Return what to do about open vulnerabilities and breaches, and the *outcome* of a command."""
    vulnerabilities = "build with fixed versions, or accept a vulnerability with --exceptions FILE"
    hints = [
        vulnerabilities if audit.findings.open else "",
        "build a bundle that keeps the rules" if audit.breaches else "",
        outcome,
    ]
    return "; ".join(filter(None, hints))


def _read_text(path: Path) -> str:
    """Read a small text file that the user names. Raises InputError."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_TEXT + 1)
        if len(content) > _LARGEST_TEXT:
            raise InputError(f"{path}: larger than 1 MiB", hint="name a TOML file")
        return content.decode()
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise InputError(message, hint="check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8", hint="save it as UTF-8") from error
