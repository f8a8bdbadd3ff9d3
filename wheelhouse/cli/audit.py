"""The command `audit`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.completers import complete_packed
from offline_bundle.wheelhouse.cli.kit.options import PATH, rules_options, trusted_root_option
from offline_bundle.wheelhouse.runtime.errors import AuditError, IntegrityError, first_problems
from offline_bundle.wheelhouse.runtime.names import REPORT, SBOM

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.audit.criteria import Criteria
    from offline_bundle.wheelhouse.derived.audit_result import Audit
    from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest


_FILES = {"html": REPORT, "cyclonedx": SBOM}


@click.command("audit")
@click.argument("bundle", metavar="DIR|ARCHIVE", type=PATH, shell_complete=complete_packed)
@click.option(
    "--advisories",
    type=PATH,
    metavar="FILE|DIR",
    help="Check packages against these advisories: OSV JSON or YAML, a folder or a zip file.",
)
@rules_options
@trusted_root_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "sarif", "html", "cyclonedx"]),
    default="table",
    show_default=True,
    help="Format of the result on stdout. html: the report of the bundle with this audit; "
    "cyclonedx: its SBOM with the vulnerabilities.",
)
@click.option(
    "--since",
    type=PATH,
    metavar="DIR|ARCHIVE",
    help="Show changes since this bundle (with --format html).",
)
def audit_command(  # noqa: PLR0913 - one parameter per option
    *,
    bundle: Path,
    advisories: Path | None,
    exceptions: Path | None,
    policy: Path | None,
    trusted_root: Path | None,
    output_format: str,
    since: Path | None,
) -> None:
    """Check a bundle for known vulnerabilities and rule breaches, without a network.

    Exit code 10 if a vulnerability is open or a rule is broken, else 5 if an advisory could not be
    read. `audit` takes the manifest as it is: run `verify` first.
    """
    from offline_bundle.wheelhouse.audit.criteria import read_criteria
    from offline_bundle.wheelhouse.audit.provenance import check_provenance, verify_where_possible
    from offline_bundle.wheelhouse.audit.render import to_json, to_sarif
    from offline_bundle.wheelhouse.audit.subject import reader_of
    from offline_bundle.wheelhouse.cli.kit.output import print_json
    from offline_bundle.wheelhouse.transport.open import load_manifest

    if advisories is None and policy is None:
        raise click.UsageError("--advisories or --policy is required")
    if since is not None and output_format != "html":
        raise click.UsageError("--since requires --format html")
    manifest = load_manifest(bundle)
    audit = _audit(bundle, manifest, advisories, read_criteria(policy, exceptions, trusted_root))
    provenance = verify_where_possible(manifest, reader_of(bundle), trusted_root)
    audit = dataclasses.replace(audit, provenance=provenance)
    if output_format == "json":
        print_json(to_json(audit))
    elif output_format == "sarif":
        print_json(to_sarif(audit, manifest))
    elif output_format == "table":
        _print_tables(audit)
    else:
        before = load_manifest(since) if since else None
        page = _render(bundle, manifest, before, audit)[_FILES[output_format]]
        click.echo(page.decode(), nl=False)
    check_provenance(provenance, manifest, frozenset(), str(bundle))
    _raise_for(audit)


def _audit(bundle: Path, manifest: Manifest, advisories: Path | None, criteria: Criteria) -> Audit:
    """Run the checks that were asked for."""
    from offline_bundle.wheelhouse.audit.findings import find_vulnerabilities, used_packages
    from offline_bundle.wheelhouse.audit.osv.database import Database
    from offline_bundle.wheelhouse.audit.subject import reader_of
    from offline_bundle.wheelhouse.derived.audit_result import Audit

    uses = used_packages(manifest)
    breaches = criteria.breaches(manifest, reader_of(bundle))
    audit = Audit(str(bundle), len(uses), criteria.today, breaches=breaches)
    if advisories is None:
        return audit
    database = Database(advisories)
    findings, problems = find_vulnerabilities(uses, database.read())
    return dataclasses.replace(
        audit,
        sources=(str(advisories),),
        advisories=database.advisories,
        findings=criteria.apply_exceptions(findings),
        unchecked=(*database.unreadable, *problems),
    )


def _render(
    bundle: Path, manifest: Manifest, before: Manifest | None, audit: Audit
) -> dict[str, bytes]:
    """Return the inventories of the bundle with the audit in them."""
    from offline_bundle.wheelhouse.audit.subject import read_metadata, reader_of
    from offline_bundle.wheelhouse.derived.inventories import render_inventories

    metadata = read_metadata(manifest, reader_of(bundle))
    return render_inventories(manifest, metadata, before, audit)


def _print_tables(audit: Audit) -> None:
    from offline_bundle.wheelhouse.audit import render
    from offline_bundle.wheelhouse.cli.kit.output import print_note, print_table
    from offline_bundle.wheelhouse.runtime.text import printable_lines

    if audit.findings.open:
        print_table(render.FINDING_TITLES, map(render.finding_row, audit.findings.open))
    if audit.breaches:
        print_table(render.BREACH_TITLES, map(render.breach_row, audit.breaches))
    for note in render.notes(audit):
        print_note(note)
    if audit.is_clean:  # else the error has the same line
        click.echo(printable_lines(f"{audit.bundle}: {audit.summary}"), err=True)


def _raise_for(audit: Audit) -> None:
    """Raise the error for what is open or broken, or for what could not be checked."""
    from offline_bundle.wheelhouse.audit.criteria import repair_hint

    if not audit.is_clean:
        raise AuditError(f"{audit.bundle}: {audit.summary}", hint=repair_hint(audit))
    if audit.unchecked:
        raise IntegrityError(
            f"{audit.bundle}: nothing was found, but some advisories could not be checked",
            problems=first_problems(audit.unchecked),
            hint="fetch the advisories again, or remove these files",
        )
