"""The command `submit`: run a script as jobs by one of the engines."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.runner.cli.engine_options import (
    engine_options,
    engine_titles,
    take_engine_options,
)
from offline_bundle.runner.cli.job_output import (
    DOWNLOAD,
    FOLLOW,
    follow_jobs,
    notice,
    print_outcome,
    submission_steps,
)
from offline_bundle.runner.engine import ENGINES
from offline_bundle.runner.resources import RESOURCES
from offline_bundle.wheelhouse.cli.kit.completers import complete_bundles, complete_scripts
from offline_bundle.wheelhouse.cli.kit.options import SizeType, json_option, quiet_option
from offline_bundle.wheelhouse.cli.kit.sections import SectionedCommand

if TYPE_CHECKING:
    from offline_bundle.runner.model import ProjectState


def _split(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Split a command as a shell does."""
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from error


_DEFAULT_ENGINE = next(iter(ENGINES))
_SECRETS = {"password", "token", "client_secret"}
_FILES = "Values and files"
_RESOURCES = "Resources and start of a job"
SECTIONS = {
    **dict.fromkeys(["settings", "table", "inputs"], _FILES),
    **dict.fromkeys(["outputs", "output_limit", "output_values"], _FILES),
    **dict.fromkeys(["cores", "memory", "max_execution_time"], _RESOURCES),
    **dict.fromkeys(["gpus", "nodes", "tasks", "run_with", "environment"], _RESOURCES),
}
"""Parameter -> title of its section in the help."""


@click.command("submit", cls=SectionedCommand, titles=SECTIONS | engine_titles("OPTIONS"))
@click.argument(
    "script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    shell_complete=complete_scripts,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS…]")
@click.option(
    "--bundle",
    metavar="DIR",
    help="Bundle folder, as nodes see it.",
    shell_complete=complete_bundles,
)
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default=_DEFAULT_ENGINE,
    show_default=True,
    help="Engine that runs the jobs.",
)
@click.option(
    "-j",
    "--num-jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of jobs.  [default: 10]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a value for every job; repeatable.",
)
@click.option(
    "--values",
    "table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="CSV",
    help="Table with one job per row; the first line names the values. "
    "Scripts read input_parameters.json.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Additional file or folder for the job, with its relative path; repeatable.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="PATTERN",
    help="Output to collect, and to require: plot.png, 'plots/*.png' or plots/; repeatable.  "
    "[default: images and tables, not required]",
)
@click.option(
    "--output-limit",
    type=SizeType(),
    metavar="SIZE",
    help="Largest output file to collect.  [default: 64MiB without --output]",
)
@click.option(
    "--output-value",
    "output_values",
    multiple=True,
    metavar="NAME",
    help="Number that the script writes to output_parameters.json; repeatable.",
)
@DOWNLOAD
@click.option("--overwrite", is_flag=True, help="Replace earlier results in the results folder.")
@FOLLOW
@click.option("--no-wait", is_flag=True, help="Submit only; see `offline-bundle jobs`.")
@click.option("--name", help="Project name.  [default: script name and number of jobs]")
@click.option(
    "--cores",
    type=RESOURCES["cores"],
    metavar="N",
    help="Cores per job. This and the next three options also accept {name}, a value of the job.  "
    "[default: 0.5 with hps, else 1]",
)
@click.option(
    "--memory",
    type=RESOURCES["memory"],
    metavar="SIZE",
    help="Memory per job.  [default: 100MiB with hps, else the scheduler's]",
)
@click.option(
    "--max-execution-time",
    type=RESOURCES["max_execution_time"],
    metavar="SECONDS",
    help="Time limit of a job.  [default: 500 with hps, else the scheduler's]",
)
@click.option("--gpus", type=RESOURCES["gpus"], metavar="N", help="GPUs per node of a job.")
@click.option("--nodes", type=click.IntRange(min=1), help="Nodes per job.")
@click.option(
    "--tasks",
    type=click.IntRange(min=1),
    help="Processes of the script per job, as for MPI; with slurm, started by srun.",
)
@click.option(
    "--run-with",
    metavar="COMMAND",
    default="",
    callback=_split,
    help="Command that starts the script: 'mpirun -n 4', 'apptainer exec IMAGE'.",
)
@click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="NAME=VALUE",
    help="Environment variable for the script; repeatable.",
)
@engine_options("OPTIONS")
@quiet_option
@json_option
@click.pass_context
def submit_command(  # noqa: PLR0913
    context: click.Context,
    /,
    *,
    engine: str,
    num_jobs: int | None,
    settings: Sequence[str],
    table: Path | None,
    download: Path | None,
    overwrite: bool,
    followed: str | None,
    no_wait: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - options of Request and engines
) -> None:
    """Run SCRIPT as jobs from a bundle: on an HPS server, by a batch scheduler, or on this machine.

    ARGS are the script's; {name} in them is replaced by the value of the job.

    Waits, downloads the results, and exits with 8 if jobs failed. Ctrl-C leaves jobs running and
    prints the command that continues.
    """
    if table and num_jobs:
        raise click.UsageError("--values defines one job per row: leave out -j")
    if followed and no_wait:
        raise click.UsageError("--follow has no effect with --no-wait")
    from offline_bundle.runner.follow import check_followed, resume_command
    from offline_bundle.runner.submissions import DEFAULT_JOBS, plan_submission
    from offline_bundle.runner.values import plan_values

    options = take_engine_options(context, "OPTIONS", engine, given)
    given["environment"] = _variables(given["environment"])
    given["values"] = plan_values(settings, table, jobs=num_jobs or DEFAULT_JOBS)
    if followed:
        check_followed(followed, len(given["values"].rows))
    submission = plan_submission(
        engine, options, given, download=download, overwrite=overwrite, wait=not no_wait
    )
    is_quiet, directory = quiet or as_json, submission.directory
    with submission.open(notice) as opened:
        if options.get("dry_run"):
            text = opened.dry_run(submission.request, directory)  # type: ignore[attr-defined]
            click.echo(text, nl=False)
            return
        with submission_steps(is_quiet=is_quiet) as step:
            project = submission.submit(opened, progress=step, command=given_command(context))
        if no_wait:
            command = resume_command(opened, project, directory)
            _print_submitted(project, command, as_json=as_json, is_quiet=is_quiet)
            return
        outcome = follow_jobs(
            opened, project, wait=True, directory=directory, is_quiet=is_quiet, followed=followed
        )
    print_outcome(context, outcome, as_json=as_json, is_quiet=is_quiet)


