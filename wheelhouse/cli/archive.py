"""The commands `pack` and `unpack`: parse, call one function, render."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.completers import complete_bundles
from offline_bundle.wheelhouse.cli.options import (
    sign_option,
    signer_policy,
    trust_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offline_bundle.wheelhouse.transport.archive import PackReport, Unpacked

_PATH = click.Path(path_type=Path)


@click.command("pack")
@click.argument("bundle", metavar="DIR", type=_PATH, shell_complete=complete_bundles)
@click.option(
    "-o", "--output", metavar="FILE.tar", type=_PATH, required=True, help="The archive to write."
)
@click.option(
    "--since",
    metavar="OLD",
    type=_PATH,
    help="Leave out what this bundle, manifest or archive has already.",
)
@click.option(
    "--split-size", metavar="SIZE", help="Write parts of this size, such as 700M; 4G fits FAT32."
)
@sign_option
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def pack_command(  # noqa: PLR0913
    *,
    bundle: Path,
    output: Path,
    since: Path | None,
    split_size: str | None,
    sign: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Pack the bundle at DIR into one archive, or into parts, for the carrying.

    Every byte is read back and checked first. Beside it lies a script that checks and unpacks it with Python alone.
    """
    from offline_bundle.wheelhouse.transport.archive import pack, parse_size

    size = parse_size(split_size) if split_size is not None else None
    if sign:
        from offline_bundle.wheelhouse.signing import sign as sign_bundle

        sign_bundle(bundle, sign)
    with _bar(f"Packing {bundle}", is_quiet=quiet or as_json) as progress:
        report = pack(bundle, output, since=since, split_size=size, progress=progress)
    if as_json:
        click.echo(json.dumps(_packed(report), indent=1))
    elif not quiet:
        _tell_packed(report)


@click.command("unpack")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_PATH)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=_PATH,
    required=True,
    help="The bundle to make or to add to.",
)
@click.option(
    "--allow-rollback", is_flag=True, help="Also accept an archive that is older than the bundle."
)
@click.option(
    "--replace",
    "replace_scripts",
    is_flag=True,
    help="Take the archive's where both have a script.",
)
@trust_options
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def unpack_command(  # noqa: PLR0913
    *,
    files: tuple[Path, ...],
    output: Path,
    allow_rollback: bool,
    replace_scripts: bool,
    allowed_signers: Path | None,
    signer: str | None,
    revoked_keys: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Unpack archives, whole or in parts in any order, into the bundle at DIR.

    Jobs may run from it meanwhile. Cut short, it goes on when run again; with parts that were missing or damaged, only
    those are needed then.
    """
    from offline_bundle.wheelhouse.signing import check_trust
    from offline_bundle.wheelhouse.transport.archive import unpack

    trust = signer_policy(allowed_signers, signer, revoked_keys)

    def ask_for_trust(document: bytes, signature: bytes | None) -> None:
        check_trust(document, signature, trust)

    def tell_waiting() -> None:
        click.echo(f"Waiting for another writer of {output}", err=True)

    with _bar(f"Unpacking to {output}", is_quiet=quiet or as_json) as progress:
        done = unpack(
            files,
            output,
            allow_rollback=allow_rollback,
            replace_scripts=replace_scripts,
            trust=ask_for_trust,
            progress=progress,
            on_wait=None if quiet else tell_waiting,
        )
    if as_json:
        click.echo(
            json.dumps(
                {"bundle": str(output), "archives": [_unpacked(one) for one in done]}, indent=1
            )
        )
    elif not quiet:
        for one in done:
            _tell_unpacked(one, output)


def _packed(report: PackReport) -> dict[str, object]:
    return {
        "files": [str(file) for file in report.files],
        "size": report.size,
        "members": report.members,
        "left-out": report.left_out,
    }


def _unpacked(one: Unpacked) -> dict[str, object]:
    return {
        "archive": one.archive,
        "relation": one.relation,
        "changed": one.changed,
        "unsigned": one.unsigned,
    }


def _tell_packed(report: PackReport) -> None:
    from offline_bundle.wheelhouse.runtime.sizes import count, format_size

    rest = f"; {count(report.left_out, 'file')} left out" if report.left_out else ""
    click.echo(
        f"{count(report.members, 'file')}, {format_size(report.size)}{rest}, read back and checked:",
        err=True,
    )
    for file in report.files:
        click.echo(f"  {file}", err=True)
    click.echo(
        "Unpack with `offline-bundle unpack`, or with nothing of ours: the .unpack.py beside it says how.",
        err=True,
    )


def _tell_unpacked(one: Unpacked, output: Path) -> None:
    did = {"other": "merged into", "older": "brought back in"}.get(one.relation, "unpacked to")
    click.echo(
        f"{one.archive}: {did if one.changed else 'is there already, in'} {output}", err=True
    )
    if one.unsigned:
        click.secho(
            f"note: {output} carries no signature any more: its manifest is one of several bundles. Sign it here.",
            fg="yellow",
            err=True,
        )


@contextmanager
def _bar(title: str, *, is_quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """Count the bytes on a terminal; say nothing in a log."""
    if is_quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda count: bar.advance(task, count)
