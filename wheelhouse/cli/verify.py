"""The command `verify`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.completers import complete_packed
from offline_bundle.wheelhouse.cli.kit.options import (
    PATH,
    json_option,
    quiet_option,
    require_attestations_option,
    trust_options,
    trusted_root_option,
)
from offline_bundle.wheelhouse.cli.kit.output import print_json, print_note
from offline_bundle.wheelhouse.cli.kit.progress import Progress, show_progress
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, read_manifest_bytes
from offline_bundle.wheelhouse.runtime.bundle.signatures import Signer, SignerPolicy, read_signature
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError
from offline_bundle.wheelhouse.runtime.sizes import count, format_size
from offline_bundle.wheelhouse.runtime.text import printable_lines
from offline_bundle.wheelhouse.store.verify import VerifyReport, raise_for_problems, verify

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.derived.audit_result import Provenance
    from offline_bundle.wheelhouse.store.recompile import RecompileReport


@click.command("verify")
@click.argument("bundle", metavar="DIR|ARCHIVE", type=PATH, shell_complete=complete_packed)
@trust_options
@json_option
@quiet_option
@click.option("-v", "--verbose", is_flag=True, help="Also print what created the bundle.")
@click.option(
    "--allow-pending",
    is_flag=True,
    help="Accept extra files of an interrupted update, if its journal names them.",
)
@require_attestations_option
@trusted_root_option
@click.option(
    "--recompile",
    is_flag=True,
    help="Compile the wheels anew, and compare with the bytecode of the bundle.",
)
def verify_command(  # noqa: PLR0913 - one parameter per option
    *,
    bundle: Path,
    trust: SignerPolicy | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    allow_pending: bool,
    require_attestations: tuple[str, ...],
    trusted_root: Path | None,
    recompile: bool,
) -> int:
    """Check every file of a bundle, or of an archive or one of its parts, against the manifest.

    Each missing, changed or extra file is named; exit code 5. So are files of an interrupted
    update. With --allowed-signers, or if the site's policy requires it, the manifest must have a
    valid signature; else exit code 6. Attestations in the bundle are verified again, without a
    network; exit code 5 if one does not hold.
    """
    with show_progress(is_quiet=quiet or as_json, in_log=False) as progress:
        progress.begin(f"Verifying {bundle}")
        report, manifest, signers = _verify(bundle, trust, progress)
    check_bytecode = partial(_recompile, bundle, manifest) if recompile else None
    check_attestations = partial(
        _check_attestations, bundle, manifest, require_attestations, trusted_root
    )
    if as_json:
        return _print_json(report, check_attestations, check_bytecode, allow_pending=allow_pending)
    raise_for_problems(report, allow_pending=allow_pending)
    provenance = check_attestations()
    if check_bytecode:
        _print_recompiled(check_bytecode(), is_quiet=quiet)
    if not quiet:
        _print_report(bundle, report, signers)
        if provenance:
            wheels = count(len(provenance.verified), "wheel")
            click.echo(f"The attestations of {wheels} are valid.", err=True)
        if verbose:
            text = f"{manifest.created_by}, as of {manifest.timestamp}"
            click.echo(printable_lines(text), err=True)
    return 0


def _verify(
    bundle: Path, policy: SignerPolicy | None, progress: Progress
) -> tuple[VerifyReport, Manifest, tuple[Signer, ...]]:
    """Return the report, and the manifest and signers that it was made by."""
    from offline_bundle.wheelhouse.signing import check_trust
    from offline_bundle.wheelhouse.transport.open import is_archive, verify_archive

    if not is_archive(bundle):
        document = read_manifest_bytes(bundle)
        signers = check_trust(document, read_signature(str(bundle)), policy)
        report = verify(bundle, document=document, progress=progress.advance)
        return report, Manifest.from_json(document), signers
    checked: list[tuple[Manifest, tuple[Signer, ...]]] = []

    def check_signature(document: bytes, signature: bytes | None) -> None:
        signers = check_trust(document, signature, policy)
        checked.append((Manifest.from_json(document), signers))

    report = verify_archive([bundle], check_signature=check_signature, progress=progress.advance)
    return report, *checked[0]


def _check_attestations(
    bundle: Path, manifest: Manifest, required: tuple[str, ...], trusted_root: Path | None
) -> Provenance | None:
    """Verify the attestations of a verified bundle; None if there are none, or without the extra.

    Raises IntegrityError for one that does not hold or is required and absent.
    """
    from offline_bundle.wheelhouse.audit.provenance import (
        AttestationVerifier,
        attested_wheels,
        check_provenance,
        verify_wheels,
        verify_where_possible,
    )
    from offline_bundle.wheelhouse.audit.subject import reader_of
    from offline_bundle.wheelhouse.derived.package_names import read_names

    read = reader_of(bundle)
    if required:
        provenance = verify_wheels(manifest, read, AttestationVerifier(trusted_root))
    elif attested := attested_wheels(manifest):
        provenance = verify_where_possible(manifest, read, trusted_root)
        if provenance.unverified:
            text = f"the attestations of {count(len(attested), 'wheel')} were not verified"
            print_note(f"{text}: {provenance.unverified}")
            return None
    else:
        return None
    check_provenance(provenance, manifest, read_names(required), str(bundle))
    return provenance


def print_signer(signer: Signer) -> None:
    """Print the signer and the key on stderr."""
    text = f"Signed by {signer.identity} with {signer.key_type} key {signer.fingerprint}."
    click.echo(printable_lines(text), err=True)


def _recompile(bundle: Path, manifest: Manifest) -> RecompileReport:
    """Compile the wheels of a verified bundle anew."""
    from offline_bundle.wheelhouse.store.recompile import recompile
    from offline_bundle.wheelhouse.transport.open import is_archive

    if is_archive(bundle):
        raise InputError(f"{bundle}: --recompile needs a folder", hint="unpack the archive first")
    return recompile(bundle, manifest)


def _print_recompiled(report: RecompileReport, *, is_quiet: bool) -> None:
    from offline_bundle.wheelhouse.store.recompile import raise_for_different

    for note in report.notes:
        print_note(note)
    raise_for_different(report)
    if not is_quiet:
        files = count(report.compared, "bytecode file")
        click.echo(f"{files} compiled anew, with the same result.", err=True)


def _print_json(
    report: VerifyReport,
    check_attestations: Callable[[], Provenance | None],
    check_bytecode: Callable[[], RecompileReport] | None,
    *,
    allow_pending: bool,
) -> int:
    from offline_bundle.wheelhouse.store.recompile import raise_for_different

    document: dict[str, object] = {"ok": True, **dataclasses.asdict(report)}
    code = 0
    try:
        raise_for_problems(report, allow_pending=allow_pending)
        provenance = check_attestations()
        document["attestations"] = dataclasses.asdict(provenance) if provenance else None
        if check_bytecode:
            recompiled = check_bytecode()
            document["recompiled"] = dataclasses.asdict(recompiled)
            raise_for_different(recompiled)
    except IntegrityError as error:
        code = error.exit_code
        message = "\n".join(error.problems)
        document |= {"ok": False, "error": {"code": code, "message": message, "hint": error.hint}}
    print_json(document)
    return code


def _print_report(bundle: Path, report: VerifyReport, signers: Iterable[Signer]) -> None:
    size = f"{count(report.files, 'file')}, {format_size(report.size)}"
    left_out = f"; {count(report.left_out, 'file')} left out" if report.left_out else ""
    click.echo(f"{bundle}: {size}, all match the manifest{left_out}.", err=True)
    if report.pending:
        unused = count(len(report.pending), "unused file")
        print_note(f"an update was interrupted and left {unused}; run it again to finish it")
    for signer in signers:
        print_signer(signer)
