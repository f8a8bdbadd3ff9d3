"""Submissions to Slurm with its commands replaced; with a real Slurm: tests/runner/engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.runner.engines.slurm import commands, job_ends, submission
from offline_bundle.runner.engines.slurm.submission import SlurmSubmission
from offline_bundle.runner.request import Request
from offline_bundle.runner.results.folder import record
from offline_bundle.runner.values import plan_values
from offline_bundle.wheelhouse.runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from offline_bundle.runner.engines.slurm.commands import Tasks

OPTIONS: dict[str, Any] = {
    "parallel": 3,
    "partition": None,
    "account": None,
    "qos": None,
    "slurm_options": (),
    "node_cache": None,
}


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Options of each `sbatch`; arrays have two jobs at most."""
    calls: list[list[str]] = []

    def submit(_script: Path, options: Sequence[str], _arguments: Sequence[str]) -> str:
        calls.append(list(options))
        return str(100 + len(calls))

    monkeypatch.setattr(commands, "submit", submit)
    monkeypatch.setattr(commands, "array_limit", lambda: 2)
    return calls


def request(folder: Path, jobs: int = 5) -> Request:
    script = folder / "eval.py"
    script.write_text("# /// script\n# dependencies = []\n# ///\n")
    return Request(script=script, bundle="/bundle", values=plan_values([], None, jobs=jobs))


def test_parallel_limits_the_whole_submission(tmp_path: Path, submitted: list[list[str]]) -> None:
    created = SlurmSubmission.create(tmp_path / "out", request(tmp_path), OPTIONS, print)
    created.submit_all()
    arrays = [
        [word for word in words if word.startswith(("--array", "--dep"))] for words in submitted
    ]
    assert arrays == [
        ["--array=1-2%3"],
        ["--array=1-2%3", "--dependency=afterany:101"],
        ["--array=1-1%3", "--dependency=afterany:102"],
    ]


def test_arrays_do_not_wait_without_parallel(tmp_path: Path, submitted: list[list[str]]) -> None:
    options = {**OPTIONS, "parallel": None}
    SlurmSubmission.create(tmp_path / "out", request(tmp_path), options, print).submit_all()
    assert len(submitted) == 3
    assert not [word for words in submitted for word in words if word.startswith("--dep")]


@pytest.mark.usefixtures("submitted")
def test_a_submission_that_cannot_be_written_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(submission, "write_submission", fail)
        with pytest.raises(BundleError, match="No space left on device"):
            SlurmSubmission.create(tmp_path / "out", request(tmp_path), OPTIONS, print)
    assert not (tmp_path / "out").exists()
    SlurmSubmission.create(tmp_path / "out", request(tmp_path), OPTIONS, print).submit_all()


@pytest.mark.usefixtures("submitted")
def test_a_refused_option_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise commands.SlurmError("sbatch: invalid partition specified: x")

    monkeypatch.setattr(commands, "submit", refuse)
    monkeypatch.setattr(commands, "cancel", lambda _: None)
    created = SlurmSubmission.create(tmp_path / "out", request(tmp_path), OPTIONS, print)
    with pytest.raises(BundleError, match="invalid partition"):
        created.submit_all()
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("submitted")
def test_a_folder_that_nodes_do_not_see_is_named_with_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def queue(_job_id: str, *, with_ended: bool = False) -> list[Tasks]:
        ended = [commands.Tasks(frozenset({1}), "FAILED", "RaisedSignal:53", "n7")]
        return ended if with_ended else []

    monkeypatch.setattr(commands, "queue", queue)
    monkeypatch.setattr(job_ends, "SETTLE_SECONDS", -1)
    created = SlurmSubmission.create(tmp_path / "out", request(tmp_path, 1), OPTIONS, print)
    created.submit_all()
    for _ in range(3):
        created.poll()
    (failure,) = created.records.failures(1)
    assert (failure.state, failure.node, failure.job_id) == ("node failed", "n7", "103_1")
    assert failure.place == " on n7 (job 103_1)"
    page = created.records.results(tmp_path / "out").page.read_text()
    assert "n7 \\u00b7 job 103_1" in page
    assert "the job could not start (Slurm job 103_1 on node n7)" in failure.tail
    assert f"can it read and write {tmp_path / 'out'}?" in failure.tail