def _variables(settings: Sequence[str]) -> Mapping[str, str]:
    pairs = [setting.partition("=") for setting in settings]
    for setting, (name, equals, _) in zip(settings, pairs, strict=True):
        if not name or not equals:
            raise click.UsageError(f"--env {setting!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _print_submitted(project: ProjectState, command: str, *, as_json: bool, is_quiet: bool) -> None:
    jobs = project.counts.total
    from offline_bundle.wheelhouse.runtime.text import printable, printable_lines

    if as_json:
        document = {"project": project.document(), "jobs": {"total": jobs}}
        click.echo(json.dumps(document, indent=2))
    elif is_quiet:
        click.echo(printable(project.project_id))
    else:
        from offline_bundle.wheelhouse.runtime.sizes import count

        title = printable_lines(f"{project.name} ({project.project_id})")
        click.echo(f"{title}: {count(jobs, 'job')} submitted")
        click.echo(f"to continue:\n  {printable(command)}")


def given_command(context: click.Context) -> str:
    """Return the command line; passwords are left out, and values of variables are hidden."""
    words = ["offline-bundle", str(context.command.name)]
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is click.core.ParameterSource.COMMANDLINE and parameter.name not in _SECRETS:
            words += _words(parameter, context.params[str(parameter.name)])
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> Iterator[str]:  # noqa: ANN401 - of any option
    values = value if parameter.multiple or parameter.nargs == -1 else [value]
    for item in values:
        if not isinstance(parameter, click.Option):
            yield str(item)
        elif parameter.is_flag:
            yield parameter.opts[-1]
        else:
            # a variable may be a license key or a token
            hidden = f"{str(item).partition('=')[0]}=..." if parameter.name == "environment" else ""
            yield from (parameter.opts[-1], hidden or str(item))
