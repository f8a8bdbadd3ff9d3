"""Slurm: jobs as tasks of job arrays, which work in a folder that the nodes see.

A job writes its own outcome to a file (`batch_script.py`), so neither accounting nor Slurm's short
memory is needed for it. For jobs that Slurm ended, the queue has the reason for a while, and the
job's log has it afterwards. A poll is one `squeue` per array, for any number of tasks.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.engines.slurm import commands
from offline_bundle.runner.engines.slurm.options import JOBS_OPTIONS, OPTIONS, check_usage
from offline_bundle.runner.engines.slurm.submission import SlurmSubmission
from offline_bundle.runner.results.folder import PRIVATE_NAME
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from offline_bundle.runner.model import Counts, Failure, ProjectState, Results
    from offline_bundle.runner.request import Request

__all__ = [
    "JOBS_OPTIONS",
    "OPTIONS",
    "SlurmEngine",
    "check_usage",
    "needs_directory",
    "open_engine",
]


def needs_directory(_: Mapping[str, Any]) -> bool:
    """Return True: jobs work in the results folder."""
    return True


@contextlib.contextmanager
def open_engine(options: Mapping[str, Any], notice: Callable[[str], None]) -> Iterator[SlurmEngine]:
    """Yield the engine; there is nothing to open."""
    yield SlurmEngine(options, notice)


class SlurmEngine:
    """Runs jobs through Slurm's commands on this machine."""

    def __init__(self, options: Mapping[str, Any], notice: Callable[[str], None]) -> None:
        self._options = options
        self._notice = notice
        self._submissions: dict[str, SlurmSubmission] = {}

    def submit(
        self,
        request: Request,
        directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> ProjectState:
        """Write the folder and submit the arrays; undo all of it if one is refused."""
        if directory is None:
            raise InputError("Slurm jobs need a folder", hint="name one with --download")
        _check_options(request)
        progress("writing the folder")
        submission = SlurmSubmission.create(
            directory.absolute(), request, self._options, self._notice
        )
        progress("submitting")
        submission.submit_all()
        self._submissions[str(submission.directory)] = submission
        return submission.state()

    def find(self, name_or_id: str) -> ProjectState:
        """Find a submission by its folder, or by a job identifier that Slurm still knows."""
        folder = Path(name_or_id).absolute()
        if not folder.is_dir() and name_or_id.isdecimal():
            directory = commands.work_directory(name_or_id)
            if directory is None or directory.name != PRIVATE_NAME:
                raise InputError(
                    f"Slurm does not know a job {name_or_id} of offline-bundle (any more)",
                    hint="name the results folder: offline-bundle jobs DIR",
                )
            folder = directory.parent
        submission = self._submissions[str(folder)] = SlurmSubmission.read(folder, self._notice)
        submission.poll()
        return submission.state()

    def list_projects(self) -> list[ProjectState]:
        """List the submissions in the queue. Others are known by their folders only."""
        folders = [
            queued.directory.parent
            for queued in commands.list_own()
            if queued.directory.name == PRIVATE_NAME
        ]
        newest_first = dict.fromkeys(reversed(folders))
        return [self.find(str(folder)) for folder in newest_first if folder.is_dir()]

    def poll(self, project: ProjectState) -> Counts:
        """Read the queue, once per array, and the outcomes of jobs that have left it."""
        submission = self._submissions[project.project_id]
        submission.poll()
        return submission.state().counts

    def pending_reason(self, project: ProjectState) -> str:
        """Return Slurm's reasons."""
        reasons = sorted(self._submissions[project.project_id].reasons - {"None"})
        return f"Slurm's reason is {', '.join(reasons)}" if reasons else "Slurm gives no reason"

    def results(
        self,
        project: ProjectState,
        directory: Path,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Results:
        """Write the page; the files are in the folder already."""
        return self._submissions[project.project_id].records.results(directory, progress)

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Return the first failed jobs and their consoles."""
        return self._submissions[project.project_id].records.failures(limit)

    def resume_arguments(self, project: ProjectState, directory: Path | None) -> list[str]:
        """Return the folder."""
        del directory
        return [project.project_id, "--wait"]

    def cancel(self, project: ProjectState) -> None:
        """Cancel the jobs, and submit no others."""
        self._submissions[project.project_id].cancel()

    def retry(self, project: ProjectState, is_chosen: Callable[[str, str], bool]) -> int:
        """Submit failed jobs again."""
        return self._submissions[project.project_id].retry(is_chosen)

    def delete(self, project: ProjectState) -> None:
        """Remove the folder."""
        from offline_bundle.runner.results.changes import remove_results

        submission = self._submissions[project.project_id]
        remove_results(submission.directory, submission.records.plan.names)

    def on_interrupt(self, project: ProjectState) -> str | None:
        """Cancel the jobs with `--cancel-on-interrupt`."""
        if not self._options.get("cancel_on_interrupt"):
            return None
        self._submissions[project.project_id].cancel()
        return "the jobs are cancelled"


def _check_options(request: Request) -> None:
    problems = [
        f"--env {name}: not a valid name in a shell"
        for name in request.environment
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    ]
    if not Path(str(request.bundle)).is_absolute():
        problems.append(
            f"--bundle {request.bundle}: no such folder here; give its absolute path on the nodes"
        )
    if problems:
        hint = "correct these options, and submit again"
        raise InputError("the submission is not valid", problems=problems, hint=hint)
