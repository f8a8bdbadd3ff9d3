"""The command `prune`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.completers import (
    complete_bundles,
    complete_script_names,
    complete_target_names,
)
from offline_bundle.wheelhouse.cli.kit.options import PATH, DurationType, json_option, sign_option
from offline_bundle.wheelhouse.cli.kit.output import print_json, print_table
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

if TYPE_CHECKING:
    from datetime import timedelta

    from offline_bundle.wheelhouse.store.prune import PruneReport


@click.command("prune")
@click.argument("bundle", metavar="DIR", type=PATH, shell_complete=complete_bundles)
@click.option(
    "--drop-script",
    "scripts",
    multiple=True,
    metavar="NAME",
    help="Drop this script; repeatable.",
    shell_complete=complete_script_names,
)
@click.option(
    "--drop-target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Drop this target; repeatable.",
    shell_complete=complete_target_names,
)
@click.option(
    "--grace",
    type=DurationType(),
    default="1d",
    show_default=True,
    metavar="TIME",
    help="Keep unneeded files for this long, for jobs that are starting: 90m, 12h, 7d, or 0.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be removed.")
@sign_option
@click.option("--unsigned", is_flag=True, help="Allow a signed bundle to lose its signature.")
@json_option
def prune_command(  # noqa: PLR0913 - one parameter per option
    *,
    bundle: Path,
    scripts: tuple[str, ...],
    targets: tuple[str, ...],
    grace: timedelta,
    dry_run: bool,
    sign: str | None,
    unsigned: bool,
    as_json: bool,
) -> None:
    """Remove from the bundle at DIR what no script in it needs.

    Unneeded files that jobs may still use stay for the grace period: run it again afterwards.
    """
    from offline_bundle.wheelhouse.signing import signing_with
    from offline_bundle.wheelhouse.store.prune import prune

    report = prune(
        bundle,
        drop_scripts=scripts,
        drop_targets=targets,
        grace=grace,
        is_dry_run=dry_run,
        sign=signing_with(sign) if sign else None,
        allow_unsigned=unsigned,
    )
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        _print_report(bundle, report)


def _print_report(bundle: Path, report: PruneReport) -> None:
    would = "would be " if report.is_dry_run else ""
    rows = [
        *(("script", name, f"{would}dropped") for name in report.scripts),
        *(("target", name, f"{would}dropped") for name in report.targets),
        *(("file", path, f"{would}removed") for path in report.removed),
        *(("file", path, f"unneeded, kept until {time}") for path, time in report.waiting.items()),
    ]
    if rows:
        print_table(("kind", "name", "state"), rows)
    removed = f"{count(len(report.removed), 'file')} {would}removed, {format_size(report.freed)}"
    click.echo(f"{bundle}: {removed}.", err=True)
    if report.waiting:
        waiting = f"{count(len(report.waiting), 'file')} ({format_size(report.waiting_size)})"
        again = "" if report.is_dry_run else "; run prune again afterwards"
        click.echo(f"{waiting} kept for the grace period{again}.", err=True)
