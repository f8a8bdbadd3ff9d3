"""What is the same for every engine: submitting, finding, ending and retrying jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from shlex import quote
from typing import Any

from offline_bundle.runner.engine import ENGINES, Engine, engine_module, open_engine
from offline_bundle.runner.follow import watch
from offline_bundle.runner.model import FAILED, Counts, ProjectState, ResultsOrigin
from offline_bundle.runner.request import Request
from offline_bundle.runner.resources import take_columns
from offline_bundle.runner.results.changes import numbered, replaced
from offline_bundle.runner.results.folder import was_interrupted
from offline_bundle.runner.results.owner import (
    ResultsOwner,
    check_empty,
    check_writable,
    find_owner,
    lock_to_project,
    read_owner,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.sizes import count

DEFAULT_JOBS = 10
_SHOWN_NAMES = 10


@dataclass(frozen=True, kw_only=True)
class PlannedSubmission:
    """Jobs to submit to an engine: all that can be checked before it is opened is valid."""

    engine: str
    options: Mapping[str, Any]
    """Those of the engine, complete."""
    request: Request
    directory: Path | None
    """The results folder."""
    overwrite: bool
    """True if the jobs replace earlier results in the folder."""

    def open(self, notice: Callable[[str], None]) -> contextlib.AbstractContextManager[Engine]:
        """Open the engine; see `open_engine`."""
        return open_engine(self.engine, {**self.options, "bundle": self.request.bundle}, notice)

    def submit(
        self,
        engine: Engine,
        *,
        progress: Callable[[str], None] = lambda _: None,
        command: str = "",
    ) -> ProjectState:
        """Start the jobs. The results folder records *command* for its page."""
        with replaced_results(self.directory if self.overwrite else None):
            project = engine.submit(self.request, self.directory, progress)
        if self.directory:
            origin = ResultsOrigin(datetime.now(UTC), self.request.bundle or "", command)
            owner = ResultsOwner(project.project_id, project.name, self.engine, origin)
            with contextlib.suppress(BundleError):  # the download reports such a folder
                lock_to_project(self.directory, owner)
        return project


def plan_submission(  # noqa: PLR0913
    engine: str,
    options: Mapping[str, Any],
    fields: Mapping[str, Any],
    *,
    download: Path | None,
    overwrite: bool,
    wait: bool = True,
) -> PlannedSubmission:
    """Check a submission with these *fields* of `Request`; resources may be `{name}`.

    Raises `click.UsageError` for options that exclude each other, and `InputError`.
    """
    module, bundle = engine_module(engine), fields["bundle"]
    module.check_usage(options, bundle=bundle, wait=wait)
    default = Path(f"{fields['script'].stem}-results") if module.needs_directory(options) else None
    directory = choose_folder(download, default, overwrite=overwrite)
    if directory:
        check_writable(directory)
    return PlannedSubmission(
        engine=engine,
        options=options,
        request=Request(**take_columns({**fields, "bundle": bundle_on_nodes(bundle)})),
        directory=directory,
        overwrite=overwrite,
    )


def find_engine(project: str, engine: str | None) -> tuple[str, ResultsOwner | None]:
    """Return the engine of a project, and the owner of the results folder that *project* names."""
    owner = None if engine else find_owner(project)
    known = owner.engine if owner and owner.engine in ENGINES else next(iter(ENGINES))
    return engine or known, owner


def bundle_on_nodes(bundle: str | None) -> str | None:
    """Return an absolute path for a bundle on this machine; keep a path that only nodes have."""
    return str(Path(bundle).absolute()) if bundle and Path(bundle).is_dir() else bundle


def choose_folder(directory: Path | None, default: Path | None, *, overwrite: bool) -> Path | None:
    """Return the results folder of a submission: *directory*, or else *default* with a number.

    Raises `InputError` if *directory* is not free, unless its results may be replaced.
    """
    if overwrite:
        return directory or default
    if directory:
        check_empty(directory)
        return directory
    return numbered(default) if default else None


@contextlib.contextmanager
def replaced_results(directory: Path | None) -> Iterator[None]:
    """Move earlier results in *directory* away; back if the block fails, otherwise remove them.

    Raises `InputError` if their jobs are under way, or if the folder has other files.
    """
    if directory is None:
        yield
        return
    owner = read_owner(directory)
    is_engine = owner and owner.engine in ENGINES and not was_interrupted(directory)
    if owner and is_engine and engine_module(owner.engine).needs_directory({}):
        with open_engine(owner.engine) as engine:
            under_way = engine.find(str(directory)).counts.under_way
        if under_way:
            raise InputError(
                f"{count(under_way, 'job')} of {owner.name} in {directory} have not ended",
                hint=f"end them first: offline-bundle jobs {quote(str(directory))} --cancel",
            )
    with replaced(directory):
        yield


def find_project(engine: Engine, text: str) -> ProjectState:
    """Find a project by identifier, name, or a part of its name or identifier.

    Of several projects with one name, the newest is returned. Raises `InputError` if there is no
    project, or if several names match.
    """
    try:
        return engine.find(text)
    except InputError as error:
        try:
            projects = engine.list_projects()
        except InputError:  # an engine without a list
            raise error from None
        part = text.casefold()
        matching = [
            project
            for project in projects
            if part in project.name.casefold() or project.project_id.startswith(text)
        ]
        names = list(dict.fromkeys(project.name for project in matching))
        if not names:
            raise
    if len(names) > 1:
        problems = [f"{project.name} ({project.project_id})" for project in matching]
        raise InputError(
            f"{count(len(names), 'project')} match {text}",
            problems=problems[:_SHOWN_NAMES],
            hint="give more of the name, or the id",
        )
    return engine.find(matching[0].project_id)


def end_jobs(engine: Engine, project: ProjectState, *, cancel: bool, delete: bool) -> Counts:
    """Cancel the jobs and wait for their end, delete the project, or both; return the counts."""
    counts = engine.poll(project)
    if counts.under_way and not cancel:
        raise InputError(
            f"{count(counts.under_way, 'job')} of {project.name} have not ended; "
            "nothing was deleted",
            hint="add --cancel to end them first",
        )
    if cancel and counts.under_way:
        engine.cancel(project)
        counts = watch(engine, project)
    if delete:
        engine.delete(project)
    return counts


def retry_failed_jobs(engine: Engine, project: ProjectState, only: Sequence[str] = ()) -> int:
    """Run failed jobs again: all, or those whose name or state matches a pattern of *only*.

    Return their number. Raises `InputError` if there is none.
    """

    def is_chosen(name: str, state: str) -> bool:
        texts = (name, state)
        return not only or any(fnmatchcase(text, pattern) for pattern in only for text in texts)

    number = engine.retry(project, is_chosen)
    if not number:
        counts = engine.poll(project)
        named = f" that match {', '.join(only)}" if only else ""
        raise InputError(
            f"{project.name}: no failed jobs{named} ({counts.describe()})",
            hint=f"--only takes names of jobs, patterns and states: {', '.join(FAILED)}",
        )
    return number
