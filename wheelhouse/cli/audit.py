"""The command `audit`."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.completers import complete_packed
from offline_bundle.wheelhouse.cli.kit.options import PATH
from offline_bundle.wheelhouse.runtime.errors import (
    AuditError,
    InputError,
    IntegrityError,
    first_problems,
)

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.wheelhouse.audit.audit import Audit
    from offline_bundle.wheelhouse.audit.exceptions import Accepted
    from offline_bundle.wheelhouse.audit.policy import Breach
    from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest

_LARGEST_TEXT = 1024 * 1024


@click.command("audit")
@click.argument("bundle", metavar="DIR|ARCHIVE", type=PATH, shell_complete=complete_packed)
@click.option(
    "--advisories",
    type=PATH,
    metavar="FILE|DIR",
    help="Check packages against these advisories: OSV JSON or YAML, a folder or a zip file.",
)
@click.option(
    "--exceptions",
    type=PATH,
    metavar="FILE",
    help="Accept the vulnerabilities in this TOML file (id, reason, until) until they expire.",
)
@click.option(
    "--policy",
    "rules_file",
    type=PATH,
    metavar="FILE",
    help="Check the rules in this TOML file: licences, packages, indexes, size.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "sarif"]),
    default="table",
    show_default=True,
    help="Format of the result on stdout.",
)
def audit_command(
    *,
    bundle: Path,
    advisories: Path | None,
    exceptions: Path | None,
    rules_file: Path | None,
    output_format: str,
) -> None:
    """Check a bundle for known vulnerabilities and rule breaches, without a network.

    Exit code 10 if a vulnerability is open or a rule is broken, else 5 if an advisory could not be
    read. `audit` takes the manifest as it is: run `verify` first.
    """
    from offline_bundle import __version__
    from offline_bundle.wheelhouse.audit.render import to_json, to_sarif
    from offline_bundle.wheelhouse.transport.open import load_manifest

    if advisories is None and rules_file is None:
        raise click.UsageError("--advisories or --policy is required")
    if exceptions is not None and advisories is None:
        raise click.UsageError("--exceptions requires --advisories")
    manifest = load_manifest(bundle)
    audit = _audit(bundle, manifest, advisories, exceptions, rules_file)
    if output_format == "json":
        click.echo(json.dumps(to_json(audit), indent=1))
    elif output_format == "sarif":
        click.echo(json.dumps(to_sarif(audit, manifest, __version__), indent=1))
    else:
        _print_tables(audit)
    _raise_for(audit)


def _audit(
    bundle: Path,
    manifest: Manifest,
    advisories: Path | None,
    exceptions_file: Path | None,
    rules_file: Path | None,
) -> Audit:
    """Run the checks that were asked for."""
    from offline_bundle.wheelhouse.audit.audit import Audit
    from offline_bundle.wheelhouse.audit.database import Database
    from offline_bundle.wheelhouse.audit.exceptions import apply_exceptions, parse_exceptions
    from offline_bundle.wheelhouse.audit.findings import find_vulnerabilities, used_packages

    today = dt.datetime.now(dt.UTC).date()
    accepted: tuple[Accepted, ...] = ()
    if exceptions_file is not None:
        accepted = parse_exceptions(_read_text(exceptions_file), str(exceptions_file))
    breaches = None
    if rules_file is not None:
        breaches = _breaches(bundle, manifest, rules_file, accepted, today)
    uses = used_packages(manifest)
    database = Database(advisories) if advisories is not None else None
    findings, problems = find_vulnerabilities(uses, database.read() if database else ())
    unreadable = database.unreadable if database else []
    return Audit(
        bundle=str(bundle),
        packages=len(uses),
        advisories=database.advisories if database else None,
        findings=apply_exceptions(findings, accepted, today),
        breaches=breaches,
        unchecked=(*unreadable, *(problems if database else ())),
    )


def _breaches(
    bundle: Path,
    manifest: Manifest,
    rules_file: Path,
    accepted: tuple[Accepted, ...],
    today: dt.date,
) -> tuple[Breach, ...]:
    from offline_bundle.wheelhouse.audit.policy import find_breaches, parse_rules
    from offline_bundle.wheelhouse.audit.subject import read_licences, without_licences

    rules = parse_rules(_read_text(rules_file), str(rules_file))
    needs_licences = rules.licences is not None
    metadata = read_licences(bundle, manifest) if needs_licences else without_licences(manifest)
    return tuple(find_breaches(rules, manifest, metadata, accepted, today))


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


def _print_tables(audit: Audit) -> None:
    from offline_bundle.wheelhouse.audit import render
    from offline_bundle.wheelhouse.cli.kit.output import print_table
    from offline_bundle.wheelhouse.runtime.text import printable_lines

    if audit.findings.open:
        print_table(render.FINDING_TITLES, map(render.finding_row, audit.findings.open))
    if audit.breaches:
        print_table(render.BREACH_TITLES, map(render.breach_row, audit.breaches))
    for note in render.notes(audit):
        click.echo(printable_lines(f"note: {note}"), err=True)
    if audit.is_clean:  # else the error has the same line
        click.echo(printable_lines(f"{audit.bundle}: {audit.summary}"), err=True)


def _raise_for(audit: Audit) -> None:
    """Raise the error for what is open or broken, or for what could not be checked."""
    if not audit.is_clean:
        raise AuditError(
            f"{audit.bundle}: {audit.summary}",
            hint="build with fixed versions, or accept a vulnerability with --exceptions FILE",
        )
    if audit.unchecked:
        raise IntegrityError(
            f"{audit.bundle}: nothing was found, but some advisories could not be checked",
            problems=first_problems(audit.unchecked),
            hint="fetch the advisories again, or remove these files",
        )
