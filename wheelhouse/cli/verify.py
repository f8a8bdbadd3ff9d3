"""The command `verify`, and what `show` tells: parse, call one function, render."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.completers import complete_packed
from offline_bundle.wheelhouse.cli.review import (
    tell_signer,
    trust_of,
    trust_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from offline_bundle.wheelhouse.store.contents import Contents, ShownLock
    from offline_bundle.wheelhouse.store.verify import VerifyReport

_BUNDLE = click.Path(path_type=Path)


@click.command("verify")
@click.argument("bundle", metavar="DIR|ARCHIVE", type=_BUNDLE, shell_complete=complete_packed)
@trust_options
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Also say where the bundle comes from.")
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

    Each missing, changed or extra file is named; exit 5 when there is one. With --allowed-signers, or where the site's
    policy says so, the manifest must be signed; exit 6 when it is not, or by nobody allowed.
    """
    from offline_bundle.wheelhouse.runtime.errors import IntegrityError
    from offline_bundle.wheelhouse.runtime.manifest import Manifest, read_manifest_bytes
    from offline_bundle.wheelhouse.runtime.signatures import read_signature
    from offline_bundle.wheelhouse.signing import check_trust, refuse_unsettled
    from offline_bundle.wheelhouse.store.verify import (
        raise_for_problems,
        verify,
    )
    from offline_bundle.wheelhouse.transport.archive import is_archive, read_archive, verify_archive

    trust = trust_of(allowed_signers, signer, revoked_keys)
    packed = is_archive(bundle)
    document, signature = (
        read_archive([bundle])
        if packed
        else (read_manifest_bytes(bundle), read_signature(str(bundle)))
    )
    signers = check_trust(document, signature, trust)
    report = verify_archive([bundle]) if packed else verify(bundle, document=document)
    if signers:
        refuse_unsettled(report)
    if as_json:
        click.echo(json.dumps(_verdict(report), indent=1))
        return 0 if report.ok else IntegrityError.exit_code
    raise_for_problems(report)
    if not quiet:
        _tell_verdict(bundle, report)
        for one in signers:
            tell_signer(one)
        if verbose:
            manifest = Manifest.from_json(document)
            click.echo(f"{manifest.created_by}, as of {manifest.timestamp}", err=True)
    return 0


def tell_contents(bundle: Path, *, as_json: bool) -> None:
    """Show what the bundle at *bundle* holds: the command `show`."""
    from offline_bundle.wheelhouse.runtime.manifest import read_manifest
    from offline_bundle.wheelhouse.store.contents import contents

    shown = contents(read_manifest(bundle))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(shown), indent=1))
    else:
        _print_contents(bundle, shown)


def _verdict(report: VerifyReport) -> dict[str, object]:
    document: dict[str, object] = {"ok": report.ok, **dataclasses.asdict(report)}
    if not report.ok:
        problems = "\n".join(report.problems)
        document["error"] = {
            "code": 5,
            "message": problems,
            "hint": "carry the bundle over again, or build it anew",
        }
    return document


def _tell_verdict(bundle: Path, report: VerifyReport) -> None:
    from offline_bundle.wheelhouse.cli.output import count, megabytes

    click.echo(
        f"{bundle}: {count(report.files, 'file')}, {megabytes(report.size)}, all as the manifest says.",
        err=True,
    )
    if report.pending:
        click.secho(
            f"note: an update was interrupted here; {count(len(report.pending), 'file')} of it lie beside the bundle "
            "unused. Building again finishes it.",
            fg="yellow",
            err=True,
        )


def _print_contents(bundle: Path, shown: Contents) -> None:
    from offline_bundle.wheelhouse.cli.output import (
        count,
        megabytes,
        print_table,
    )
    from offline_bundle.wheelhouse.runtime.paths import printable

    size = f"{count(shown.files, 'file')}, {megabytes(shown.size)}"
    click.echo(printable(f"{bundle}: {size}, {shown.created_by}, as of {shown.timestamp}"))
    if shown.locks:
        click.echo()
        locks = [
            (
                lock.script,
                lock.python,
                lock.platform,
                lock.libc or "any",
                f"{lock.packages}",
                megabytes(lock.size),
                _ready_for(lock),
            )
            for lock in shown.locks
        ]
        titles = ("script", "Python", "platform", "libc from", "packages", "size", "ready for")
        print_table(titles, _printable(locks), numbers={"packages", "size"})
    if shown.packages:
        click.echo()
        packages = [
            (
                package.name,
                package.version,
                megabytes(package.size),
                ", ".join(package.needed_by) or "nothing any more",
            )
            for package in shown.packages
        ]
        print_table(
            ("package", "version", "size", "needed by"), _printable(packages), numbers={"size"}
        )
    if shown.uv:
        click.echo()
        print_table(("uv for", "version"), _printable(shown.uv.items()))

    if shown.pythons:
        click.echo()
        print_table(("interpreter for", "Python"), _printable(shown.pythons.items()))


def _ready_for(lock: ShownLock) -> str:
    """What can start the script: always the launcher, uv and pip, and where a form was built, that."""
    cache = f" + UV_CACHE_DIR of uv {lock.cache}" if lock.cache else ""
    environment = " + environment in place" if lock.environment else ""
    return f"launcher, uv, pip{cache}{environment}"


def _printable(rows: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """A manifest comes from outside."""
    from offline_bundle.wheelhouse.runtime.paths import printable

    return (tuple(printable(cell) for cell in row) for row in rows)
