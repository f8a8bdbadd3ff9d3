"""The command `pack`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.completers import complete_bundles
from offline_bundle.wheelhouse.cli.kit.options import (
    PATH,
    SizeType,
    json_option,
    quiet_option,
    sign_option,
)
from offline_bundle.wheelhouse.cli.kit.output import print_json
from offline_bundle.wheelhouse.cli.kit.progress import show_progress
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.transport.pack import PackReport


@click.command("pack")
@click.argument("bundle", metavar="DIR", type=PATH, shell_complete=complete_bundles)
@click.option(
    "-o", "--output", metavar="FILE.tar", type=PATH, required=True, help="The archive to write."
)
@click.option(
    "--since",
    metavar="OLD",
    type=PATH,
    help="Leave out the files that this bundle, manifest or archive has.",
)
@click.option(
    "--split-size",
    metavar="SIZE",
    type=SizeType(),
    help="Write parts of this size, such as 700M; 4G fits FAT32.",
)
@sign_option
@json_option
@quiet_option
def pack_command(  # noqa: PLR0913 - one parameter per option
    *,
    bundle: Path,
    output: Path,
    since: Path | None,
    split_size: int | None,
    sign: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Pack a bundle into an archive, optionally split.

    Every byte is read back and checked. FILE.tar.unpack.py is written beside it: it checks and
    unpacks the archive with Python alone.
    """
    from offline_bundle.wheelhouse.transport.pack import pack

    if sign:
        from offline_bundle.wheelhouse.signing import sign as sign_bundle

        sign_bundle(bundle, sign)
    with show_progress(is_quiet=quiet or as_json, in_log=False) as progress:
        progress.begin(f"Packing {bundle}")
        report = pack(bundle, output, since=since, split_size=split_size, progress=progress.advance)
    if as_json:
        print_json(_as_json(report))
    elif not quiet:
        _print_report(report, output)


def _as_json(report: PackReport) -> dict[str, object]:
    return {
        "files": [str(file) for file in report.files],
        "size": report.size,
        "members": report.members,
        "left-out": report.left_out,
    }


def _print_report(report: PackReport, output: Path) -> None:
    left_out = f"; {count(report.left_out, 'file')} left out" if report.left_out else ""
    size = f"{count(report.members, 'file')}, {format_size(report.size)}{left_out}"
    click.echo(f"{size}, read back and checked:", err=True)
    for file in report.files:
        click.echo(f"  {file}", err=True)
    archive, unpacker = quote(output.name), quote(f"{output.name}.unpack.py")
    click.echo(
        f"Unpack with `offline-bundle unpack`, or without offline-bundle:\n"
        f"  python3 {unpacker} {archive} -o DIR",
        err=True,
    )
