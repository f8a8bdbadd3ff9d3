"""What to review before a bundle is written: options with their files read.

Light to import: a build without a review loads none of the modules that do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.builder.model import ReviewOptions, ReviewPlan
from offline_bundle.wheelhouse.runtime.names import PROVENANCE

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.store.writer import BundleWriter


def plan_review(options: ReviewOptions) -> ReviewPlan | None:
    """Return the plan, None if nothing is to be reviewed.

    Raises InputError for faulty files, and if the extra `attestations` is needed and missing.
    """
    if options == ReviewOptions():
        return None
    from offline_bundle.wheelhouse.audit.criteria import read_criteria  # noqa: PLC0415 - slow
    from offline_bundle.wheelhouse.audit.provenance import AttestationVerifier  # noqa: PLC0415

    criteria = read_criteria(options.policy, options.exceptions, options.trusted_root)
    by_rule = criteria.rules.required_attestations if criteria.rules else frozenset()
    attested = options.attested | options.required | by_rule
    verifier = AttestationVerifier(options.trusted_root) if attested else None
    return ReviewPlan(options, criteria, attested, verifier)


def has_corrupt_provenance(writer: BundleWriter) -> bool:
    """Return whether the bundle in force names a provenance file that is missing or corrupt."""
    files = writer.current.files if writer.current else {}
    return any(file.publisher and not has_provenance(path, writer) for path, file in files.items())


def has_provenance(wheel: str, writer: BundleWriter) -> bool:
    """Return whether the bundle in force has the intact provenance of a wheel, by its path."""
    files = writer.current.files if writer.current else {}
    path = f"{wheel}{PROVENANCE}"
    entry = files.get(path)
    return bool(entry and entry.sha256 and writer.find_file(path, entry.sha256))
