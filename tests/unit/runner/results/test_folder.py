"""The jobs of a folder and how they ended; with engines: tests/runner/engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.runner.results.folder import JobOutcome, JobRecords, SubmissionRecord

if TYPE_CHECKING:
    from collections.abc import ItemsView
    from pathlib import Path


def test_jobs_may_end_while_they_are_counted(tmp_path: Path) -> None:
    ledger = JobRecords(tmp_path, SubmissionRecord("eval", "local", ({},) * 4, (), {}))

    class States(dict[str, int]):
        """In which another job ends at the moment in which the jobs are counted."""

        def items(self) -> ItemsView[str, int]:
            items = list(super().items())
            ledger.end(len(ledger.ended) + 1, JobOutcome("done"))
            return dict(items).items()

    ledger.in_state = States()
    ledger.end(1, JobOutcome("done"))
    counts = ledger.counts(running=9)
    assert dict(counts.by_state) == {"running": 3, "done": 1}
    assert ledger.counts().count("done") == 2
