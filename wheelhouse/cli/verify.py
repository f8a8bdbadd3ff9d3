"""The command `verify`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.completers import complete_packed
from offline_bundle.wheelhouse.cli.options import (
    PATH,
    json_option,
    quiet_option,
    signer_policy,
    trust_options,
)
from offline_bundle.wheelhouse.cli.output import safe
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.wheelhouse.runtime.signatures import Signer
    from offline_bundle.wheelhouse.store.verify import VerifyReport


@click.command("verify")
@click.argument("bundle", metavar="DIR|ARCHIVE", type=PATH, shell_complete=complete_packed)
@trust_options
@json_option
@quiet_option
@click.option("-v", "--verbose", is_flag=True, help="Also print what created the bundle.")
def verify_command(  # noqa: PLR0913 - one parameter per option
    *,
    bundle: Path,
    allowed_signers: Path | None,
    signer: str | None,
    revoked_keys: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Check every file of a bundle, or of an archive or one of its parts, against the manifest.

    Each missing, changed or extra file is named; exit code 5. With --allowed-signers, or if the
    site's policy requires it, the manifest must have a valid signature; else exit code 6.
    """
    from offline_bundle.wheelhouse.runtime.errors import IntegrityError
    from offline_bundle.wheelhouse.runtime.manifest import Manifest, read_manifest_bytes
    from offline_bundle.wheelhouse.runtime.signatures import read_signature
    from offline_bundle.wheelhouse.signing import check_trust, refuse_unsettled
    from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
    from offline_bundle.wheelhouse.transport.open import is_archive, read_archive, verify_archive

    policy = signer_policy(allowed_signers, signer, revoked_keys)
    is_packed = is_archive(bundle)
    document, signature = (
        read_archive([bundle])
        if is_packed
        else (read_manifest_bytes(bundle), read_signature(str(bundle)))
    )
    signers = check_trust(document, signature, policy)
    report = verify_archive([bundle]) if is_packed else verify(bundle, document=document)
    if signers:
        refuse_unsettled(report)
    if as_json:
        click.echo(json.dumps(_as_json(report), indent=1))
        return 0 if report.ok else IntegrityError.exit_code
    raise_for_problems(report)
    if not quiet:
        _print_report(bundle, report, signers)
        if verbose:
            manifest = Manifest.from_json(document)
            click.echo(safe(f"{manifest.created_by}, as of {manifest.timestamp}"), err=True)
    return 0


def print_signer(signer: Signer) -> None:
    """Print the signer and the key on stderr."""
    text = f"Signed by {signer.identity} with {signer.key_type} key {signer.fingerprint}."
    click.echo(safe(text), err=True)


def _as_json(report: VerifyReport) -> dict[str, object]:
    document: dict[str, object] = {"ok": report.ok, **dataclasses.asdict(report)}
    if not report.ok:
        document["error"] = {
            "code": 5,
            "message": "\n".join(report.problems),
            "hint": "copy the bundle again, or build it again",
        }
    return document


def _print_report(bundle: Path, report: VerifyReport, signers: tuple[Signer, ...]) -> None:
    size = f"{count(report.files, 'file')}, {format_size(report.size)}"
    click.echo(f"{bundle}: {size}, all match the manifest.", err=True)
    if report.pending:
        text = (
            f"note: an update was interrupted: {count(len(report.pending), 'file')} of it are in "
            "the bundle, unused. Run the update again to finish it."
        )
        click.secho(text, fg="yellow", err=True)
    for signer in signers:
        print_signer(signer)
