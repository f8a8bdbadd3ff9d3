"""Accepted vulnerabilities with an expiry date, as in a VEX document. Pure.

[[exception]]
id = "PYSEC-2024-1"             # or one of its aliases
package = "jinja2"              # optional: for this package only
reason = "templates come from this repository only"
until = 2027-03-31              # the last day on which it holds
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from packaging.utils import canonicalize_name

from offline_bundle.wheelhouse.audit.rules.toml_files import check_keys, parse_toml, text_of
from offline_bundle.wheelhouse.derived.audit_result import Accepted, Applied, Finding
from offline_bundle.wheelhouse.runtime.errors import InputError

_KEYS = ("id", "package", "reason", "until")


def parse_exceptions(text: str, name: str) -> tuple[Accepted, ...]:
    """Read the exceptions in a TOML file; raises InputError that names the faulty one."""
    document = parse_toml(text, name)
    check_keys(document, ("exception",), name)
    entries = document.get("exception", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{name}: exception must be an array of tables", hint="[[exception]]")
    return tuple(
        _read(entry, f"{name}: exception {number}") for number, entry in enumerate(entries, 1)
    )


def apply_exceptions(
    findings: Iterable[Finding], exceptions: Iterable[Accepted], today: dt.date
) -> Applied:
    """Divide *findings* into open and accepted ones; `until` is the last day of an exception."""
    entries = tuple(exceptions)
    still_open, accepted, expired = [], [], []
    matching: set[Accepted] = set()
    for finding in findings:
        candidates = [entry for entry in entries if entry.matches(finding)]
        matching.update(candidates)
        valid = [entry for entry in candidates if entry.until >= today]
        if valid:
            accepted.append((finding, max(valid, key=lambda entry: entry.until)))
        else:
            still_open.append(finding)
            expired += candidates
    unused = tuple(entry for entry in entries if entry not in matching)
    return Applied(tuple(still_open), tuple(accepted), tuple(dict.fromkeys(expired)), unused)


def _read(entry: dict[str, Any], where: str) -> Accepted:
    check_keys(entry, _KEYS, where)
    until = entry.get("until")
    if not isinstance(until, dt.date) or isinstance(until, dt.datetime):
        raise InputError(f"{where}: until must be a date", hint="for example until = 2027-03-31")
    package = text_of(entry, "package", where) if "package" in entry else None
    return Accepted(
        id=text_of(entry, "id", where),
        reason=text_of(entry, "reason", where),
        until=until,
        package=str(canonicalize_name(package)) if package else None,
    )