@pytest.mark.usefixtures("submitted")
def test_a_finished_job_that_slurm_holds_again_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = commands.Tasks(frozenset({1}), "PENDING", "JobHeldAdmin")
    monkeypatch.setattr(commands, "queue", lambda *_, **__: [held])
    created = SlurmSubmission.create(tmp_path / "out", request(tmp_path, 1), OPTIONS, print)
    created.submit_all()
    created.poll()
    assert created.state().counts.by_state == {"pending": 1}
    (tmp_path / "out" / "job-0001").mkdir()
    record(tmp_path / "out" / "job-0001", "done")
    created.poll()
    assert created.state().counts.by_state == {"done": 1}


def end_job(folder: Path, number: int, state: str, node: str = "n1") -> None:
    job = folder / f"job-{number:04}"
    job.mkdir()
    record(job, state, node=node)


def test_jobs_that_a_node_failed_start_again_on_other_nodes_three_times(
    tmp_path: Path, submitted: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = {"101", "102", "103"}
    monkeypatch.setattr(
        commands,
        "queue",
        lambda job_id, **_: (
            [commands.Tasks(frozenset({1, 2}), "PENDING", "None")] if job_id in queued else []
        ),
    )
    notices: list[str] = []
    options = {**OPTIONS, "slurm_options": ("exclude=n9",)}
    created = SlurmSubmission.create(tmp_path / "out", request(tmp_path), options, notices.append)
    created.submit_all()
    queued.clear()
    for number, state in enumerate(("done", "node failed", "done", "failed", "node failed"), 1):
        end_job(tmp_path / "out", number, state)
    queued |= {"104", "105", "106", "107"}
    created.poll()
    assert created.state().counts.by_state == {"pending": 2, "done": 2, "failed": 1}
    asked = [words[-2:] for words in submitted[3:]]
    assert asked == [["--exclude=n9,n1", "--array=2%3"], ["--exclude=n9,n1", "--array=1%3"]]
    assert notices == ["2 jobs failed because of a node (n1): started again"]
    end_job(tmp_path / "out", 2, "node failed", "n2")
    end_job(tmp_path / "out", 5, "done")
    queued.clear()
    created.poll()
    assert submitted[5][-2:] == ["--exclude=n9,n1,n2", "--array=2%3"]
    end_job(tmp_path / "out", 2, "node failed", "n3")
    created.poll()
    assert created.state().counts.by_state == {"done": 3, "failed": 1, "node failed": 1}
    assert len(submitted) == 6
    again = SlurmSubmission.read(tmp_path / "out", print)
    assert again.job_ids == ("101", "102", "103", "104", "105", "106")


def test_without_another_node_a_job_stays_failed(
    tmp_path: Path, submitted: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "queue", lambda *_, **__: [])
    notices: list[str] = []
    created = SlurmSubmission.create(
        tmp_path / "out", request(tmp_path, 1), OPTIONS, notices.append
    )
    created.submit_all()
    end_job(tmp_path / "out", 1, "node failed")

    def refuse(*_: object) -> str:
        raise commands.SlurmError("sbatch: Requested node configuration is not available")

    monkeypatch.setattr(commands, "submit", refuse)
    created.poll()
    created.poll()
    assert created.state().counts.by_state == {"node failed": 1}
    assert len(notices) == 1
    assert "no other node" in notices[0]
    assert (tmp_path / "out" / "job-0001" / ".job.json").exists()
    del submitted


def test_indices_are_written_as_slurm_reads_them() -> None:
    numbers = [1, 2, 3, 7, 9, 10]
    assert commands.format_indices(numbers) == "1-3,7,9-10"
    assert list(commands.parse_indices("1-3,7,9-10")) == numbers
    assert commands.exclude(["--mem=1K"], []) == ["--mem=1K"]
