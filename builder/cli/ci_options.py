"""What `build` offers to CI: the options `--locked` and `--check`, and how its findings are told."""

from __future__ import annotations

import functools
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, OutOfDateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from offline_bundle.builder.check import CheckReport

_Command = TypeVar("_Command", bound="Callable[..., int]")
# Where a command leaves an error that it has told already.
_ERROR = "offline_bundle.builder.cli.ci_options.error"


def ci_options(command: _Command) -> Callable[..., int]:
    """Add `--locked` and `--check` (`is_locked: bool`, `is_check: bool`), and let CI know of errors, as it asks.

    The command has a parameter `scripts`: what errors are pinned to.
    """
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
        click.option(
            "--annotations",
            type=click.Choice(["github"]),
            help="Also tell errors as annotations of this CI, on stderr.",
        ),
        click.option(
            "--sarif",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False, writable=True),
            help="Also write errors to FILE, as SARIF 2.1.0.",
        ),
    ]

    @functools.wraps(command)
    def wrapped(*, annotations: str | None, sarif: Path | None, **values: Any) -> int:  # noqa: ANN401 - as click has them
        with told_to_ci(values["scripts"], annotations, sarif):
            return command(**values)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


@contextmanager
def told_to_ci(
    scripts: Sequence[Path], annotations: str | None, sarif: Path | None
) -> Iterator[None]:
    """Tell CI of the error that is raised, or was told already, as the two options ask; without one, of none."""
    if sarif is not None and not sarif.parent.is_dir():
        raise InputError(
            f"--sarif {sarif}: there is no folder {sarif.parent}", hint="make it first"
        )
    try:
        yield
    except BundleError as error:
        _report(error, scripts, annotations, sarif)
        raise
    _report(click.get_current_context().meta.get(_ERROR), scripts, annotations, sarif)


def _report(
    error: BundleError | None, scripts: Sequence[Path], annotations: str | None, sarif: Path | None
) -> None:
    if annotations is None and sarif is None:
        return
    from offline_bundle.builder.cli import ci_reports
    from offline_bundle.wheelhouse.runtime.errors import translate_os_errors

    found = ci_reports.findings(error, scripts) if error else []
    if annotations:
        click.echo(ci_reports.github_annotations(found), nl=False, err=True)
    if sarif is not None:
        document = json.dumps(ci_reports.sarif(found, error.exit_code if error else 0), indent=1)
        with translate_os_errors(sarif):
            sarif.write_text(f"{document}\n", encoding="utf-8")


def tell_check(report: CheckReport, *, as_json: bool, is_quiet: bool) -> int:
    """Say what a check found. An out-of-date bundle is exit 9: raised as an error, or returned where JSON says it."""
    if as_json:
        click.get_current_context().meta[_ERROR] = report.error
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
