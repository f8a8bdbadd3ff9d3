"""The command `run`: run a script from a bundle, once or as N jobs on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.runner.options import NO_NETWORK, PYTHON
from offline_bundle.wheelhouse.cli.kit.completers import complete_bundles, complete_scripts
from offline_bundle.wheelhouse.cli.kit.progress import show_progress
from offline_bundle.wheelhouse.runtime.text import printable

if TYPE_CHECKING:
    from typing import Any

    from offline_bundle.runner.engines.local.pool import JobResult
    from offline_bundle.wheelhouse.runtime.errors import BundleError

_FULL_TABLE = 20
"""Most rows of the summary; for more jobs, only those that failed have rows."""

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
    envvar="OFFLINE_BUNDLE",
    metavar="DIR",
    shell_complete=complete_bundles,
    help="Bundle folder.  [default: OFFLINE_BUNDLE]",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="JOBS",
    help="Run JOBS jobs, each in its own folder; OFFLINE_BUNDLE_JOB is the number of the job.",
)
@NO_NETWORK
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the folders of jobs.  [default: NAME-jobs]",
)
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    metavar="N",
    help="Jobs that run at a time.  [default: usable cores]",
)
@PYTHON
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print what is chosen and why.")
@click.option("--json", "as_json", is_flag=True, help="With -j: print the results as JSON.")
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

    Without -j, the script replaces this command in the current folder, with its own streams,
    signals and exit code. With -j, jobs are independent, and the exit code is 8 if any failed.
    """
    from offline_bundle.runner.engines.local.jobs import run_jobs
    from offline_bundle.runner.engines.local.launch import run_here
    from offline_bundle.runner.engines.local.pool import JobsInterruptedError

    options = ["-q"] * (quiet or as_json) + ["-v"] * verbose
    if jobs is None:
        for given, name in ((output, "--output"), (parallel, "--parallel"), (as_json, "--json")):
            if given:
                raise click.UsageError(f"{name} requires -j")
        run_here(
            script,
            bundle,
            arguments=arguments,
            no_network=no_network,
            python=python,
            options=options,
        )
    directory = output or Path(f"{script.stem}-jobs")
    interruption = None
    with _job_progress(jobs, is_quiet=quiet or as_json) as progress:
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
    """Return an error with the failed jobs and the ends of their consoles, or None."""
    from offline_bundle.runner.results.job_sets import format_indices, job_set
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
    numbers = format_indices(job_set([result.index for result in failed])).replace(",", ", ")
    message = f"{len(failed)} of {len(results)} jobs failed: {numbers}"
    hint = f"read the console output in {directory}/job-NNNN/console.txt"
    return JobsFailedError(message, problems=problems, hint=hint)


def _document(
    script: Path, directory: Path, results: Sequence[JobResult], error: BundleError | None
) -> dict[str, Any]:
    """Return the results as plain data for `--json`."""
    from offline_bundle.wheelhouse.cli.kit.output import error_document

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
    return document | error_document(error)


@contextmanager
def _job_progress(jobs: int, *, is_quiet: bool) -> Iterator[Callable[[JobResult], None]]:
    """Yield a function that shows the end of each job."""
    ended = failed = 0
    with show_progress(is_quiet=is_quiet) as progress:

        def show(result: JobResult) -> None:
            nonlocal ended, failed
            ended += 1
            failed += not result.succeeded
            text = f"{failed:,} failed" if failed else "none failed"
            progress.items("jobs", done=ended, total=jobs, text=text)

        yield show


def _print_summary(directory: Path, results: Sequence[JobResult]) -> None:
    """Print a row for each job; if there are many, for the failed ones only."""
    from offline_bundle.wheelhouse.cli.kit.output import print_table

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
    summary = f"{done} of {len(results)} jobs done, slowest {slowest:.1f} s; files in {directory}"
    click.echo(printable(summary))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_FILES} more" if len(names) > _NAMED_FILES else ""
    return printable(", ".join(names[:_NAMED_FILES]) + more)
