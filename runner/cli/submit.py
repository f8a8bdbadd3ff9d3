"""The `submit` and `jobs` commands: jobs by one of the engines, and the way back to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_bundle.runner.cli.display import Display
from offline_bundle.runner.engine import ENGINES, engine_module, open_engine
from offline_bundle.wheelhouse.cli.completers import (
    complete_bundles,
    complete_scripts,
)
from offline_bundle.wheelhouse.cli.options import SizeType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from offline_bundle.runner.engine import Engine
    from offline_bundle.runner.follow import Outcome
    from offline_bundle.runner.model import ProjectState
    from offline_bundle.wheelhouse.runtime.errors import BundleError

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_DEFAULT_JOBS = 10
_DEFAULT_ENGINE = next(iter(ENGINES))
_DOWNLOAD = click.option(
    "--download",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Bring the outputs.",
)
_QUIET = click.option(
    "-q", "--quiet", is_flag=True, help="No progress and no summary, only errors."
)
_AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="What came of it as JSON on stdout."
)


def _engine_options(attribute: str) -> Callable[[_Command], _Command]:
    """Add the options of all engines; one that several have is added once."""

    def add(command: _Command) -> _Command:
        options = [option for name in ENGINES for option in getattr(engine_module(name), attribute)]
        for option in reversed(dict.fromkeys(options)):
            option(command)
        return command

    return add


class _EngineCommand(click.Command):
    """A command whose help tells which options belong to which engine."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options of all engines, then those of each."""
        owned = _options_of("OPTIONS")
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            owners = [name for name in owned if parameter.name in owned[name]]
            shown = parameter.get_help_record(ctx)
            if shown and isinstance(parameter, click.Option):
                title = f"With --engine {' or '.join(owners)}" if owners else "Options"
                sections.setdefault(title, []).append(shown)
        for title, shown_options in sections.items():
            with formatter.section(title):
                formatter.write_dl(shown_options)


def _options_of(attribute: str) -> dict[str, tuple[str, ...]]:
    """The parameters' names of each engine's own options."""
    return {name: _names(getattr(engine_module(name), attribute)) for name in ENGINES}


def _names(options: Iterable[Callable[..., Any]]) -> tuple[str, ...]:
    def bearer() -> None:
        pass

    for option in options:
        option(bearer)
    return tuple(str(parameter.name) for parameter in getattr(bearer, "__click_params__", ()))


def _own_options(
    context: click.Context, attribute: str, engine: str, given: dict[str, Any]
) -> dict[str, Any]:
    """Take the engine's options out of those *given*; refuse those of another engine on the command line."""
    names = _options_of(attribute)
    own = {name: given[name] for name in names[engine]}
    for parameter in context.command.params:
        owners = [other for other in names if parameter.name in names[other]]
        is_given = (
            context.get_parameter_source(str(parameter.name))
            is click.core.ParameterSource.COMMANDLINE
        )
        if owners and engine not in owners and is_given:
            raise click.UsageError(
                f"{parameter.opts[-1]} is an option of the engine {' and '.join(owners)}: add --engine {owners[0]}, "
                "or leave it out"
            )
        if owners:
            given.pop(str(parameter.name), None)
    return own


@click.command("submit", cls=_EngineCommand)
@click.argument(
    "script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    shell_complete=complete_scripts,
)
@click.option(
    "--bundle",
    metavar="DIR",
    help="The bundle's directory, as the nodes see it.",
    shell_complete=complete_bundles,
)
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default=_DEFAULT_ENGINE,
    show_default=True,
    help="What runs the jobs.",
)
@click.option(
    "-j",
    "--num-jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many jobs.  [default: 10]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for every job; repeatable.",
)
@click.option(
    "--values",
    "table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="CSV",
    help="A table with one job a row; its first line names the values. Scripts read input_parameters.json.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A further file that the script finds beside it; repeatable.",
)
@click.option(
    "--output", "outputs", multiple=True, metavar="FILE", help="A file to collect; repeatable."
)
@click.option(
    "--output-value",
    "output_values",
    multiple=True,
    metavar="NAME",
    help="A number that the script writes to output_parameters.json; repeatable.",
)
@_DOWNLOAD
@click.option("--no-wait", is_flag=True, help="Come back later, with `offline-bundle jobs`.")
@click.option("--name", help="Of the project.  [default: the script's name and the number of jobs]")
@click.option(
    "--cores",
    type=click.FloatRange(min=0, min_open=True),
    help="Per job.  [default: 0.5 with hps, 1 with slurm]",
)
@click.option(
    "--memory", type=SizeType(), help="Per job.  [default: 100MiB with hps, the partition's with slurm]"
)
@click.option(
    "--max-execution-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="When a job is ended.  [default: 500 with hps, the partition's with slurm]",
)
@click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="NAME=VALUE",
    help="A variable for the script; repeatable.",
)
@_engine_options("OPTIONS")
@_QUIET
@_AS_JSON
@click.pass_context
def submit_command(  # noqa: PLR0913
    context: click.Context,
    /,
    *,
    engine: str,
    num_jobs: int | None,
    settings: Sequence[str],
    table: Path | None,
    environment: Sequence[str],
    bundle: str | None,
    download: Path | None,
    no_wait: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - options that go on as they are
) -> None:
    """Run SCRIPT as jobs from a bundle: on an HPS server, by Slurm, or on this machine.

    It waits, brings the results, and exits with 8 if jobs failed. Ctrl-C leaves jobs running and says how to return.
    """
    if table and num_jobs:
        raise click.UsageError("--values has one job a row: leave out -j")
    options = _own_options(context, "OPTIONS", engine, given)
    module = engine_module(engine)
    module.check_usage(options, bundle=bundle, wait=not no_wait)

    from offline_bundle.runner.follow import resume_command
    from offline_bundle.runner.request import Request
    from offline_bundle.runner.results.folder import check_empty
    from offline_bundle.runner.values import plan_values

    values = plan_values(settings, table, jobs=num_jobs or _DEFAULT_JOBS)
    if module.needs_directory(options) and not download:
        download = Path(f"{given['script'].stem}-results")
    if download:
        check_empty(download)
    bundle = as_nodes_name_it(bundle)
    request = Request(bundle=bundle, values=values, environment=_variables(environment), **given)
    display = Display(is_quiet=quiet or as_json)
    with open_engine(engine, {**options, "bundle": bundle}, display.notice) as opened:
        with display.steps() as step:
            project = opened.submit(request, download, step)
        if no_wait:
            _print_submitted(
                project, resume_command(opened, project, download), display, as_json=as_json
            )
            return
        outcome = _follow(opened, project, waits=True, directory=download, display=display)
    _report(context, outcome, display, as_json=as_json)


