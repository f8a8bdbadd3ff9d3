"""HPS, the default engine: jobs of a project on a server, whose evaluators request work.

with connect(server) as session:
engine = HpsEngine(session)
project = engine.submit(submission)
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.runner.engines.hps.connection.server import Server
from offline_bundle.runner.engines.hps.options import JOBS_OPTIONS, OPTIONS
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from offline_bundle.runner.engines.hps.connection.session import Session
    from offline_bundle.runner.engines.hps.console_stream import ConsoleStream
    from offline_bundle.runner.engines.hps.submit import Submission
    from offline_bundle.runner.model import Counts, Failure, ProjectState, Results
    from offline_bundle.runner.request import Request

__all__ = ["JOBS_OPTIONS", "OPTIONS", "HpsEngine", "check_usage", "needs_directory", "open_engine"]

_SUBMISSION_OPTIONS = ("priority", "replace", "software", "software_version", "disk", "trials")
_INVALID = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What a document of a server with other types, fields or numbers may raise."""
_LAST_LINES_SECONDS = 5.0
_LISTED_PROJECTS = 20


def check_usage(options: Mapping[str, Any], *, bundle: str | None, wait: bool) -> None:
    """Raise `click.UsageError` for options that exclude each other."""
    if options["embedded"] and not wait:
        raise click.UsageError("--no-wait: the embedded HPS ends with this command; leave it out")
    for name in ("embedded", "ship_bundle"):
        if options[name] and not bundle:
            raise click.UsageError(f"--{name.replace('_', '-')} requires --bundle DIR")


def needs_directory(options: Mapping[str, Any]) -> bool:
    """Return True if results must be downloaded: those of an embedded HPS end with it."""
    return bool(options.get("embedded"))


@contextlib.contextmanager
def open_engine(options: Mapping[str, Any], notice: Callable[[str], None]) -> Iterator[HpsEngine]:
    """Sign in to a server, or to an embedded one; *options* are `OPTIONS` and `bundle`."""
    is_embedded, ship_bundle = bool(options.get("embedded")), bool(options.get("ship_bundle"))
    with contextlib.ExitStack() as stack:
        if is_embedded:
            bundle = Path(options["bundle"])
            server = stack.enter_context(_embedded_server(bundle, ship_bundle=ship_bundle))
        else:
            server = _server(options)
        from offline_bundle.runner.engines.hps.connection.session import connect

        session = stack.enter_context(connect(server, notice=notice))
        try:
            yield HpsEngine(session, options, keep_running=not is_embedded)
        except _INVALID as error:
            raise BundleError(
                f"{server.url}: the answer is not as expected: {type(error).__name__}: {error}",
                hint="check that it is an HPS server of a version that this client supports",
            ) from error


