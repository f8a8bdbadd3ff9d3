"""The command `doctor`: the checks of both sides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.options import json_option

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.cli.kit.doctor_checks import CheckResult

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@click.option(
    "--side",
    type=click.Choice(["all", "build", "cluster"]),
    default="all",
    show_default=True,
    help="Check what builds need, or what running scripts and jobs on a cluster needs.",
)
@json_option
def doctor_command(*, side: str, as_json: bool) -> int:
    """Check this machine: uv, Pythons, index, certificates, cache, network cutting, Slurm, HPS.

    Each line is ok, a warning or a problem, with the cure. Exit code 1 if there is a problem.
    """
    from offline_bundle.builder import doctor as build_side
    from offline_bundle.runner import doctor as cluster_side
    from offline_bundle.wheelhouse.cli.kit.doctor_checks import run_checks

    checks = build_side.checks() if side != "cluster" else []
    checks += cluster_side.checks() if side != "build" else []
    results = []
    for subject, result in run_checks(checks):
        results.append({"subject": subject, **result._asdict()})
        if not as_json:
            _print(subject, result)
    if as_json:
        click.echo(json.dumps(results, indent=1))
    return int(any(result["state"] == "problem" for result in results))


def _print(subject: str, result: CheckResult) -> None:
    from offline_bundle.wheelhouse.runtime.text import printable

    state = click.style(f"{result.state:8}", fg=_COLOURS[result.state])
    click.echo(f"{state} {subject}: {printable(result.text)}")
    if result.cure:
        click.echo(f"{'':8} {printable(result.cure)}")