@click.command("jobs", cls=_EngineCommand)
@click.argument("project", required=False)
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    help=f"What runs the jobs.  [default: as a folder of results says, else {_DEFAULT_ENGINE}]",
)
@click.option("--wait", is_flag=True, help="Until all jobs have ended.")
@_DOWNLOAD
@_engine_options("JOBS_OPTIONS")
@_QUIET
@_AS_JSON
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
    **given: Any,  # noqa: ANN401 - options that go on as they are
) -> None:
    """Come back to the jobs of PROJECT: a name, an identifier, or a folder of results; without one, list the newest.

    What was downloaded before is not transferred again. Exits with 8 if jobs failed.
    """
    if not project and (wait or download):
        raise click.UsageError("which project? `offline-bundle jobs` lists them")
    from offline_bundle.runner.results.folder import read_owner

    owner = read_owner(Path(project)) if project and not engine else None
    engine = engine or (owner.engine if owner and owner.engine in ENGINES else _DEFAULT_ENGINE)
    options = _own_options(context, "JOBS_OPTIONS", engine, given)
    works_there = engine_module(engine).needs_directory(options)
    if owner and not works_there:
        project = owner.project
    display = Display(is_quiet=quiet or as_json)
    with open_engine(engine, options, display.notice) as opened:
        if not project:
            _print_projects(opened.list_projects(), as_json=as_json)
            return
        found = opened.find(project)
        if works_there:
            download = download or Path(found.project_id)
        outcome = _follow(opened, found, waits=wait, directory=download, display=display)
    _report(context, outcome, display, as_json=as_json)


def _follow(
    engine: Engine, project: ProjectState, *, waits: bool, directory: Path | None, display: Display
) -> Outcome:
    from offline_bundle.runner.follow import JobsGoOnError, follow, resume_command

    try:
        with display.progress(project.counts.total) as (show, show_bytes):
            return follow(
                engine,
                project,
                wait=waits,
                directory=directory,
                show=show,
                show_bytes=show_bytes,
                notice=display.notice,
            )
    except KeyboardInterrupt:
        hint = f"to return: {resume_command(engine, project, directory)}"
        fate = engine.on_interrupt(project)
        if fate:
            raise JobsGoOnError(f"interrupted: {fate}") from None
        raise JobsGoOnError(f"interrupted; the jobs of {project.name} go on", hint=hint) from None


def as_nodes_name_it(bundle: str | None) -> str | None:
    """The bundle, its path made absolute where it lies here: jobs start elsewhere. Other names are the nodes'."""
    return str(Path(bundle).absolute()) if bundle and Path(bundle).is_dir() else bundle


def _variables(settings: Sequence[str]) -> Mapping[str, str]:
    pairs = [setting.partition("=") for setting in settings]
    for setting, (name, equals, _) in zip(settings, pairs, strict=True):
        if not name or not equals:
            raise click.UsageError(f"--env {setting!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _report(context: click.Context, outcome: Outcome, display: Display, *, as_json: bool) -> None:
    """Say what came of it; raise for failed jobs."""
    error = outcome.error()
    if as_json:
        click.echo(json.dumps(outcome.document() | _error_document(error), indent=2))
        context.exit(error.exit_code if error else 0)
    if not display.is_quiet:
        from offline_bundle.wheelhouse.runtime.sizes import count, format_size

        click.echo(f"{outcome.name} ({outcome.project_id}): {outcome.counts.describe()}")
        if outcome.results:
            results = outcome.results
            click.echo(
                f"{count(results.files, 'file')}, {format_size(results.size)}, to look at in {results.page}"
            )
    if error:
        raise error


def _error_document(error: BundleError | None) -> dict[str, Any]:
    if error is None:
        return {}
    return {"error": {"code": error.exit_code, "message": str(error), "hint": error.hint}}


def _print_submitted(
    project: ProjectState, resume_arguments: str, display: Display, *, as_json: bool
) -> None:
    jobs = project.counts.total
    if as_json:
        document = {
            "project": {"id": project.project_id, "name": project.name},
            "jobs": {"total": jobs},
        }
        click.echo(json.dumps(document, indent=2))
    elif display.is_quiet:
        click.echo(project.project_id)
    else:
        from offline_bundle.wheelhouse.runtime.sizes import count

        click.echo(
            f"{project.name} ({project.project_id}): {count(jobs, 'job')} submitted; to return:\n  {resume_arguments}"
        )


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
    from offline_bundle.wheelhouse.cli.output import print_table
    from offline_bundle.wheelhouse.runtime.paths import printable

    cells = [
        (project.project_id, printable(project.name), project.counts.describe())
        for project in projects
    ]
    print_table(("project", "name", "jobs"), cells)
