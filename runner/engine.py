"""The interface of an engine (HPS, Slurm, this machine), and the registry of engines.

    with open_engine("slurm", options, notice) as engine:
        project = engine.submit(request)
        outcome = follow(engine, project, directory=Path("results"))

An engine is one folder in `runner/engines/` and one line in `ENGINES`. Its module `engine` has

    OPTIONS, JOBS_OPTIONS               its options for `submit` and `jobs`: click decorators
    check_usage(options, ...)           raises click.UsageError for options that exclude each other
    needs_directory(options)            True if jobs work in the results folder; its path is then
                                        the identifier of the project
    open_engine(options, notice)        a context manager that returns an `Engine`

Everything that engines share is above them: values (`runner/values.py`), polling and failures
(`runner/follow.py`), results and their page (`runner/results/`), commands (`runner/cli/`).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from offline_bundle.wheelhouse.cli.kit.sections import parameters_of
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

    from offline_bundle.runner.model import Counts, Failure, ProjectState, Results
    from offline_bundle.runner.request import Request

ENGINES: Mapping[str, str] = {
    "hps": "offline_bundle.runner.engines.hps.engine",
    "slurm": "offline_bundle.runner.engines.slurm.engine",
    "sge": "offline_bundle.runner.engines.sge.engine",
    "pbs": "offline_bundle.runner.engines.pbs.engine",
    "local": "offline_bundle.runner.engines.local.engine",
}
"""Name → module. The first is the default."""


class Engine(Protocol):
    """Runs jobs. Every method raises `BundleError` if it cannot do its work."""

    def submit(
        self, request: Request, directory: Path | None = ..., progress: Callable[[str], None] = ...
    ) -> ProjectState:
        """Start all jobs of *request* or none; report the steps to *progress*.

        *directory* is the results folder, for engines whose jobs work there (`needs_directory`).
        """

    def find(self, name_or_id: str) -> ProjectState:
        """Return a project submitted before. Raises `InputError` if there is none."""

    def list_projects(self) -> list[ProjectState]:
        """List the projects submitted before, newest first."""

    def poll(self, project: ProjectState) -> Counts:
        """Count the jobs by state, at a cost that does not grow with their number."""

    def pending_reason(self, project: ProjectState) -> str:
        """Return why no job may have started yet."""

    def scheduler_jobs(self, project: ProjectState) -> tuple[str, ...]:
        """Return the identifiers in the scheduler as of the last poll; empty without one."""

    def results(
        self, project: ProjectState, directory: Path, progress: Callable[[int, int], None] = ...
    ) -> Results:
        """Collect the results and their page in *directory*; *progress* gets bytes done and all."""

    def read_console(self, project: ProjectState, job: str, *, is_last: bool = False) -> str:
        """Return what *job* has added to its console since the last call.

        *is_last* waits for what has not arrived yet. Raises `InputError` if there is no such job.
        """

    def failures(self, project: ProjectState, limit: int) -> list[Failure]:
        """Return the first *limit* jobs that failed."""

    def resume_arguments(self, project: ProjectState, directory: Path | None) -> list[str]:
        """Return the arguments of `offline-bundle jobs` for this project, without secrets."""

    def cancel(self, project: ProjectState) -> None:
        """End the jobs that have not ended; results are kept. Poll for the end."""

    def retry(self, project: ProjectState, is_chosen: Callable[[str, str], bool]) -> int:
        """Run again the failed jobs for which *is_chosen* (name, state) is true.

        Return their number. The results of all other jobs are kept.
        """

    def delete(self, project: ProjectState) -> None:
        """Remove the project with its results. None of its jobs may be under way."""

    def on_interrupt(self, project: ProjectState) -> str | None:
        """Handle Ctrl-C; return what happened to the jobs, or None if they continue."""


def engine_module(name: str) -> ModuleType:
    """Import the module of the engine *name*; no engine is imported before that.

    Raises `InputError` for an unknown name.
    """
    if name not in ENGINES:
        raise InputError(f"there is no engine {name}", hint=f"the engines are {', '.join(ENGINES)}")
    return importlib.import_module(ENGINES[name])


@contextlib.contextmanager
def open_engine(
    name: str,
    options: Mapping[str, Any] | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> Iterator[Engine]:
    """Open the engine *name* with its own *options*; *notice* receives messages for the user.

    Options that are not given have the defaults of the command line, with its environment
    variables. Raises `InputError` for an unknown option.
    """
    complete = complete_options(name, options or {})
    with engine_module(name).open_engine(complete, notice) as engine:
        yield engine


def complete_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return *options* of an engine, and the defaults of those that are not given.

    Raises `InputError` for an unknown option.
    """
    defaults = _defaults(engine_module(name).OPTIONS)
    unknown = sorted(options.keys() - defaults.keys() - {"bundle"})
    if unknown:
        raise InputError(
            f"the engine {name} has no option {', '.join(unknown)}",
            hint=f"its options are {', '.join(sorted(defaults))}",
        )
    check_lists(options, defaults)
    return {**defaults, **options}


def check_lists(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise `InputError` for one text where the default is a list: it would be one letter each."""
    for name, value in given.items():
        if isinstance(defaults.get(name), tuple) and isinstance(value, str | Path):
            raise InputError(
                f"{name} is a list, not one text: {value}", hint=f"write {name}=[{str(value)!r}]"
            )


def _defaults(options: Iterable[Callable[..., Any]]) -> dict[str, Any]:
    """Return the values that the options have if the command line names none of them."""
    command = click.Command("options", params=[*parameters_of(options)])
    context = command.make_context("options", [])
    return dict(context.params)
