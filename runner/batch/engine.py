"""An engine for a batch scheduler: jobs are tasks of job arrays, in a folder that the nodes see.

A job writes its own outcome to a file (`job_script.py`), so neither accounting nor the scheduler's
short memory is needed for it. For jobs that the scheduler ended, it has the reason for a while, and
the job's log may have it afterwards. A poll is one command, for any number of tasks.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from offline_bundle.runner.batch.folder import render
from offline_bundle.runner.batch.job_script import SCRIPT_NAME
from offline_bundle.runner.batch.scheduler import Scheduler, scheduler_arrays
from offline_bundle.runner.batch.submission import BatchSubmission
from offline_bundle.runner.model import Counts, Failure, ProjectState, Results
from offline_bundle.runner.request import Request, check_request
from offline_bundle.runner.results.changes import remove_results
from offline_bundle.runner.results.folder import PRIVATE_NAME, read_submission
from offline_bundle.runner.results.job_sets import job_set
from offline_bundle.wheelhouse.runtime.errors import InputError


class BatchEngine:
    """Runs jobs through the commands of *scheduler* on this machine."""

    def __init__(
        self, scheduler: Scheduler, options: Mapping[str, Any], notice: Callable[[str], None]
    ) -> None:
        self._scheduler = scheduler
        self._options = options
        self._notice = notice
        self._submissions: dict[str, BatchSubmission] = {}

    def submit(
        self,
        request: Request,
        directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> ProjectState:
        """Write the folder and submit the arrays; undo all of it if one is refused."""
        if directory is None:
            message = f"{self._scheduler.title} jobs need a folder"
            raise InputError(message, hint="name one with --download")
        _check_options(request)
        options = {**self._options, "after_jobs": self._after_jobs()}
        progress("writing the folder")
        submission = BatchSubmission.create(
            directory.absolute(), request, options, self._scheduler, self._notice
        )
        progress("submitting")
        submission.submit_all()
        self._submissions[str(submission.directory)] = submission
        return submission.state()

    def dry_run(self, request: Request, directory: Path) -> str:
        """Return the commands that would submit, and the batch script.

        There is a command for the first array of each set of resources.
        """
        _check_options(request)
        files, folder = check_request(request), directory.absolute()
        scheduler, parallel = self._scheduler, self._options.get("parallel")
        script = folder / PRIVATE_NAME / SCRIPT_NAME
        commands = [
            scheduler.submit_command(
                script,
                scheduler.submit_options(part, self._options, folder),
                next(scheduler_arrays(scheduler, job_set(numbers), scheduler.array_limit())),
                parallel=parallel,
                after=self._after_jobs(),
            )
            for part, numbers in request.by_resources()
        ]
        text = render(folder, request, files, scheduler, self._options)
        return "".join(f"# {shlex.join(command)}\n" for command in commands) + f"\n{text}"

    def _after_jobs(self) -> list[str]:
        """Return the job identifiers of `--after`."""
        jobs: list[str] = []
        for text in self._options.get("after") or ():
            if Path(text).is_dir():
                plan = read_submission(Path(text).absolute(), self._scheduler.engine)
                jobs += [job_id for job_id, *_ in plan.details["arrays"]]
            elif re.match(r"\d", text):
                jobs.append(text)
            else:
                hint = "name a results folder, or the identifier of a job"
                raise InputError(f"--after {text}: no such folder", hint=hint)
        return jobs

    def find(self, name_or_id: str) -> ProjectState:
        """Find a submission by its folder, or by a job identifier that is still known."""
        folder = Path(name_or_id).absolute()
        if not folder.is_dir() and re.match(r"\d+(\D|$)", name_or_id):
            directory = self._scheduler.work_directory(name_or_id)
            if directory is None or directory.name != PRIVATE_NAME:
                raise InputError(
                    f"{self._scheduler.title} does not know a job {name_or_id} of offline-bundle "
                    "(any more)",
                    hint="name the results folder: offline-bundle jobs DIR",
                )
            folder = directory.parent
        submission = BatchSubmission.read(folder, self._scheduler, self._notice)
        self._submissions[str(folder)] = submission
        submission.poll()
        return submission.state()

    def list_projects(self) -> list[ProjectState]:
        """List the submissions in the queue. Others are known by their folders only."""
        folders = [
            queued.directory.parent
            for queued in self._scheduler.list_own()
            if queued.directory.name == PRIVATE_NAME
        ]
        newest_first = dict.fromkeys(reversed(folders))
        return [self.find(str(folder)) for folder in newest_first if folder.is_dir()]

    def poll(self, project: ProjectState) -> Counts:
        """Read the queue, and the outcomes of jobs that have left it."""
        submission = self._submissions[project.project_id]
        submission.poll()
        return submission.state().counts

    def pending_reason(self, project: ProjectState) -> str:
        """Return the scheduler's reasons."""
        title, reasons = self._scheduler.title, self._submissions[project.project_id].reasons
        if not reasons:
            return f"{title} gives no reason"
        return f"{title}'s reason is {', '.join(sorted(reasons))}"

    def scheduler_jobs(self, project: ProjectState) -> tuple[str, ...]:
        """Return those of the arrays; failed jobs that were started again are in new ones."""
        return self._submissions[project.project_id].job_ids

    def results(
        self,
        project: ProjectState,
        directory: Path,
        _progress: Callable[[int, int], None] | None = None,
    ) -> Results:
        """Write the page; the files are in the folder already."""
        return self._submissions[project.project_id].records.results(directory)

    def read_console(self, project: ProjectState, job: str, *, is_last: bool = False) -> str:
        """Return new text from the folder of the job, or of its attempt."""
        del is_last
        return self._submissions[project.project_id].records.read_console(job)

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Return the first failed jobs and their consoles."""
        return self._submissions[project.project_id].records.failures(limit)

    def resume_arguments(self, project: ProjectState, _: Path | None) -> list[str]:
        """Return the folder."""
        return [project.project_id, "--wait"]

    def cancel(self, project: ProjectState) -> None:
        """Cancel the jobs, and submit no others."""
        self._submissions[project.project_id].cancel()

    def retry(self, project: ProjectState, is_chosen: Callable[[str, str], bool]) -> int:
        """Submit failed jobs again."""
        return self._submissions[project.project_id].retry(is_chosen)

    def delete(self, project: ProjectState) -> None:
        """Remove the folder."""
        submission = self._submissions[project.project_id]
        remove_results(submission.directory, submission.records.plan.names)

    def on_interrupt(self, project: ProjectState) -> str | None:
        """Cancel the jobs with `--cancel-on-interrupt`."""
        if not self._options.get("cancel_on_interrupt"):
            return None
        self._submissions[project.project_id].cancel()
        return "the jobs are cancelled"


def opener(
    scheduler: Callable[[], Scheduler],
) -> Callable[
    [Mapping[str, Any], Callable[[str], None]], contextlib.AbstractContextManager[BatchEngine]
]:
    """Return the function `open_engine` of a batch scheduler: there is nothing to open."""
    return lambda options, notice: contextlib.nullcontext(BatchEngine(scheduler(), options, notice))


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
