"""Paths of inputs in the folder of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline_bundle.runner.job_files.inputs import link_inputs, plan_inputs, write_inputs


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`jobs/` has the script and a folder; the current folder is beside it."""
    for name in ("jobs/eval.py", "jobs/data/a.csv", "jobs/data/deep/b.csv", "here/data/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "jobs/data/__pycache__").mkdir()
    (tmp_path / "jobs/data/__pycache__/x.pyc").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def plan(*given: str) -> tuple[list[str], list[str]]:
    files, problems = plan_inputs(Path("../jobs/eval.py"), [Path(path) for path in given])
    return [file.path for file in files], problems


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        (["../jobs/data/a.csv"], ["data/a.csv"]),
        (["../jobs/data"], ["data/a.csv", "data/deep/b.csv"]),
        (["../jobs/data/deep/"], ["data/deep/b.csv"]),
        (["../jobs/data", "../jobs/data/a.csv"], ["data/a.csv", "data/deep/b.csv"]),
        (["data/c.csv"], ["data/c.csv"]),
        (["data"], ["data/c.csv"]),
        (["./data/../data/c.csv"], ["data/c.csv"]),
        (["../jobs/eval.py"], []),
    ],
)
def test_paths_are_relative_to_the_script_or_the_current_folder(
    given: list[str], paths: list[str]
) -> None:
    assert plan(*given) == (["eval.py", *paths], [])


def test_a_path_elsewhere_is_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    script = folder / "jobs" / "eval.py"
    monkeypatch.chdir(folder / "jobs" / "data")
    files, problems = plan_inputs(script, [folder / "here" / "data"])
    assert ([file.path for file in files], problems) == (["eval.py", "data/c.csv"], [])


def test_all_problems_are_found(folder: Path) -> None:
    (folder / "here" / "eval.py").write_text("another")
    (folder / "here" / "empty").mkdir()
    (folder / "here" / ".job.json").write_text("")
    (folder / "here" / "links").mkdir()
    (folder / "here" / "links" / "to").symlink_to(folder / "jobs")
    given = ["eval.py", "none", "empty", "../jobs", ".job.json", "links"]
    _, problems = plan(*given)
    assert problems == [
        "two files have the path eval.py",
        "none is not a file or a folder",
        "empty has no files",
        "../jobs contains the script: name the files or folders in it",
        "links/to is a link to a folder: name that folder",
        "links has no files",
        ".job.json: jobs write a file of this name",
    ]


def test_a_path_cannot_be_a_file_and_a_folder(folder: Path) -> None:
    (folder / "jobs" / "x").write_text("")
    (folder / "here" / "x").mkdir()
    (folder / "here" / "x" / "y").write_text("")
    assert plan("../jobs/x", "x")[1] == ["x is a file and a folder"]


def test_jobs_get_links_to_one_read_only_copy(folder: Path) -> None:
    files, _ = plan_inputs(Path("../jobs/eval.py"), [Path("../jobs/data")])
    tops = write_inputs(files, folder / "copy")
    assert tops == (folder / "copy" / "eval.py", folder / "copy" / "data")
    link_inputs(tops, folder / "job")
    link = folder / "job" / "data" / "deep" / "b.csv"
    assert link.read_text() == "jobs/data/deep/b.csv"
    assert link.resolve() == folder / "copy" / "data" / "deep" / "b.csv"
    assert not (folder / "job" / "data").is_symlink()
    assert link.stat().st_mode & 0o222 == 0
