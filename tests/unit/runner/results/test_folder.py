"""The jobs of a folder and how they ended; with engines: tests/runner/engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.runner.results.folder import JobOutcome, JobRecords, SubmissionRecord

if TYPE_CHECKING:
    from pathlib import Path


def test_jobs_may_end_while_they_are_counted(tmp_path: Path) -> None:
    ledger = JobRecords(tmp_path, SubmissionRecord("eval", "local", ({},) * 4, (), {}))

    class EndsWithAnother(JobOutcome):
        """Whose state is asked for in the moment in which another job ends."""

        def __getattribute__(self, name: str) -> object:
            if name == "state":
                ledger.ended[len(ledger.ended) + 1] = JobOutcome("done")
            return super().__getattribute__(name)

    ledger.ended[1] = EndsWithAnother("done")
    counts = ledger.counts(running=9)
    assert dict(counts.by_state) == {"running": 3, "done": 1}
    assert ledger.counts().count("done") == 2
