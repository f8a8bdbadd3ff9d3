"""Submissions to Slurm with its commands replaced; with a real Slurm: tests/runner/engines."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.runner.batch import job_ends, scheduler, submission
from offline_bundle.runner.batch.submission import BatchSubmission
from offline_bundle.runner.engines.slurm.scheduler import Slurm
from offline_bundle.runner.request import Request
from offline_bundle.runner.results.folder import record
from offline_bundle.runner.results.job_sets import format_indices, job_set, parse_indices
from offline_bundle.runner.values import plan_values
from offline_bundle.wheelhouse.runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

OPTIONS: dict[str, Any] = {
    "parallel": 3,
    "partition": None,
    "account": None,
    "qos": None,
    "slurm_options": (),
    "node_cache": None,
}


class FakeSlurm:
    """The answers of Slurm's commands; arrays have two jobs at most."""

    def __init__(self) -> None:
        self.submitted: list[list[str]] = []
        """Options of each `sbatch`."""
        self.queue: dict[str, str] = {}
        """Job → its lines of `squeue`."""
        self.ended: dict[str, str] = {}
        """The same with `--states=all`."""
        self.refusal = ""

    def run(self, title: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        assert title == "Slurm"
        program, *words = command
        output = ""
        if program == "scontrol":
            output = "MaxArraySize = 3"
        elif program == "sbatch" and self.refusal:
            return subprocess.CompletedProcess(command, 1, "", f"sbatch: error: {self.refusal}")
        elif program == "sbatch":
            self.submitted.append(words[1:-2])
            output = str(100 + len(self.submitted))
        elif program == "squeue":
            jobs = next(word.partition("=")[2] for word in words if word.startswith("--jobs="))
            tasks = self.ended if "--states=all" in words else self.queue
            output = "\n".join(f"{job}|{tasks[job]}" for job in jobs.split(",") if job in tasks)
        return subprocess.CompletedProcess(command, 0, output, "")


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm()
    monkeypatch.setattr(scheduler, "run_command", fake.run)
    return fake


@pytest.fixture
def submitted(slurm: FakeSlurm) -> list[list[str]]:
    return slurm.submitted


def create(
    folder: Path,
    jobs: int = 5,
    options: dict[str, Any] = OPTIONS,
    notice: Callable[[str], None] = print,
) -> BatchSubmission:
    return BatchSubmission.create(folder / "out", request(folder, jobs), options, Slurm(), notice)


def request(folder: Path, jobs: int = 5) -> Request:
    script = folder / "eval.py"
    script.write_text("# /// script\n# dependencies = []\n# ///\n")
    return Request(script=script, bundle="/bundle", values=plan_values([], None, jobs=jobs))


def test_parallel_limits_the_whole_submission(tmp_path: Path, submitted: list[list[str]]) -> None:
    created = create(tmp_path)
    created.submit_all()
    arrays = [
        [word for word in words if word.startswith(("--array", "--dep"))] for words in submitted
    ]
    assert arrays == [
        ["--array=1-2%3"],
        ["--array=1-2%3", "--dependency=afterany:101"],
        ["--array=1%3", "--dependency=afterany:102"],
    ]


def test_arrays_do_not_wait_without_parallel(tmp_path: Path, submitted: list[list[str]]) -> None:
    options = {**OPTIONS, "parallel": None}
    create(tmp_path, options=options).submit_all()
    assert len(submitted) == 3
    assert not [word for words in submitted for word in words if word.startswith("--dep")]


@pytest.mark.usefixtures("submitted")
def test_a_submission_that_cannot_be_written_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(submission, "write_folder", fail)
        with pytest.raises(BundleError, match="No space left on device"):
            create(tmp_path)
    assert not (tmp_path / "out").exists()
    create(tmp_path).submit_all()


def test_a_refused_option_leaves_no_folder(tmp_path: Path, slurm: FakeSlurm) -> None:
    slurm.refusal = "invalid partition specified: x"
    created = create(tmp_path)
    with pytest.raises(BundleError, match="invalid partition"):
        created.submit_all()
    assert not (tmp_path / "out").exists()


def test_ctrl_c_between_arrays_cancels_the_jobs_and_names_the_way_on(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(title: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        if command[0] == "sbatch" and len(slurm.submitted) == 1:
            raise KeyboardInterrupt
        return slurm.run(title, command)

    monkeypatch.setattr(scheduler, "run_command", run)
    created = create(tmp_path)
    with pytest.raises(BundleError, match="the jobs of eval - 5 jobs are cancelled") as raised:
        created.submit_all()
    assert raised.value.exit_code == 130
    assert "--overwrite" in str(raised.value.hint)
    created.poll()
    assert created.state().counts.by_state == {"cancelled": 5}


def test_a_folder_that_nodes_do_not_see_is_named_with_the_node(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ended = dict.fromkeys(("101", "102", "103"), "1|FAILED|RaisedSignal:53|n7")
    monkeypatch.setattr(job_ends, "SETTLE_SECONDS", -1)
    created = create(tmp_path, 1)
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


def test_a_results_folder_that_was_moved_away_is_named(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_ends, "SETTLE_SECONDS", -1)
    created = create(tmp_path, 1)
    created.submit_all()
    slurm.ended["101"] = "1|COMPLETED|None|n1"
    (tmp_path / "out").rename(tmp_path / "moved")
    with pytest.raises(BundleError, match=r"out does not exist any more$") as raised:
        created.poll()
    assert "move it back" in str(raised.value.hint)


def test_a_finished_job_that_slurm_holds_again_is_done(tmp_path: Path, slurm: FakeSlurm) -> None:
    slurm.queue["101"] = "1|PENDING|JobHeldAdmin|"
    created = create(tmp_path, 1)
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
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    submitted = slurm.submitted
    waiting = "1-2|PENDING|None|"
    slurm.queue = dict.fromkeys(("101", "102", "103"), waiting)
    notices: list[str] = []
    options = {**OPTIONS, "slurm_options": ("exclude=n9",)}
    created = create(tmp_path, options=options, notice=notices.append)
    created.submit_all()
    slurm.queue = {}
    for number, state in enumerate(("done", "node failed", "done", "failed", "node failed"), 1):
        end_job(tmp_path / "out", number, state)
    slurm.queue = dict.fromkeys(("104", "105", "106", "107"), waiting)
    created.poll()
    assert created.state().counts.by_state == {"pending": 2, "done": 2, "failed": 1}
    excluded = "--exclude=n9,n1"
    assert [words[words.index(excluded) :] for words in submitted[3:]] == [
        [excluded, "--array=2%3"],
        [excluded, "--array=1%3", "--dependency=afterany:104"],
    ]
    assert notices == ["2 jobs failed because of a node (n1): started again"]
    end_job(tmp_path / "out", 2, "node failed", "n2")
    end_job(tmp_path / "out", 5, "done")
    slurm.queue = {}
    created.poll()
    assert submitted[5][-2:] == ["--exclude=n9,n1,n2", "--array=2%3"]
    end_job(tmp_path / "out", 2, "node failed", "n3")
    created.poll()
    assert created.state().counts.by_state == {"done": 3, "failed": 1, "node failed": 1}
    assert len(submitted) == 6
    again = BatchSubmission.read(tmp_path / "out", Slurm(), print)
    assert again.job_ids == ("101", "102", "103", "104", "105", "106")


def test_without_another_node_a_job_stays_failed(tmp_path: Path, slurm: FakeSlurm) -> None:
    notices: list[str] = []
    created = create(tmp_path, 1, notice=notices.append)
    created.submit_all()
    end_job(tmp_path / "out", 1, "node failed")
    slurm.refusal = "Requested node configuration is not available"
    created.poll()
    created.poll()
    assert created.state().counts.by_state == {"node failed": 1}
    assert len(notices) == 1
    assert "no other node" in notices[0]
    assert (tmp_path / "out" / "job-0001" / ".job.json").exists()


def test_indices_are_written_as_slurm_reads_them() -> None:
    jobs = job_set([1, 2, 3, 7, 9, 10])
    assert format_indices(jobs) == "1-3,7,9-10"
    assert parse_indices("1-3,7,9-10") == jobs
    assert Slurm().exclude(["--mem=1K"], []) == ["--mem=1K"]
