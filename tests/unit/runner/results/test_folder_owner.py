"""A folder of jobs that another user has made: its script and records are not for this user."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from offline_bundle.runner.engines.local.pool import make_directory
from offline_bundle.runner.results.folder import read_outcome, read_submission
from offline_bundle.runner.results.owner import (
    OWNER_NAME,
    ResultsOwner,
    check_writable,
    lock_to_project,
    read_owner,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

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


def test_jobs_do_not_run_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could replace the script of a job before that starts."""
    owner = ResultsOwner(str(tmp_path), "name", "local")
    lock_to_project(tmp_path, owner)
    (tmp_path / OWNER_NAME).unlink()
    if os.getuid() == 0:
        os.chown(tmp_path, 12345, -1)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 7)
    with pytest.raises(InputError, match="belongs to another user"):
        lock_to_project(tmp_path, owner)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file/out", "/proc/nothing/out", "x" * 300])
def test_a_folder_that_cannot_be_used_is_refused_before_jobs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be used: ") as caught:
        check_writable(Path(name))
    assert caught.value.hint == "name a writable directory with --download"


def test_a_check_of_a_folder_creates_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "results")
    assert list(tmp_path.iterdir()) == []


def test_new_folders_are_not_writable_by_a_group(tmp_path: Path) -> None:
    """In the folder of a project, each member could replace files of jobs."""
    before = os.umask(0o002)
    try:
        lock_to_project(tmp_path / "out", ResultsOwner("id", "name", "local"))
        make_directory(tmp_path / "jobs/job-1")
    finally:
        os.umask(before)
    for path in ("out", "jobs", "jobs/job-1"):
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o755


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
