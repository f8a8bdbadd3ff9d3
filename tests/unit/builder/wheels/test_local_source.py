"""Copies and digests of local projects."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.wheels import local_source
from offline_bundle.builder.wheels.local_source import copy_project, project_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit tests start no process; the projects here are in no repository."""
    monkeypatch.setattr(local_source, "_git", lambda *_: b"")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    for name in (
        "pyproject.toml",
        "own.py",
        "dist/__init__.py",
        "build/lib/removed.py",
        "build/page.html",
        "own.egg-info/SOURCES.txt",
        "own.egg-info/PKG-INFO",
        "environment/pyvenv.cfg",
        "node_modules/x.js",
        "own/page/node_modules/x.js",
        "__pycache__/own.pyc",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (tmp_path / "VERSION").write_text("1")
    (tmp_path / "shared/tables").mkdir(parents=True)
    (tmp_path / "shared/table.csv").write_text("1")
    (tmp_path / "shared/tables/a.csv").write_text("2")
    (folder / "table.csv").symlink_to("../shared/table.csv")
    (folder / "tables").symlink_to(tmp_path / "shared/tables")
    (folder / "inside").symlink_to("own.py")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "itself").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(folder / "pipe")
    (folder / "other-pipe").symlink_to("../pipe")
    return folder


def test_a_copy_shows_all_that_the_original_shows(project: Path, tmp_path: Path) -> None:
    copy = copy_project(project, tmp_path / "copy")
    for name in (
        "../VERSION",
        "table.csv",
        "tables/a.csv",
        "dist/__init__.py",
        "build/page.html",
        "own.egg-info/SOURCES.txt",
        "environment/pyvenv.cfg",
        "node_modules/x.js",
    ):
        assert (copy / name).read_text() == (project / name).read_text()
    for name in ("inside", "dangling", "itself"):
        assert (copy / name).readlink() == (project / name).readlink()
    assert not (copy / "build/lib").exists()  # setuptools would take removed modules from it
    (copy / "own.py").write_text("changed")
    assert (project / "own.py").read_text() == ""


def test_a_copy_of_a_read_only_project_can_be_written(project: Path, tmp_path: Path) -> None:
    for folder in (project, project / "dist"):
        folder.chmod(0o500)
    try:
        copy = copy_project(project, tmp_path / "copy")
        (copy / "dist/new.py").write_text("")
    finally:
        for folder in (project, project / "dist"):
            folder.chmod(0o700)
    shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize(
    ("change", "is_decisive"),
    [
        (lambda folder: (folder / "own.py").write_text("x"), True),
        (lambda folder: (folder / "own.py").chmod(0o755), True),
        (lambda folder: (folder / "own.egg-info/SOURCES.txt").write_text("x"), True),
        (lambda folder: (folder / "build/page.html").write_text("x"), True),
        (lambda folder: (folder / "../VERSION").write_text("x"), True),
        (lambda folder: (folder / "../shared/table.csv").write_text("x"), True),
        (lambda folder: (folder / "../shared/tables/a.csv").write_text("x"), True),
        (lambda folder: (folder / "../shared/tables/b.csv").write_text("x"), True),
        (lambda folder: (folder / "build/lib/removed.py").write_text("x"), False),
        (lambda folder: (folder / "dist/own-1.0.tar.gz").write_text("x"), False),
        (lambda folder: (folder / "own.egg-info/PKG-INFO").write_text("x"), False),
        (lambda folder: (folder / "__pycache__/own.pyc").write_text("x"), False),
        (lambda folder: (folder / "own/page/node_modules/x.js").write_text("x"), True),
        (lambda folder: (folder / "node_modules/x.js").write_text("x"), False),
        (lambda folder: (folder / "pipe").unlink(), False),
        (lambda folder: (folder / "../unrelated").write_text("x"), False),
    ],
)
def test_a_digest_changes_with_what_decides_the_wheel(
    project: Path, change: Callable[[Path], object], *, is_decisive: bool
) -> None:
    (project / "pyproject.toml").write_text('[tool.hatch.version]\npath = "../VERSION"\n')
    before = project_digest(project)
    assert project_digest(project) == before
    change(project)
    assert (project_digest(project) != before) is is_decisive
