"""What `build` offers to CI: the options `--locked` and `--check`, and how its findings are told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.check import CheckReport

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def ci_options(command: _Command) -> _Command:
    """Add `--locked` and `--check`: `is_locked: bool`, `is_check: bool`."""
    options = [
        click.option(
            "--locked",
            "is_locked",
            is_flag=True,
            help="Resolve nothing anew: go by the locks in the bundle (its bundle.json is enough); exit 9 when they do "
            "not answer the scripts.",
        ),
        click.option(
            "--check",
            "is_check",
            is_flag=True,
            help="Build nothing, only say what building now would change; exit 9 when it would.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def tell_check(report: CheckReport, *, as_json: bool, is_quiet: bool) -> int:
    """Say what a check found. An out-of-date bundle is exit 9: raised as an error, or returned where JSON says it."""
    from wheelhouse.errors import OutOfDateError

    if as_json:
        click.echo(json.dumps(_verdict(report), indent=1))
        return 0 if report.is_up_to_date else OutOfDateError.exit_code
    for note in () if is_quiet else report.notes:
        click.secho(f"note: {note}", fg="yellow", err=True)
    report.raise_if_out_of_date()
    if not is_quiet:
        click.echo(f"{report.bundle} is up to date.", err=True)
    return 0


def _verdict(report: CheckReport) -> dict[str, Any]:
    error = report.error
    told = {"code": error.exit_code, "message": str(error), "hint": error.hint} if error else None
    return {**report.to_json(), **({"error": told} if told else {})}
