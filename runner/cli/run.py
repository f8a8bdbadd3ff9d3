"""The `run` command: a script from a bundle, here or as N jobs on this machine."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.runner.options import NO_NETWORK
from offline_bundle.wheelhouse.cli.completers import (
    complete_bundles,
    complete_scripts,
)
from offline_bundle.wheelhouse.runtime.paths import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from offline_bundle.runner.engines.local.pool import JobResult
    from offline_bundle.wheelhouse.runtime.errors import BundleError

_FULL_TABLE = 20
"""Up to so many jobs the summary has a row for each; of more jobs only for those that failed."""

_NAMED_FILES = 3


@click.command("run")
@click.argument(
    "script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    shell_complete=complete_scripts,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS…]")
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    shell_complete=complete_bundles,
    help="The bundle that holds what the script needs.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="JOBS",
    help="Run it so many times, each in a directory of its own; OFFLINE_BUNDLE_JOB has the job's number.",
)
@NO_NETWORK
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the jobs' directories are made.  [default: NAME-jobs]",
)
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many jobs run at a time.  [default: usable cores]",
)
@click.option("--python", metavar="PATH", help="The interpreter to use.  [default: one that fits]")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary, only errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is chosen and why.")
@click.option("--json", "as_json", is_flag=True, help="With -j: the results as JSON on stdout.")
@click.pass_context
def run_command(  # noqa: PLR0913
    context: click.Context,
    *,
    script: Path,
    arguments: tuple[str, ...],
    bundle: Path,
    jobs: int | None,
    no_network: bool,
    output: Path | None,
    parallel: int | None,
    python: str | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Run SCRIPT from a bundle, offline.

    Without -j it runs in this directory, in place of this command: its streams, signals and exit code are its
    own. With -j a failing job stops no other, and the exit code is 8 if any failed.
    """
    from offline_bundle.runner.engines.local.jobs import run_jobs
    from offline_bundle.runner.engines.local.launch import run_here
    from offline_bundle.runner.engines.local.pool import JobsInterruptedError

    options = ["-q"] * (quiet or as_json) + ["-v"] * verbose
    if jobs is None:
        for given, name in ((output, "--output"), (parallel, "--parallel"), (as_json, "--json")):
            if given:
                raise click.UsageError(f"{name} is about jobs: give it together with -j")
        run_here(
            script, bundle, arguments=arguments, no_network=no_network, python=python, options=options
        )
    directory = output or Path(f"{script.stem}-jobs")
    interruption = None
    with _progress(jobs, is_quiet=quiet or as_json) as progress:
        try:
            results = run_jobs(
                script,
                bundle,
                jobs=jobs,
                directory=directory,
                arguments=arguments,
                no_network=no_network,
                parallel=parallel,
                python=python,
                options=options,
                on_result=progress,
            )
        except JobsInterruptedError as error:
            interruption, results = error, list(error.results)
    error_found = interruption or _failure(results, directory)
    if as_json:
        click.echo(json.dumps(_document(script, directory, results, error_found), indent=2))
        context.exit(error_found.exit_code if error_found else 0)
    if not quiet:
        _print_summary(directory, results)
    if error_found:
        raise error_found


def _failure(results: Sequence[JobResult], directory: Path) -> BundleError | None:
    """Name the jobs that failed, each with the end of its console; None where all is well."""
    from offline_bundle.wheelhouse.runtime.errors import JobsFailedError

    failed = [result for result in results if not result.succeeded]
    if not failed:
        return None
    problems = []
    for result in failed[:_FULL_TABLE]:
        problems.append(f"{result.directory.name}: {result.state}")
        problems += [f"  | {printable(line)}" for line in result.tail.splitlines()]
    if len(failed) > _FULL_TABLE:
        problems.append(f"… and {len(failed) - _FULL_TABLE} more")
    message = f"{len(failed)} of {len(results)} jobs failed: {_ranges([result.index for result in failed])}"
    hint = f"all that a job wrote is in {directory}/job-NNNN/console.txt"
    return JobsFailedError(message, problems=problems, hint=hint)


def _document(
    script: Path, directory: Path, results: Sequence[JobResult], error: BundleError | None
) -> dict[str, Any]:
    """Put the results in plain data for `--json`."""
    document: dict[str, Any] = {
        "script": str(script),
        "directory": str(directory.absolute()),
        "jobs": [
            {
                "job": result.index,
                "directory": str(result.directory),
                "state": result.state,
                "exit_code": result.exit_code,
                "signal": result.signal,
                "seconds": round(result.seconds, 3),
                "console": str(result.console) if result.console else None,
                "files": list(result.files),
            }
            for result in results
        ],
    }
    if error:
        document["error"] = {"code": error.exit_code, "message": str(error), "hint": error.hint}
    return document


def _progress(
    jobs: int, *, is_quiet: bool
) -> AbstractContextManager[Callable[[JobResult], None] | None]:
    """Show on stderr how far the jobs are: a bar on a terminal, else a line for each that has ended."""
    if is_quiet:
        return contextlib.nullcontext()
    if not sys.stderr.isatty():
        return contextlib.nullcontext(_print_line)
    return _bar(jobs)


def _print_line(result: JobResult) -> None:
    click.echo(f"{result.directory.name}: {result.state}, {result.seconds:.1f} s", err=True)


@contextlib.contextmanager
def _bar(jobs: int) -> Iterator[Callable[[JobResult], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("jobs", total=jobs)
        failed = 0

        def advance(result: JobResult) -> None:
            nonlocal failed
            failed += not result.succeeded
            description = f"jobs ({failed} failed)" if failed else "jobs"
            progress.update(task, advance=1, description=description)

        yield advance


def _print_summary(directory: Path, results: Sequence[JobResult]) -> None:
    """Print a row for each job; of many jobs only those that failed."""
    from offline_bundle.wheelhouse.cli.output import print_table

    done = sum(result.succeeded for result in results)
    shown = [result for result in results if len(results) <= _FULL_TABLE or not result.succeeded]
    rows = [
        (
            result.directory.name,
            (result.state, "green" if result.succeeded else "red"),
            f"{result.seconds:.1f}",
            _listed(result.files),
        )
        for result in shown[:_FULL_TABLE]
    ]
    if rows:
        print_table(("job", "state", "seconds", "files"), rows, numbers={"seconds"})
    slowest = max((result.seconds for result in results), default=0)
    ending = f"{done} of {len(results)} jobs done, the slowest in {slowest:.1f} s; their files are in {directory}"
    click.echo(printable(ending))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_FILES} more" if len(names) > _NAMED_FILES else ""
    return printable(", ".join(names[:_NAMED_FILES]) + more)


def _ranges(numbers: Sequence[int]) -> str:
    """Write sorted numbers compactly: `1-3, 7`."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(
        f"{group[0]}-{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in groups
    )
