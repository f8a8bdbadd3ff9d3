"""The command `jobs`: show, wait for or download the jobs of a project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
)
from offline_bundle.runner.engine import ENGINES, engine_module, open_engine
from offline_bundle.wheelhouse.cli.kit.options import json_option, quiet_option
from offline_bundle.wheelhouse.cli.kit.sections import SectionedCommand
from offline_bundle.wheelhouse.runtime.sizes import count

if TYPE_CHECKING:
    from offline_bundle.runner.model import Counts, ProjectState

_DEFAULT_ENGINE = next(iter(ENGINES))


@click.command("jobs", cls=SectionedCommand, titles=engine_titles("JOBS_OPTIONS"))
@click.argument("project", required=False)
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    help=f"Engine of the jobs.  [default: that of a results folder, else {_DEFAULT_ENGINE}]",
)
@click.option("--wait", is_flag=True, help="Wait until all jobs have ended.")
@DOWNLOAD
@FOLLOW
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Run the failed jobs again, wait and download; results of other jobs are kept.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="JOB|STATE",
    help="With --retry-failed: only these jobs, such as job-0003, 'job-00*' or timeout; "
    "repeatable.",
)
@click.option("--cancel", is_flag=True, help="End the jobs that have not ended; keep all results.")
@click.option(
    "--delete",
    is_flag=True,
    help="Remove the project with its results: from the server, or the folder in which jobs "
    "worked. Its jobs must have ended; or add --cancel.",
)
@engine_options("JOBS_OPTIONS")
@quiet_option
@json_option
@click.pass_context
def jobs_command(  # noqa: PLR0913
    context: click.Context,
    /,
    *,
    project: str | None,
    engine: str | None,
    wait: bool,
    download: Path | None,
    followed: str | None,
    retry_failed: bool,
    only: Sequence[str],
    cancel: bool,
    delete: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - options of engines
) -> None:
    """Show or wait for the jobs of PROJECT; without PROJECT, list the newest projects.

    PROJECT is a name or a part of it, an id, or a results folder. Files that were downloaded
    before are not transferred again. Exits with 8 if jobs failed.
    """
    actions = {"--retry-failed": retry_failed, "--cancel": cancel, "--delete": delete}
    given_options = {"--wait": wait, "--download": download, "--follow": followed, **actions}
    _check_usage(project, given_options, only)
    from offline_bundle.runner.submissions import (
        end_jobs,
        find_engine,
        find_project,
        retry_failed_jobs,
    )

    engine, owner = find_engine(project, engine) if project else (engine or _DEFAULT_ENGINE, None)
    options = take_engine_options(context, "JOBS_OPTIONS", engine, given)
    needs_directory = engine_module(engine).needs_directory(options)
    folder = Path(project) if project and owner else None
    if owner and not needs_directory:
        project = owner.project
    is_quiet = quiet or as_json
    with open_engine(engine, options, notice) as opened:
        if not project:
            _print_projects(opened.list_projects(), as_json=as_json)
            return
        state = find_project(opened, project)
        if cancel or delete:
            ended = end_jobs(opened, state, cancel=cancel, delete=delete)
            _print_ended(state, ended, is_deleted=delete, as_json=as_json, is_quiet=is_quiet)
            return
        if needs_directory:
            download = download or Path(state.project_id)
        waits = wait or retry_failed or bool(followed)
        if waits:
            download = download or folder
        if retry_failed:
            number = retry_failed_jobs(opened, state, only)
            if not is_quiet:
                notice(f"{count(number, 'job')} started again")
        outcome = follow_jobs(
            opened,
            state,
            wait=waits,
            directory=download,
            is_quiet=is_quiet,
            followed=followed,
        )
    print_outcome(context, outcome, as_json=as_json, is_quiet=is_quiet)


def _check_usage(
    project: str | None, needs_project: Mapping[str, object], only: Sequence[str]
) -> None:
    given = [name for name, value in needs_project.items() if value]
    if given and not project:
        raise click.UsageError(
            f"{' and '.join(given)} requires PROJECT: `offline-bundle jobs` lists projects"
        )
    if only and "--retry-failed" not in given:
        raise click.UsageError("--only requires --retry-failed")
    if {"--cancel", "--delete"} & {*given} and {*given} - {"--cancel", "--delete"}:
        others = " and ".join(name for name in given if name not in {"--cancel", "--delete"})
        raise click.UsageError(f"--cancel and --delete exclude {others}")


def _print_ended(
    project: ProjectState, counts: Counts, *, is_deleted: bool, as_json: bool, is_quiet: bool
) -> None:
    if as_json:
        states = {"total": counts.total, "states": dict(counts.by_state)}
        document = {"project": project.document(), "jobs": states, "deleted": is_deleted}
        click.echo(json.dumps(document, indent=2))
    elif not is_quiet:
        from offline_bundle.wheelhouse.runtime.text import printable_lines

        title = printable_lines(f"{project.name} ({project.project_id})")
        click.echo(f"{title}: {counts.describe()}{'; deleted' if is_deleted else ''}")


def _print_projects(projects: Sequence[ProjectState], *, as_json: bool) -> None:
    if as_json:
        rows = [
            project.document() | {"states": dict(project.counts.by_state)} for project in projects
        ]
        click.echo(json.dumps({"projects": rows}, indent=2))
        return
    if not projects:
        click.echo("no projects")
        return
    from offline_bundle.wheelhouse.cli.kit.output import print_table
    from offline_bundle.wheelhouse.runtime.text import printable

    cells = [
        (project.project_id, printable(project.name), project.counts.describe())
        for project in projects
    ]
    print_table(("project", "name", "jobs"), cells)
