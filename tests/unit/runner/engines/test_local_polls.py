"""Polls of local jobs that another command runs: only jobs that may have ended are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.runner.engines.local.engine import LocalEngine
from offline_bundle.runner.job_files.outputs import plan_outputs
from offline_bundle.runner.results import folder as results
from offline_bundle.runner.results.folder import SubmissionRecord, record, write_submission
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_poll_reads_the_records_of_jobs_that_may_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tuple({"n": number} for number in range(1000))
    plan = SubmissionRecord("eval", "local", rows, plan_outputs((), None), {"parallel": 2})
    (tmp_path / ".submission").mkdir()
    write_submission(tmp_path, plan)

    def end(number: int) -> None:
        (tmp_path / f"job-{number:04}").mkdir()
        record(tmp_path / f"job-{number:04}", "done")

    looked: list[str] = []
    read = results.read_outcome
    monkeypatch.setattr(
        results, "read_outcome", lambda folder: looked.append(folder.name) or read(folder)
    )
    lock = FileLock(tmp_path / ".submission" / "lock")
    assert lock.acquire()
    end(1)
    end(3)
    engine = LocalEngine({})
    project = engine.find(str(tmp_path))
    assert project.counts.by_state == {"running": 2, "pending": 996, "done": 2}
    looked.clear()
    end(4)
    assert engine.poll(project).by_state == {"running": 2, "pending": 995, "done": 3}
    assert looked == ["job-0002", "job-0004", "job-0005"]
    lock.release()
    assert engine.poll(project).by_state == {"done": 3, "cancelled": 997}
