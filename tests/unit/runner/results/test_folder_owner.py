"""A folder of jobs that another user has made: its script and records are not for this user."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.results.folder import read_outcome, read_submission
from offline_bundle.runner.results.owner import read_owner
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from pathlib import Path

ODD = [
    b"[" * 100_000,
    b'{"code":0,"started":1e300,"ended":2}',
    b'{"code":0,"started":' + b"9" * 5000 + b"}",
    b'{"code":0,"started":-1e18,"ended":2}',
    b"[]",
    b"\xff",
]


def test_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".submission").mkdir()
    outputs = {"patterns": [], "limit": None, "is_required": False}
    plan = {"name": "n", "engine": "slurm", "rows": [], "outputs": outputs, "details": {}}
    (tmp_path / ".submission" / "submission.json").write_text(json.dumps(plan))
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 7)
    with pytest.raises(InputError, match="belong to another user"):
        read_submission(tmp_path, "slurm")


@pytest.mark.parametrize("content", ODD, ids=lambda content: repr(content[:30]))
def test_odd_documents_are_errors_or_lost_jobs(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".submission").mkdir()
    for name in (".job.json", ".offline-bundle.json", ".submission/submission.json"):
        (tmp_path / name).write_bytes(content)
    outcome = read_outcome(tmp_path)
    assert outcome
    assert outcome.state == "lost"
    assert read_owner(tmp_path) is None
    with pytest.raises(BundleError, match="cannot be read"):
        read_submission(tmp_path, "slurm")
