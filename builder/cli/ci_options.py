"""Options of `build` for CI: `--locked`, `--check`, `--annotations` and `--sarif`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_bundle.wheelhouse.cli.kit.options import combined
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, OutOfDateError

if TYPE_CHECKING:
    from offline_bundle.builder.check import CheckReport

_Command = TypeVar("_Command", bound="Callable[..., int]")
# Where a command keeps an error that it has printed as JSON.
_ERROR = "offline_bundle.builder.cli.ci_options.error"


def ci_options(command: _Command) -> Callable[..., int]:
    """Add `--locked` and `--check` (`is_locked: bool`, `is_check: bool`), and reports for CI.

    The command has a parameter `scripts`, the files that errors refer to.
    """
    options = combined(
        click.option(
            "--locked",
            "is_locked",
            is_flag=True,
            help="Use the locks in the bundle (its bundle.json is enough) and resolve nothing; "
            "exit 9 if they do not match the scripts.",
        ),
        click.option(
            "--check",
            "is_check",
            is_flag=True,
            help="Build nothing: print what a build would change; exit 9 if anything.",
        ),
        click.option(
            "--annotations",
            type=click.Choice(["github"]),
            help="Print errors as GitHub annotations on stderr too.",
        ),
        click.option(
            "--sarif",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False, writable=True),
            help="Write errors to FILE as SARIF 2.1.0 too.",
        ),
    )

    @functools.wraps(command)
    def wrapped(*, annotations: str | None, sarif: Path | None, **values: Any) -> int:  # noqa: ANN401 - as click has them
        with reporting_to_ci(values["scripts"], annotations, sarif):
            return command(**values)

    return options(wrapped)


@contextmanager
def reporting_to_ci(
    scripts: Sequence[Path], annotations: str | None, sarif: Path | None
) -> Iterator[None]:
    """Report the error that is raised, or was printed as JSON, as the two options require."""
    if sarif is not None and not sarif.parent.is_dir():
        raise InputError(f"--sarif {sarif}: no such folder: {sarif.parent}", hint="create it first")
    try:
        yield
    except BundleError as error:
        _report(error, scripts, annotations, sarif)
        raise
    _report(click.get_current_context().meta.get(_ERROR), scripts, annotations, sarif)


def _selected(arguments: Sequence[Path]) -> Sequence[Path]:
    """Return the scripts that folders and patterns select; *arguments* where there are none."""
    from offline_bundle.builder.inputs.search import find_scripts

    try:
        return find_scripts(arguments).scripts
    except InputError:
        return arguments


def _report(
    error: BundleError | None, scripts: Sequence[Path], annotations: str | None, sarif: Path | None
) -> None:
    if annotations is None and sarif is None:
        return
    from offline_bundle.builder.cli import ci_reports
    from offline_bundle.wheelhouse.runtime.errors import translate_os_errors

    problems = ci_reports.locate_problems(error, _selected(scripts)) if error else []
    if annotations:
        click.echo(ci_reports.github_annotations(problems), nl=False, err=True)
    if sarif is not None:
        document = json.dumps(ci_reports.sarif(problems, error.exit_code if error else 0), indent=1)
        with translate_os_errors(sarif):
            sarif.write_text(f"{document}\n", encoding="utf-8")


def print_check(report: CheckReport, *, as_json: bool, is_quiet: bool) -> int:
    """Print the result of a check.

    An out-of-date bundle is exit 9: raised as an error, or returned after JSON output.
    """
    from offline_bundle.wheelhouse.cli.kit.output import error_document, print_json, print_note

    if as_json:
        click.get_current_context().meta[_ERROR] = report.error
        print_json(report.to_json() | error_document(report.error))
        return 0 if report.is_up_to_date else OutOfDateError.exit_code
    for note in () if is_quiet else report.notes:
        print_note(note)
    if report.error:
        raise report.error
    if not is_quiet:
        click.echo(f"{report.bundle} is up to date.", err=True)
    return 0
