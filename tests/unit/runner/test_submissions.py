"""Projects found by a part of their name, folders chosen and replaced, jobs set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.model import Counts, ProjectState
from offline_bundle.runner.results.changes import find_failed, remove_results, replaced, set_aside
from offline_bundle.runner.results.folder import JobRecords, SubmissionRecord, record
from offline_bundle.runner.results.job_sets import job_set
from offline_bundle.runner.results.owner import ResultsOwner, find_owner, lock_to_project
from offline_bundle.runner.submissions import (
    choose_folder,
    end_jobs,
    find_project,
    retry_failed_jobs,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class ListedProjects:
    """The part of an engine that knows projects."""

    def __init__(self, *names: str, states: dict[str, int] | None = None) -> None:
        self.states = states or {}
        self.cancelled = self.deleted = False
        self.projects = [
            ProjectState(f"id{number}", name, counts=Counts()) for number, name in enumerate(names)
        ]

    def find(self, text: str) -> ProjectState:
        for project in self.projects:
            if text in {project.project_id, project.name}:
                return project
        raise InputError(f"no project {text}")

    def list_projects(self) -> list[ProjectState]:
        return self.projects

    def poll(self, _: ProjectState) -> Counts:
        return Counts.of(self.states)

    def cancel(self, _: ProjectState) -> None:
        self.states = {"cancelled": sum(self.states.values())}

    def delete(self, _: ProjectState) -> None:
        self.deleted = True

    def retry(self, _: ProjectState, is_chosen: Callable[[str, str], bool]) -> int:
        failed = [("job-0001", "failed"), ("job-0002", "timeout")]
        return sum(is_chosen(*job) for job in failed)


def test_a_project_is_found_by_a_part_of_its_name() -> None:
    engine = ListedProjects("beam - 3 jobs", "Plate - 3 jobs", "beam - 3 jobs", "plates")
    assert find_project(engine, "beam - 3 jobs").project_id == "id0"  # type: ignore[arg-type]
    assert find_project(engine, "BEAM").project_id == "id0"  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"2 projects match plate\n  Plate - 3 jobs \(id1\)"
    ) as raised:
        find_project(engine, "plate")  # type: ignore[arg-type]
    assert raised.value.hint == "give more of the name, or the id"
    with pytest.raises(InputError, match="no project shell"):
        find_project(engine, "shell")  # type: ignore[arg-type]


def test_running_jobs_are_deleted_only_with_cancel() -> None:
    engine = ListedProjects("beam", states={"running": 2, "done": 1})
    with pytest.raises(InputError, match="2 jobs of beam have not ended; nothing was deleted"):
        end_jobs(engine, engine.projects[0], cancel=False, delete=True)  # type: ignore[arg-type]
    assert not engine.deleted
    counts = end_jobs(engine, engine.projects[0], cancel=True, delete=True)  # type: ignore[arg-type]
    assert (counts.by_state, engine.deleted) == ({"cancelled": 3}, True)


@pytest.mark.parametrize(
    ("only", "number"), [((), 2), (("timeout",), 1), (("job-*1", "job-*2"), 2), (("job-0001",), 1)]
)
def test_failed_jobs_are_chosen_by_name_or_state(only: tuple[str, ...], number: int) -> None:
    engine = ListedProjects("beam")
    assert retry_failed_jobs(engine, engine.projects[0], only) == number  # type: ignore[arg-type]


def test_nothing_to_run_again_is_an_error() -> None:
    engine = ListedProjects("beam", states={"done": 4})
    with pytest.raises(InputError, match=r"beam: no failed jobs that match lost \(4 done\)"):
        retry_failed_jobs(engine, engine.projects[0], ["lost"])  # type: ignore[arg-type]


def test_a_default_folder_gets_a_number_and_a_named_one_must_be_free(tmp_path: Path) -> None:
    default = tmp_path / "eval-results"
    assert choose_folder(None, default, overwrite=False) == default
    for name in ("eval-results", "eval-results-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    assert choose_folder(None, default, overwrite=False) == tmp_path / "eval-results-3"
    assert choose_folder(None, default, overwrite=True) == default
    with pytest.raises(InputError, match="is not empty; nothing was submitted") as raised:
        choose_folder(default, None, overwrite=False)
    assert "--overwrite" in str(raised.value.hint)
    assert choose_folder(None, None, overwrite=True) is None


def test_replaced_results_come_back_after_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    lock_to_project(folder, ResultsOwner("1", "beam"))
    (folder / "job-0001").mkdir()

    def fail() -> None:
        with replaced(folder):
            folder.mkdir()
            raise BundleError("no uv")

    with pytest.raises(BundleError, match="no uv"):
        fail()
    assert (folder / "job-0001").is_dir()
    with replaced(folder):
        folder.mkdir()
    assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [folder]
    (folder / "thesis.tex").touch()
    with pytest.raises(InputError, match="has no results of jobs; nothing was replaced"):
        replaced(folder).__enter__()
    assert (folder / "thesis.tex").exists()


@pytest.fixture
def records(tmp_path: Path) -> JobRecords:
    """Three jobs: done, failed, cancelled before they started."""
    (tmp_path / ".submission").mkdir()
    found = JobRecords(tmp_path, SubmissionRecord("eval", "local", ({},) * 3, (), {}))
    for number, state in ((1, "done"), (2, "failed"), (3, "cancelled")):
        if number < 3:
            (tmp_path / found.name(number)).mkdir()
        record(tmp_path, state) if number == 3 else record(tmp_path / found.name(number), state)
    found.look(job_set([1, 2]))
    return found


def test_failed_jobs_are_set_aside_and_come_back_after_an_error(records: JobRecords) -> None:
    numbers = find_failed(records, lambda _name, _state: True)
    assert numbers == [2]
    folder = records.directory / "job-0002"

    def fail() -> None:
        with set_aside(records, numbers):
            assert not folder.exists()
            assert records.unfinished == job_set([2, 3])
            raise OSError(28, "the disk is full")

    with pytest.raises(BundleError, match="disk"):
        fail()
    assert (folder / ".job.json").exists()
    assert records.ended[2].state == "failed"
    assert records.unfinished == job_set([3])
    with set_aside(records, numbers):
        pass
    assert not folder.exists()
    assert (records.directory / "job-0001").is_dir()


def test_only_files_of_the_submission_are_removed(records: JobRecords) -> None:
    (records.directory / "notes.txt").touch()
    (records.directory / ".job.json").unlink()
    remove_results(records.directory, records.plan.names)
    assert [path.name for path in records.directory.iterdir()] == ["notes.txt"]


def test_a_path_without_results_is_not_the_name_of_a_project(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/no does not exist"):
        find_owner(str(tmp_path / "no"))
    with pytest.raises(InputError, match="has no results of jobs"):
        find_owner(str(tmp_path))
    assert find_owner("beam - 3 jobs") is None
