"""HPS, the default engine: jobs of a project on a server, which nodes ask for work.

    with connect(server) as session:
        engine = HpsEngine(session)
        project = engine.submit(submission)

The steps are in `runner/submit.py`, `watch.py`, `results.py` and `server.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.runner.options import Decorator
from offline_bundle.wheelhouse.cli.options import SizeType
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from offline_bundle.runner.engines.hps.session import Server, Session
    from offline_bundle.runner.model import Counts, Failure, ProjectState, Results
    from offline_bundle.runner.request import Request

JOBS_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "-U",
        "--url",
        envvar="HPS_URL",
        default="https://localhost:8443/hps",
        show_default=True,
        show_envvar=True,
        help="The HPS server.",
    ),
    click.option(
        "-u",
        "--username",
        envvar="HPS_USERNAME",
        default="repuser",
        show_default=True,
        help="The user on the HPS server.",
        show_envvar=True,
    ),
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
)
"""Where the server is, and who signs in."""

OPTIONS: tuple[Decorator, ...] = (
    *JOBS_OPTIONS,
    click.option(
        "--embedded", is_flag=True, help="On this machine: start an embedded HPS for these jobs."
    ),
    click.option(
        "--ship-bundle",
        is_flag=True,
        help="Send the bundle with the project: nodes need not see it.",
    ),
    click.option(
        "--replace",
        is_flag=True,
        help="Remove your projects of the same name first, with their results.",
    ),
    click.option(
        "--priority",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help="Lower goes first.",
    ),
    click.option(
        "--software", default="uv", show_default=True, help="As registered with the evaluators."
    ),
    click.option(
        "--software-version", metavar="VERSION", help="Version of the software.  [default: any]"
    ),
    click.option(
        "--skip-software-check",
        is_flag=True,
        help="Submit even if no evaluator says it has the software.",
    ),
    click.option(
        "--disk", type=SizeType(), default="10MiB", show_default=True, help="Disk space per job."
    ),
    click.option(
        "--trials",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Tries of a failing job.",
    ),
)


def check_usage(options: Mapping[str, Any], *, bundle: str | None, waits: bool) -> None:
    """Refuse options that do not go together. Raises `click.UsageError`."""
    if options["embedded"] and not waits:
        raise click.UsageError("the embedded HPS ends with this command: leave out --no-wait")
    if (options["embedded"] or options["ship_bundle"]) and not bundle:
        raise click.UsageError(
            f"{'--embedded' if options['embedded'] else '--ship-bundle'} needs --bundle DIR"
        )


def needs_directory(options: Mapping[str, Any]) -> bool:
    """Whether results are lost that are not brought here."""
    return bool(options.get("embedded"))


@contextlib.contextmanager
def open_engine(options: Mapping[str, Any], notice: Callable[[str], None]) -> Iterator[HpsEngine]:
    """Sign in with a server, perhaps with an embedded one; *options* are those of `OPTIONS`, and `bundle`."""
    is_embedded, ships = bool(options.get("embedded")), bool(options.get("ship_bundle"))
    with contextlib.ExitStack() as stack:
        if is_embedded:
            server = stack.enter_context(_embedded(Path(options["bundle"]), is_shipped=ships))
        else:
            server = _server(options)
        from offline_bundle.runner.engines.hps.session import connect

        session = stack.enter_context(connect(server, notice=notice))
        yield HpsEngine(session, options, survives=not is_embedded)


class HpsEngine:
    """A server with which somebody is signed in."""

    def __init__(
        self, session: Session, options: Mapping[str, Any] | None = None, *, survives: bool = True
    ) -> None:
        self._survives = survives
        self._session = session
        self._options = options or {}

    def submit(
        self,
        request: Request,
        directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> ProjectState:
        """Make a project of the request, or of the `Submission` that says more than that, and set it going."""
        from offline_bundle.runner.engines.hps.bundle_upload import packed
        from offline_bundle.runner.engines.hps.projects import find_project
        from offline_bundle.runner.engines.hps.submit import (
            Submission,
            submit,
        )

        del directory
        with contextlib.ExitStack() as stack:
            if isinstance(request, Submission):
                submission = request
            else:
                given = {
                    field.name: getattr(request, field.name)
                    for field in dataclasses.fields(request)
                }
                ships = self._options.get("ship_bundle")
                archive = stack.enter_context(packed(Path(str(request.bundle)))) if ships else None
                given |= {
                    "bundle": None if archive else request.bundle,
                    "archive": archive,
                    **self._own_options(),
                }
                submission = Submission(
                    **{name: value for name, value in given.items() if value is not None}
                )
            checks = not self._options.get("skip_software_check")
            submitted = submit(self._session, submission, checks_software=checks, progress=progress)
        return find_project(self._session, submitted.project_id)

    def find(self, name_or_id: str) -> ProjectState:
        """Find a project by its identifier, or the newest by its name."""
        from offline_bundle.runner.engines.hps.projects import find_project

        return find_project(self._session, name_or_id)

    def list_projects(self) -> list[ProjectState]:
        """List the newest projects."""
        from offline_bundle.runner.engines.hps.projects import list_projects

        return list_projects(self._session, sort="-creation_time", limit=20)

    def poll(self, project: ProjectState) -> Counts:
        """Ask for the project's statistics: one small request, however many jobs there are."""
        from offline_bundle.runner.engines.hps.projects import list_projects

        found = list_projects(self._session, id=project.project_id)
        if not found:
            hint = "`offline-bundle jobs` lists the projects there are"
            raise BundleError(
                f"the project {project.project_id} is gone: somebody deleted or replaced it",
                hint=hint,
            )
        return found[0].counts

    def pending_reason(self, project: ProjectState) -> str:
        """Say what keeps jobs waiting: HPS itself does not."""
        del project
        return "evaluators may be busy, starting, or lack the software or resources"

    def results(
        self,
        project: ProjectState,
        directory: Path,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Results:
        """Download what HPS has collected; what is there already is not transferred again."""
        from offline_bundle.runner.engines.hps.results import download

        return download(self._session, project.project_id, directory, progress=progress)

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Ask for the first failed jobs and their consoles."""
        from offline_bundle.runner.engines.hps.projects import find_failures

        return find_failures(self._session, project.project_id, limit)

    def resume_arguments(self, project: ProjectState, directory: Path | None) -> list[str]:
        """Name the project and the server; not the password."""
        server = self._session.server
        words = [project.project_id, "-U", server.url, "-u", server.username, "--wait"]
        words += ["--ca-file", str(server.ca_file)] if server.ca_file else []
        words += ["--insecure"] if server.is_insecure else []
        return words + (["--download", str(directory)] if directory else [])

    def on_interrupt(self, project: ProjectState) -> str | None:
        """Leave the jobs alone; those of an embedded HPS end with it."""
        del project
        return None if self._survives else "the jobs have ended with the embedded HPS"

    def _own_options(self) -> dict[str, Any]:
        names = {
            "priority": "priority",
            "replace": "replaces",
            "software": "software",
            "software_version": "software_version",
            "disk": "disk",
            "trials": "trials",
        }
        return {
            name: self._options[option] for option, name in names.items() if option in self._options
        }


def _server(options: Mapping[str, Any]) -> Server:
    from offline_bundle.runner.engines.hps.password import find_password
    from offline_bundle.runner.engines.hps.session import Server

    url, username = options["url"], options["username"]
    password = find_password(url, username, options["password"])
    return Server(
        url=url,
        username=username,
        password=password,
        ca_file=options["ca_file"],
        is_insecure=options["insecure"],
    )


@contextlib.contextmanager
def _embedded(bundle: Path, *, is_shipped: bool) -> Iterator[Server]:
    """Have an embedded HPS for as long as it is needed."""
    if not (bundle / "bundle.json").is_file():
        hint = "name the folder that `build-offline-bundle -o DIR` made"
        raise InputError(f"{bundle} is not a bundle: it has no bundle.json", hint=hint)
    from offline_bundle.runner.hps_server import EmbeddedHps, registered_uv

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(registered_uv, None if is_shipped else bundle)
        from offline_bundle.runner.engines.hps.session import (
            Server,  # imports the client, which takes as long as looking for uv and Pythons
        )

        software = {"uv": looking.result()}
    with (
        tempfile.TemporaryDirectory(prefix="embedded-hps-") as folder,
        EmbeddedHps(data=Path(folder), software=software) as hps,
    ):
        yield Server(url=hps.url, username=hps.username, password=hps.password)
