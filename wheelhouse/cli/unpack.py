"""The command `unpack`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.options import (
    PATH,
    json_option,
    quiet_option,
    rules_options,
    trust_options,
    trusted_root_option,
)
from offline_bundle.wheelhouse.cli.kit.output import print_json, print_note
from offline_bundle.wheelhouse.cli.kit.progress import show_progress

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.runtime.archive.reader import Archive
    from offline_bundle.wheelhouse.runtime.bundle.signatures import SignerPolicy
    from offline_bundle.wheelhouse.transport.unpack import UnpackReport


@click.command("unpack")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=PATH,
    required=True,
    help="The bundle to create or update.",
)
@click.option(
    "--allow-rollback", is_flag=True, help="Accept an archive that is older than the bundle."
)
@click.option(
    "--replace",
    "replace_scripts",
    is_flag=True,
    help="Take the archive's version of scripts that both have; replace a bundle whose manifest "
    "cannot be read.",
)
@trust_options
@rules_options
@trusted_root_option
@json_option
@quiet_option
def unpack_command(  # noqa: PLR0913 - one parameter per option
    *,
    files: tuple[Path, ...],
    output: Path,
    allow_rollback: bool,
    replace_scripts: bool,
    trust: SignerPolicy | None,
    policy: Path | None,
    exceptions: Path | None,
    trusted_root: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Unpack archives, whole or in parts in any order, into the bundle at DIR.

    Jobs may run from it meanwhile. If it is interrupted, run it again to continue. If parts are
    missing or damaged, they are named: copy them again, and run it again.
    """
    from offline_bundle.wheelhouse.signing import check_trust
    from offline_bundle.wheelhouse.store.staging import private_notes
    from offline_bundle.wheelhouse.transport.unpack import unpack

    if policy is None and (exceptions or trusted_root):
        raise click.UsageError("--exceptions and --trusted-root require --policy")
    with show_progress(is_quiet=quiet or as_json, in_log=False) as progress:
        progress.begin(f"Unpacking to {output}")
        reports = unpack(
            files,
            output,
            allow_rollback=allow_rollback,
            replace_scripts=replace_scripts,
            check_signature=partial(check_trust, policy=trust),
            check_archive=_rules_check(output, policy, exceptions, trusted_root),
            progress=progress.advance,
            notify=None if quiet else partial(click.echo, err=True),
        )
    if as_json:
        archives = [dataclasses.asdict(report) for report in reports]
        print_json({"bundle": str(output), "archives": archives})
    elif not quiet:
        for report in reports:
            _print_report(report, output)
        for note in private_notes(output):
            print_note(note)


def _rules_check(
    output: Path, policy: Path | None, exceptions: Path | None, trusted_root: Path | None
) -> Callable[[Archive], None] | None:
    """Return the check of an archive against the rules of the site, before it is unpacked."""
    if policy is None:
        return None
    from offline_bundle.wheelhouse.audit.criteria import check_clean, read_criteria, repair_hint
    from offline_bundle.wheelhouse.audit.findings import used_packages
    from offline_bundle.wheelhouse.audit.subject import archive_reader
    from offline_bundle.wheelhouse.derived.audit_result import Audit

    criteria = read_criteria(policy, exceptions, trusted_root)
    archives: list[Archive] = []

    def check(archive: Archive) -> None:
        archives.append(archive)
        breaches = criteria.breaches(archive.manifest, archive_reader(archives, output))
        packages = len(used_packages(archive.manifest))
        audit = Audit(archive.name, packages, criteria.today, breaches=breaches)
        check_clean(audit, repair_hint(audit, "nothing was unpacked"))

    return check


def _print_report(report: UnpackReport, output: Path) -> None:
    action = {"other": "merged into", "older": "rolled back in"}.get(report.relation, "unpacked to")
    click.echo(f"{report.archive}: {action if report.changed else 'already in'} {output}", err=True)
    if report.unsigned:
        print_note(
            f"the signature of {output} was removed because its manifest is a merged one; "
            "sign it again with `offline-bundle sign`"
        )