class HpsEngine:
    """Runs jobs on an HPS server."""

    def __init__(
        self,
        session: Session,
        options: Mapping[str, Any] | None = None,
        *,
        keep_running: bool = True,
    ) -> None:
        """*keep_running* is False if the server ends with this command."""
        self._keep_running = keep_running
        self._session = session
        self._options = options or {}
        self._consoles: dict[tuple[str, str], ConsoleStream] = {}

    def submit(
        self,
        request: Request,
        directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> ProjectState:
        """Create a project for the request, or for a `Submission`, and activate it."""
        from offline_bundle.runner.engines.hps.projects import find_project
        from offline_bundle.runner.engines.hps.submit import Submission, submit

        del directory
        with contextlib.ExitStack() as stack:
            if isinstance(request, Submission):
                submission = request
            else:
                submission = self._make_submission(request, stack)
            submitted = submit(
                self._session,
                submission,
                require_software=not self._options.get("skip_software_check"),
                progress=progress,
            )
        return find_project(self._session, submitted.project_id)

    def find(self, name_or_id: str) -> ProjectState:
        """Find a project by its identifier, or the newest by its name."""
        from offline_bundle.runner.engines.hps.projects import find_project

        return find_project(self._session, name_or_id)

    def list_projects(self) -> list[ProjectState]:
        """List the newest projects."""
        from offline_bundle.runner.engines.hps.projects import list_projects

        return list_projects(self._session, sort="-creation_time", limit=_LISTED_PROJECTS)

    def poll(self, project: ProjectState) -> Counts:
        """Request the project's statistics: one small request for any number of jobs."""
        from offline_bundle.runner.engines.hps.projects import list_projects

        projects = list_projects(self._session, id=project.project_id)
        if not projects:
            raise BundleError(
                f"the project {project.project_id} does not exist any more: deleted or replaced",
                hint="list the projects with `offline-bundle jobs`",
            )
        return projects[0].counts

    def pending_reason(self, project: ProjectState) -> str:
        """Return the usual reasons: HPS reports none."""
        del project
        return "evaluators may be busy, starting, or without the software or resources"

    def results(
        self,
        project: ProjectState,
        directory: Path,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Results:
        """Download what HPS has collected, unless it is in *directory* already."""
        from offline_bundle.runner.engines.hps.results import download

        return download(self._session, project.project_id, directory, progress=progress)

    def read_console(self, project: ProjectState, job: str, *, is_last: bool = False) -> str:
        """Return new lines from the monitor service."""
        from offline_bundle.runner.engines.hps.console_stream import ConsoleStream

        key = project.project_id, job
        if key not in self._consoles:
            self._consoles[key] = ConsoleStream(self._session, *key)
        if is_last:
            self._consoles[key].finish(_LAST_LINES_SECONDS)
        return self._consoles[key].read()

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Return the first failed jobs and their consoles."""
        from offline_bundle.runner.engines.hps.projects import find_failures

        return find_failures(self._session, project.project_id, limit)

    def resume_arguments(self, project: ProjectState, directory: Path | None) -> list[str]:
        """Return the project and the server, without the password."""
        server = self._session.server
        words = [project.project_id, "-U", server.url, "--wait"]
        if server.client_id:
            words[3:3] = ["--client-id", server.client_id]
        elif not server.token:
            words[3:3] = ["-u", server.username]
        words += ["--ca-file", str(server.ca_file)] if server.ca_file else []
        words += ["--insecure"] if server.is_insecure else []
        return words + (["--download", str(directory)] if directory else [])

    def cancel(self, project: ProjectState) -> None:
        """Abort the jobs that have not ended."""
        from offline_bundle.runner.engines.hps.projects import cancel_jobs

        cancel_jobs(self._session, project.project_id)

    def retry(self, project: ProjectState, is_chosen: Callable[[str, str], bool]) -> int:
        """Make failed jobs pending again."""
        from offline_bundle.runner.engines.hps.projects import retry_jobs

        return retry_jobs(self._session, project.project_id, is_chosen)

    def delete(self, project: ProjectState) -> None:
        """Remove the project from the server; downloaded results stay."""
        from offline_bundle.runner.engines.hps.projects import delete_project

        delete_project(self._session, project.project_id)

    def on_interrupt(self, project: ProjectState) -> str | None:
        """Leave the jobs alone; those of an embedded HPS end with it."""
        del project
        return None if self._keep_running else "the jobs have ended with the embedded HPS"

    def _make_submission(self, request: Request, stack: contextlib.ExitStack) -> Submission:
        from offline_bundle.runner.engines.hps.bundle_upload import packed_bundle
        from offline_bundle.runner.engines.hps.submit import Submission

        given = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
        if self._options.get("ship_bundle"):
            given["archive"] = stack.enter_context(packed_bundle(Path(str(request.bundle))))
            given["bundle"] = None
        given |= {name: self._options.get(name) for name in _SUBMISSION_OPTIONS}
        return Submission(**{name: value for name, value in given.items() if value is not None})


def _server(options: Mapping[str, Any]) -> Server:
    from offline_bundle.runner.engines.hps.connection.password import find_password

    url, username = options["url"], options["username"]
    if not url:
        raise InputError(
            "no HPS server is named",
            hint="name one with -U/--url or the variable HPS_URL, or another --engine; "
            "`submit --embedded` starts a server on this machine for its jobs",
        )
    token, client_id = options["token"], options["client_id"]
    password = ""
    if not token and not client_id:
        password = find_password(url, username, options["password"])
    return Server(
        url=url,
        username=username,
        password=password,
        token=token or "",
        client_id=client_id or "",
        client_secret=options["client_secret"] or "",
        ca_file=options["ca_file"],
        is_insecure=options["insecure"],
    )


@contextlib.contextmanager
def _embedded_server(bundle: Path, *, ship_bundle: bool) -> Iterator[Server]:
    """Run an embedded HPS."""
    from offline_bundle.runner.engines.hps.bundle_upload import check_is_bundle
    from offline_bundle.runner.hps_server import EmbeddedHps, registered_uv

    check_is_bundle(bundle)
    with ThreadPoolExecutor(1) as threads:
        searching = threads.submit(registered_uv, None if ship_bundle else bundle)
        # importing the client takes as long as finding uv
        import offline_bundle.runner.engines.hps.connection.session  # noqa: F401

        software = {"uv": searching.result()}
    with (
        tempfile.TemporaryDirectory(prefix="embedded-hps-") as folder,
        EmbeddedHps(data=Path(folder), software=software) as hps,
    ):
        yield Server(url=hps.url, username=hps.username, password=hps.password)
