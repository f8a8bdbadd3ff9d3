"""The command `jobs`: show, wait for or download the jobs of a project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.runner.cli.display import notice
from offline_bundle.runner.cli.engine_options import (
    EngineCommand,
    engine_options,
    take_engine_options,
)
from offline_bundle.runner.cli.job_output import DOWNLOAD, follow_jobs, print_outcome
from offline_bundle.runner.engine import ENGINES, engine_module, open_engine
from offline_bundle.wheelhouse.cli.kit.options import json_option, quiet_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offline_bundle.runner.model import ProjectState

_DEFAULT_ENGINE = next(iter(ENGINES))


@click.command("jobs", cls=EngineCommand)
@click.argument("project", required=False)
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    help=f"Engine of the jobs.  [default: that of a results folder, else {_DEFAULT_ENGINE}]",
)
@click.option("--wait", is_flag=True, help="Wait until all jobs have ended.")
@DOWNLOAD
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
    quiet: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - options of engines
) -> None:
    """Show or wait for the jobs of PROJECT; without PROJECT, list the newest projects.

    PROJECT is a name, an id, or a results folder. Files that were downloaded before are not
    transferred again. Exits with 8 if jobs failed.
    """
    if not project and (wait or download):
        raise click.UsageError(
            "--wait and --download require PROJECT: `offline-bundle jobs` lists projects"
        )
    from offline_bundle.runner.results.folder import read_owner

    owner = read_owner(Path(project)) if project and not engine else None
    engine = engine or (owner.engine if owner and owner.engine in ENGINES else _DEFAULT_ENGINE)
    options = take_engine_options(context, "JOBS_OPTIONS", engine, given)
    needs_directory = engine_module(engine).needs_directory(options)
    if owner and not needs_directory:
        project = owner.project
    is_quiet = quiet or as_json
    with open_engine(engine, options, notice) as opened:
        if not project:
            _print_projects(opened.list_projects(), as_json=as_json)
            return
        state = opened.find(project)
        if needs_directory:
            download = download or Path(state.project_id)
        outcome = follow_jobs(opened, state, wait=wait, directory=download, is_quiet=is_quiet)
    print_outcome(context, outcome, as_json=as_json, is_quiet=is_quiet)


def _print_projects(projects: Sequence[ProjectState], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "id": project.project_id,
                "name": project.name,
                "states": dict(project.counts.by_state),
            }
            for project in projects
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
