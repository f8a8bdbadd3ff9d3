"""The `submit` and `jobs` commands: jobs on an HPS server, and the way back to them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner.display import Display
from wheelhouse.completion import complete_bundles, complete_scripts
from wheelhouse.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.follow import Outcome
    from runner.server import Server, Session
    from runner.submit import Submission
    from runner.watch import ProjectState
    from wheelhouse.errors import BundleError

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_DEFAULT_JOBS = 10
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


class _Size(click.ParamType[int]):
    """A size in bytes, as people write it."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Read `100MB`, `2GiB`, `104857600`."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower().removesuffix("b")
        number = text.rstrip("kmgi")
        try:
            return int(float(number) * _UNITS[text[len(number) :].strip()])
        except (ValueError, KeyError, OverflowError):
            self.fail(f"{value!r} is not a size such as 500MB or 2GiB", param, ctx)


def _server_options(command: _Command) -> _Command:
    """Add what says where the server is and who signs in."""
    options = [
        click.option(
            "-U",
            "--url",
            envvar="HPS_URL",
            default="https://localhost:8443/hps",
            show_default=True,
            show_envvar=True,
            help="The HPS server.",
        ),
        click.option("-u", "--username", envvar="HPS_USERNAME", default="repuser", show_default=True, show_envvar=True),
        click.option(
            "-p",
            "--password",
            envvar="HPS_PASSWORD",
            show_envvar=True,
            help="Better given in the environment, in the keyring, or at the prompt: others see command lines.",
        ),
        click.option(
            "--ca-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Certificates (PEM) of the authority to trust, instead of the usual ones.",
        ),
        click.option(
            "--insecure",
            is_flag=True,
            help="Do not verify the server's certificate. Anybody in between can then read the password and hand out "
            "files and programs that run here.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("submit")
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path), shell_complete=complete_scripts)
@click.option(
    "--bundle", metavar="DIR", help="The bundle's directory, as the nodes see it.", shell_complete=complete_bundles
)
@_server_options
@click.option("-j", "--num-jobs", type=click.IntRange(min=1), metavar="N", help="How many jobs.  [default: 10]")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A value for every job; repeatable.")
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
@click.option("--output", "outputs", multiple=True, metavar="FILE", help="A file to collect; repeatable.")
@click.option(
    "--output-value",
    "output_values",
    multiple=True,
    metavar="NAME",
    help="A number that the script writes to output_parameters.json; repeatable.",
)
@click.option("--download", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Bring the outputs.")
@click.option("--no-wait", is_flag=True, help="Come back later, with `offline-bundle jobs`.")
@click.option("--embedded", is_flag=True, help="On this machine: start an embedded HPS for these jobs.")
@click.option("--ship-bundle", is_flag=True, help="Send the bundle with the project: nodes need not see it.")
@click.option("--name", help="Of the project.  [default: the script's name and the number of jobs]")
@click.option("--replace", is_flag=True, help="Remove your projects of the same name first, with their results.")
@click.option("--priority", type=click.IntRange(min=0), default=1, show_default=True, help="Lower goes first.")
@click.option("--software", default="uv", show_default=True, help="As registered with the evaluators.")
@click.option("--software-version", metavar="VERSION", help="[default: any]")
@click.option("--skip-software-check", is_flag=True, help="Submit even if no evaluator says it has the software.")
@click.option("--cores", type=click.FloatRange(min=0, min_open=True), default=0.5, show_default=True)
@click.option("--memory", type=_Size(), default="100MiB", show_default=True)
@click.option("--disk", type=_Size(), default="10MiB", show_default=True)
@click.option(
    "--max-execution-time",
    type=click.FloatRange(min=0, min_open=True),
    default=500.0,
    show_default=True,
    metavar="SECONDS",
    help="When a job is ended.",
)
@click.option("--trials", type=click.IntRange(min=1), default=1, show_default=True, help="Tries of a failing job.")
@click.option(
    "--env", "environment", multiple=True, metavar="NAME=VALUE", help="A variable for the script; repeatable."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary, only errors.")
@click.option("--json", "as_json", is_flag=True, help="What came of it as JSON on stdout.")
@click.pass_context
def submit_command(  # noqa: PLR0913
    context: click.Context,
    /,
    *,
    num_jobs: int | None,
    settings: Sequence[str],
    table: Path | None,
    environment: Sequence[str],
    bundle: str | None,
    download: Path | None,
    no_wait: bool,
    embedded: bool,
    ship_bundle: bool,
    skip_software_check: bool,
    name: str | None,
    replace: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - options that go on as they are
) -> None:
    """Run SCRIPT as jobs on an HPS server, from a bundle that its nodes see, or that travels along.

    It waits, downloads, and exits with 8 if jobs failed. Ctrl-C leaves the jobs running and says how to return.
    """
    if table and num_jobs:
        raise click.UsageError("--values has one job a row: leave out -j")
    if embedded and no_wait:
        raise click.UsageError("the embedded HPS ends with this command: leave out --no-wait")
    if (embedded or ship_bundle) and not bundle:
        raise click.UsageError(f"{'--embedded' if embedded else '--ship-bundle'} needs --bundle DIR")

    from runner.results import check_free
    from runner.ship import packed
    from runner.submit import Submission
    from runner.values import plan_values

    server_options = {option: given.pop(option) for option in ("url", "username", "password", "ca_file", "insecure")}
    values = plan_values(settings, table, jobs=num_jobs or _DEFAULT_JOBS)
    if embedded and not download:
        download = Path(f"{given['script'].stem}-results")
    if download:
        check_free(download)
    with contextlib.ExitStack() as stack:
        bundle = as_nodes_name_it(bundle)
        archive = stack.enter_context(packed(Path(str(bundle)))) if ship_bundle else None
        submission = Submission(
            bundle=None if archive else bundle,
            archive=archive,
            values=values,
            environment=_variables(environment),
            name=name,
            replaces=replace,
            **given,
        )
        if embedded:
            server = stack.enter_context(_embedded(Path(str(bundle)), is_shipped=ship_bundle))
        else:
            server = _server(**server_options)
        _submit_and_follow(
            context,
            server,
            submission,
            directory=download,
            waits=not no_wait,
            checks_software=not skip_software_check,
            survives=not embedded,
            display=Display(is_quiet=quiet or as_json),
            as_json=as_json,
        )


@click.command("jobs")
@click.argument("project", required=False)
@_server_options
@click.option("--wait", is_flag=True, help="Until all jobs have ended.")
@click.option("--download", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Bring the outputs.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary, only errors.")
@click.option("--json", "as_json", is_flag=True, help="What there is as JSON on stdout.")
@click.pass_context
def jobs_command(  # noqa: PLR0913
    context: click.Context,
    /,
    *,
    project: str | None,
    wait: bool,
    download: Path | None,
    quiet: bool,
    as_json: bool,
    **server_options: Any,  # noqa: ANN401 - options that go on as they are
) -> None:
    """Come back to the jobs of PROJECT (a name or an identifier); without one, list your newest projects.

    What was downloaded before is not transferred again. Exits with 8 if jobs failed.
    """
    if not project and (wait or download):
        raise click.UsageError("which project? `offline-bundle jobs` lists them")
    from runner.server import connect
    from runner.watch import find_project, list_projects

    server = _server(**server_options)
    display = Display(is_quiet=quiet or as_json)
    with connect(server, notice=display.notice) as session:
        if not project:
            _print_projects(list_projects(session, sort="-creation_time", limit=20), as_json=as_json)
            return
        found = find_project(session, project)
        outcome = _follow(session, found, waits=wait, directory=download, display=display)
    _report(context, outcome, display, as_json=as_json)


def _submit_and_follow(  # noqa: PLR0913
    context: click.Context,
    server: Server,
    submission: Submission,
    *,
    directory: Path | None,
    waits: bool,
    checks_software: bool,
    survives: bool,
    display: Display,
    as_json: bool,
) -> None:
    from runner.follow import how_to_return
    from runner.server import connect
    from runner.submit import submit
    from runner.watch import find_project

    with connect(server, notice=display.notice) as session:
        with display.steps() as step:
            submitted = submit(session, submission, checks_software=checks_software, progress=step)
        if not waits:
            way_back = how_to_return(server, submitted.project_id, directory)
            _print_submitted(submitted.project_id, submitted.name, submitted.jobs, way_back, display, as_json=as_json)
            return
        project = find_project(session, submitted.project_id)
        outcome = _follow(session, project, waits=True, directory=directory, display=display, survives=survives)
    _report(context, outcome, display, as_json=as_json)


def _follow(  # noqa: PLR0913
    session: Session,
    project: ProjectState,
    *,
    waits: bool,
    directory: Path | None,
    display: Display,
    survives: bool = True,
) -> Outcome:
    from runner.follow import JobsGoOnError, follow, how_to_return

    try:
        with display.progress(project.counts.total) as (show, show_bytes):
            return follow(
                session,
                project,
                waits=waits,
                directory=directory,
                show=show,
                show_bytes=show_bytes,
                notice=display.notice,
            )
    except KeyboardInterrupt:
        if not survives:
            raise JobsGoOnError("interrupted: the jobs have ended with the embedded HPS") from None
        hint = f"to return: {how_to_return(session.server, project.project_id, directory)}"
        raise JobsGoOnError(f"interrupted; the jobs of {project.name} go on", hint=hint) from None


def _server(*, url: str, username: str, password: str | None, ca_file: Path | None, insecure: bool) -> Server:
    from runner.password import find_password
    from runner.server import Server

    found = find_password(url, username, password)
    return Server(url=url, username=username, password=found, ca_file=ca_file, is_insecure=insecure)


def as_nodes_name_it(bundle: str | None) -> str | None:
    """The bundle, its path made absolute where it lies here: jobs start elsewhere. Other names are the nodes'."""
    return str(Path(bundle).absolute()) if bundle and Path(bundle).is_dir() else bundle


@contextlib.contextmanager
def _embedded(bundle: Path, *, is_shipped: bool) -> Iterator[Server]:
    """Have an embedded HPS for as long as it is needed."""
    from runner.embedded import EmbeddedHps
    from runner.server import Server

    if not (bundle / "bundle.json").is_file():
        hint = "name the folder that `build-offline-bundle -o DIR` made"
        raise InputError(f"{bundle} is not a bundle: it has no bundle.json", hint=hint)
    with (
        tempfile.TemporaryDirectory(prefix="embedded-hps-") as folder,
        EmbeddedHps(data=Path(folder), bundle=None if is_shipped else bundle) as hps,
    ):
        yield Server(url=hps.url, username=hps.username, password=hps.password)


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
        from wheelhouse.text import count, megabytes

        click.echo(f"{outcome.name} ({outcome.project_id}): {outcome.counts.describe()}")
        if outcome.results:
            results = outcome.results
            click.echo(f"{count(results.files, 'file')}, {megabytes(results.size)}, to look at in {results.page}")
    if error:
        raise error


def _error_document(error: BundleError | None) -> dict[str, Any]:
    if error is None:
        return {}
    return {"error": {"code": error.exit_code, "message": str(error), "hint": error.hint}}


def _print_submitted(  # noqa: PLR0913
    project_id: str, name: str, jobs: int, way_back: str, display: Display, *, as_json: bool
) -> None:
    if as_json:
        click.echo(json.dumps({"project": {"id": project_id, "name": name}, "jobs": {"total": jobs}}, indent=2))
    elif display.is_quiet:
        click.echo(project_id)
    else:
        from wheelhouse.text import count

        click.echo(f"{name} ({project_id}): {count(jobs, 'job')} submitted; to return:\n  {way_back}")


def _print_projects(projects: Sequence[ProjectState], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"id": project.project_id, "name": project.name, "states": dict(project.counts.by_state)}
            for project in projects
        ]
        click.echo(json.dumps({"projects": rows}, indent=2))
        return
    if not projects:
        click.echo("no projects")
        return
    from wheelhouse.text import print_table
    from wheelhouse.unpack import printable

    cells = [(project.project_id, printable(project.name), project.counts.describe()) for project in projects]
    print_table(("project", "name", "jobs"), cells)
