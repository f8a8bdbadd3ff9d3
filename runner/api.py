"""The Python interface: submit scripts as jobs, and return to jobs submitted before.

    from offline_bundle.runner import Jobs, submit

    with submit("eval.py", bundle="/shared/bundle", engine="slurm", jobs=100,
                outputs=["plot.png"], download="plots") as jobs:
        jobs.wait().raise_if_failed()
    print(jobs.results.page)

    with Jobs.find("plots") as jobs:
        jobs.retry_failed()
        jobs.wait()

Options of engines are keyword arguments with the names of the command line: `partition="long"` for
Slurm, `url="https://hps.example:8443/hps"` for HPS. What the command line takes from environment
variables, such as `HPS_PASSWORD`, is taken from them here, too.

In a notebook, `jobs` shows itself as a progress bar, and `wait` updates it in place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from offline_bundle.runner.engine import (
    Engine,
    check_lists,
    complete_options,
    engine_module,
    open_engine,
)
from offline_bundle.runner.follow import Outcome, follow
from offline_bundle.runner.request import Request
from offline_bundle.runner.resources import RESOURCES
from offline_bundle.runner.submissions import (
    DEFAULT_JOBS,
    end_jobs,
    find_engine,
    find_project,
    plan_submission,
    retry_failed_jobs,
)
from offline_bundle.runner.values import JobValues, Value, plan_values, values_of_rows
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from offline_bundle.runner.model import Counts, Failure, ProjectState, Results

    PathLike = str | Path

__all__ = ["Jobs", "submit"]

_REQUEST_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Request)}


def submit(  # noqa: PLR0913
    script: PathLike,
    *,
    bundle: PathLike | None = None,
    engine: str = "hps",
    jobs: int | None = None,
    values: PathLike | Iterable[Mapping[str, Value]] | None = None,
    inputs: Sequence[PathLike] = (),
    outputs: Sequence[str] = (),
    download: PathLike | None = None,
    overwrite: bool = False,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
    notice: Callable[[str], None] | None = None,
    **options: Any,  # noqa: ANN401 - of the request and the engine
) -> Jobs:
    """Submit a script as jobs, as the command `submit` does; return them at once.

    *values* is a CSV file or the rows themselves, one job each; without it there are *jobs* jobs,
    by default 10. *download* is the results folder; engines whose jobs work in a folder have the
    default `NAME-results`. *notice* gets messages for the user, by default on stderr. *options* are
    further fields of `Request`, such as `cores`, `memory` in bytes and `max_execution_time` in
    seconds, or `"{name}"` for the value of each row, and those of the engine. Raises `BundleError`;
    then no job was started.
    """
    if options.get("dry_run"):
        raise InputError("dry_run is not supported here", hint="use `submit --dry-run`")
    fields = {option: options.pop(option) for option in _REQUEST_DEFAULTS.keys() & options.keys()}
    if not isinstance(environment or {}, Mapping):
        hint = "write environment={'NAME': 'VALUE'}"
        raise InputError(f"environment is a mapping, not {environment!r}", hint=hint)
    check_lists({**fields, "inputs": inputs, "outputs": outputs}, _REQUEST_DEFAULTS)
    fields |= {
        "script": Path(script),
        "bundle": None if bundle is None else str(bundle),
        "values": _plan(values, jobs),
        "inputs": tuple(map(Path, inputs)),
        "outputs": tuple(map(str, outputs)),
        "name": name,
        "environment": {key: str(text) for key, text in dict(environment or {}).items()},
    }
    for option in {"arguments", "run_with"} & fields.keys():
        fields[option] = tuple(map(str, fields[option]))
    for option in RESOURCES.keys() & fields.keys():
        fields[option] = _amount(option, fields[option])
    options = complete_options(engine, options)
    try:
        submission = plan_submission(
            engine, options, fields, download=_path(download), overwrite=overwrite
        )
    except click.UsageError as error:
        raise InputError(error.message, hint="correct the options of `submit`") from None
    notice = notice or _print_notice
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(submission.open(notice))
        project = submission.submit(opened)
        return Jobs(opened, project, submission.directory, stack.pop_all(), notice)


class Jobs:
    """The jobs of one submission. Made by `submit` and `Jobs.find`; close them, or use `with`.

    Local jobs, and those of an embedded HPS, end when they are closed.
    """

    def __init__(
        self,
        engine: Engine,
        project: ProjectState,
        directory: Path | None,
        stack: contextlib.ExitStack,
        notice: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._project = project
        self._directory = directory
        self._stack = stack
        self._notice = notice
        self._counts = project.counts
        self._outcome: Outcome | None = None

    @classmethod
    def find(
        cls,
        project: PathLike,
        *,
        engine: str | None = None,
        download: PathLike | None = None,
        notice: Callable[[str], None] | None = None,
        **options: Any,  # noqa: ANN401 - options of the engine
    ) -> Jobs:
        """Find jobs by a results folder, an id, a name, or a part of a name.

        *engine* is known from a results folder; otherwise its default is HPS. Raises `InputError`
        if there are none.
        """
        text = str(project)
        engine, owner = find_engine(text, engine)
        directory = _path(download) or (Path(text) if owner else None)
        needs_directory = engine_module(engine).needs_directory(options)
        if owner and not needs_directory:
            text = owner.project
        notice = notice or _print_notice
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(open_engine(engine, options, notice))
            state = find_project(opened, text)
            if needs_directory:
                directory = Path(state.project_id)
            return cls(opened, state, directory, stack.pop_all(), notice)

    @property
    def id(self) -> str:
        """Identifier by which `Jobs.find` finds them."""
        return self._project.project_id

    @property
    def name(self) -> str:
        """Name of the project."""
        return self._project.name

    @property
    def scheduler_jobs(self) -> tuple[str, ...]:
        """Identifiers in the scheduler, for dependencies; empty without one."""
        return self._engine.scheduler_jobs(self._project)

    @property
    def counts(self) -> Counts:
        """The jobs by state, as of now. Raises `BundleError` if the engine cannot be reached."""
        self._counts = self._engine.poll(self._project)
        return self._counts

    @property
    def results(self) -> Results | None:
        """The results folder with its page, after `wait`; None without `download`."""
        return self._outcome.results if self._outcome else None

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The first failed jobs with the ends of their consoles, after `wait`."""
        return self._outcome.failures if self._outcome else ()

    def wait(self, show: Callable[[Counts], None] | None = None) -> Outcome:
        """Wait until all jobs have ended, and download their results.

        *show* gets the counts of every poll; by default they are shown in the notebook, or on
        stderr. Raises `BundleError` if the engine cannot be reached; failed jobs are in the
        outcome: `jobs.wait().raise_if_failed()`.
        """
        present = show or self._display()

        def update(counts: Counts) -> None:
            self._counts = counts
            present(counts)

        self._outcome = follow(
            self._engine,
            self._project,
            directory=self._directory,
            show=update,
            notice=self._notice,
        )
        return self._outcome

    def retry_failed(self, only: Sequence[str] = ()) -> int:
        """Run failed jobs again, or those that *only* names; return their number.

        *only* has names of jobs, patterns such as `job-00*`, or states such as `timeout`. Raises
        `InputError` if there is none.
        """
        check_lists({"only": only}, {"only": ()})
        return retry_failed_jobs(self._engine, self._project, only)

    def cancel(self) -> Counts:
        """End the jobs that have not ended, and wait for that; results are kept."""
        self._counts = end_jobs(self._engine, self._project, cancel=True, delete=False)
        return self._counts

    def delete(self) -> None:
        """Remove the project with its results. Raises `InputError` while jobs are under way."""
        end_jobs(self._engine, self._project, cancel=False, delete=True)

    def close(self) -> None:
        """Close the connection; jobs that need this process end."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Name and states, as of the last poll."""
        return f"<Jobs {self.name}: {self._counts.describe()}>"

    def _repr_html_(self) -> str:
        """Show a progress bar in notebooks."""
        counts = self._counts
        bar = f'<progress max="{counts.total}" value="{counts.finished}"></progress>'
        text = html.escape(f"{self.name}: {counts.describe()}")
        return f"<div>{bar} {text}</div>"

    def _display(self) -> Callable[[Counts], None]:
        """Return a function that shows the counts where this program runs."""
        if "ipykernel" in sys.modules:
            display = importlib.import_module("IPython.display").display
            handle = display(self, display_id=True)
            return lambda _: handle.update(self)
        shown: list[str] = []

        def print_changes(counts: Counts) -> None:
            if counts.describe() not in shown[-1:]:
                shown.append(counts.describe())
                self._notice(f"{counts.finished:,} of {counts.total:,} jobs: {shown[-1]}")

        return print_changes


def _plan(values: PathLike | Iterable[Mapping[str, Value]] | None, jobs: int | None) -> JobValues:
    if values is None or isinstance(values, str | Path):
        if jobs is not None and jobs < 1:
            raise InputError(f"invalid number of jobs: {jobs}", hint="submit at least one")
        return plan_values([], _path(values), jobs=jobs or DEFAULT_JOBS)
    rows: list[Any] = list(values)
    if not all(isinstance(row, Mapping) and all(isinstance(n, str) for n in row) for row in rows):
        hint = "write a mapping of names to values for each job: values=[{'n': 1}, {'n': 2}]"
        raise InputError("values is not a list of rows", hint=hint)
    return values_of_rows(rows)


def _amount(option: str, value: object) -> object:
    try:
        return None if value is None else RESOURCES[option].convert(value, None, None)
    except click.BadParameter as error:
        message = f"invalid value for {option}: {error.message.rstrip('.')}"
        raise InputError(message, hint="see the options of `submit`") from None


def _path(text: PathLike | None) -> Path | None:
    return None if text is None else Path(text)


def _print_notice(text: str) -> None:
    sys.stderr.write(f"{text}\n")
