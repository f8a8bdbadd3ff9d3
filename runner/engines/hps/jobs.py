"""HPS as an engine: jobs of a project on a server, whose evaluators request work.

Without the command line:

    with connect(server) as session:
        engine = HpsEngine(session)
        project = engine.submit(submission)
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from offline_bundle.runner.engines.hps import projects
from offline_bundle.runner.engines.hps.bundle_upload import packed_bundle
from offline_bundle.runner.engines.hps.connection.session import Session
from offline_bundle.runner.engines.hps.console_stream import ConsoleStream
from offline_bundle.runner.engines.hps.results import download
from offline_bundle.runner.engines.hps.submit import Submission, submit
from offline_bundle.runner.model import Counts, Failure, ProjectState, Results
from offline_bundle.runner.request import Request
from offline_bundle.wheelhouse.runtime.errors import BundleError

_SUBMISSION_OPTIONS = ("priority", "replace", "software", "software_version", "disk", "trials")
_LAST_LINES_SECONDS = 5.0
_LISTED_PROJECTS = 20


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
        _directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> ProjectState:
        """Create a project for the request, or for a `Submission`, and activate it."""
        with contextlib.ExitStack() as stack:
            if not isinstance(request, Submission):
                request = self._make_submission(request, stack)
            return submit(
                self._session,
                request,
                require_software=not self._options.get("skip_software_check"),
                progress=progress,
            )

    def find(self, name_or_id: str) -> ProjectState:
        """Find a project by its identifier, or the newest by its name."""
        return projects.find_project(self._session, name_or_id)

    def list_projects(self) -> list[ProjectState]:
        """List the newest projects."""
        return projects.list_projects(self._session, sort="-creation_time", limit=_LISTED_PROJECTS)

    def poll(self, project: ProjectState) -> Counts:
        """Request the project's statistics: one small request for any number of jobs."""
        entries = projects.list_projects(self._session, id=project.project_id)
        if not entries:
            raise BundleError(
                f"the project {project.project_id} does not exist any more: deleted or replaced",
                hint="list the projects with `offline-bundle jobs`",
            )
        return entries[0].counts

    def pending_reason(self, _: ProjectState) -> str:
        """Return the usual reasons: HPS reports none."""
        return "evaluators may be busy, starting, or without the software or resources"

    def scheduler_jobs(self, _: ProjectState) -> tuple[str, ...]:
        """Return none."""
        return ()

    def results(
        self,
        project: ProjectState,
        directory: Path,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Results:
        """Download what HPS has collected, unless it is in *directory* already."""
        return download(self._session, project.project_id, directory, progress=progress)

    def read_console(self, project: ProjectState, job: str, *, is_last: bool = False) -> str:
        """Return new lines from the monitor service."""
        key = project.project_id, job
        if key not in self._consoles:
            self._consoles[key] = ConsoleStream(self._session, *key)
        if is_last:
            self._consoles[key].finish(_LAST_LINES_SECONDS)
        return self._consoles[key].read()

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Return the first failed jobs and their consoles."""
        return projects.find_failures(self._session, project.project_id, limit)

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
        projects.cancel_jobs(self._session, project.project_id)

    def retry(self, project: ProjectState, is_chosen: Callable[[str, str], bool]) -> int:
        """Make failed jobs pending again."""
        return projects.retry_jobs(self._session, project.project_id, is_chosen)

    def delete(self, project: ProjectState) -> None:
        """Remove the project from the server; downloaded results stay."""
        projects.delete_project(self._session, project.project_id)

    def on_interrupt(self, _: ProjectState) -> str | None:
        """Leave the jobs alone; those of an embedded HPS end with it."""
        return None if self._keep_running else "the jobs have ended with the embedded HPS"

    def _make_submission(self, request: Request, stack: contextlib.ExitStack) -> Submission:
        given = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
        if self._options.get("ship_bundle"):
            given["archive"] = stack.enter_context(packed_bundle(Path(str(request.bundle))))
            given["bundle"] = None
        given |= {name: self._options.get(name) for name in _SUBMISSION_OPTIONS}
        return Submission(**{name: value for name, value in given.items() if value is not None})
