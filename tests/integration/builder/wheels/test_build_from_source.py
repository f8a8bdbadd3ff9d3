"""Wheels built from source: settings of builds, and logins of git repositories."""

from __future__ import annotations

import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.resolve.model import Artifact
from offline_bundle.builder.wheels.sources import copy_source, tree_digest
from offline_bundle.wheelhouse.runtime.errors import FetchError, IntegrityError
from tests.support.distributions import make_source_tree
from tests.support.git_server import private_repositories
from tests.support.pipeline_cases import Factory, factory
from tests.support.programs import require
from tests.support.uv_cases import make_repository

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["factory"]

# Appended to the build backend of the tests: it writes the settings into the module.
_WRITE_SETTINGS = """
_build_wheel = build_wheel
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with open("own.py", "w") as file:
        file.write("SETTINGS = %r" % (config_settings or {},))
    return _build_wheel(folder)
"""


def test_build_settings_of_the_script_apply_and_decide_which_kept_wheel_is_used(
    factory: Factory, tmp_path: Path
) -> None:
    tree = make_source_tree(tmp_path / "own", "own", declared=[])
    with (tree / "backend.py").open("a") as file:
        file.write(_WRITE_SETTINGS)
    tool = (
        '[tool.uv]\nconfig-settings = {{ flavour = "{}" }}\n'
        '[tool.uv.sources]\nown = {{ path = "own" }}'
    )
    factory.build(factory.script("own", tool=tool.format("mint")))
    with zipfile.ZipFile(factory.bundle / "wheels/own-1.0-py3-none-any.whl") as wheel:
        assert wheel.read("own.py") == b"SETTINGS = {'flavour': 'mint'}"
    # another wheel of the same name, not the kept one
    factory.fails(IntegrityError, factory.script("own", tool=tool.format("lime")))


def test_links_that_leave_a_source_are_copied_and_decide_its_digest(tmp_path: Path) -> None:
    tree = make_source_tree(tmp_path / "own", "own", declared=[])
    (tmp_path / "shared/tables").mkdir(parents=True)
    (tmp_path / "shared/table.csv").write_text("1")
    (tmp_path / "shared/tables/a.csv").write_text("2")
    (tree / "table.csv").symlink_to("../shared/table.csv")
    (tree / "tables").symlink_to(tmp_path / "shared/tables")
    (tree / "inside").symlink_to("own.py")
    (tree / "dangling").symlink_to("nowhere")
    (tree / "itself").symlink_to(".")
    artifact = Artifact("own", "1.0", "directory", str(tree), "", {}, None)
    copy, digest = copy_source(artifact, None, tmp_path / "copy", Credentials())
    assert (copy / "table.csv").read_text() == "1"
    assert (copy / "tables/a.csv").read_text() == "2"
    assert [path.name for path in sorted(copy.rglob("*")) if path.is_symlink()] == [
        "dangling",
        "inside",
        "itself",
    ]
    (tmp_path / "shared/table.csv").write_text("changed")
    changed = tree_digest(tree)
    (tmp_path / "shared/tables/a.csv").write_text("changed")
    assert len({digest, changed, tree_digest(tree)}) == 3


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_package_named_dist_and_the_egg_info_of_an_sdist_are_part_of_a_source(
    *, is_kept: bool, tmp_path: Path
) -> None:
    tree = make_source_tree(tmp_path / "own", "own", declared=[])
    for name in ("dist/__init__.py", "build/__init__.py", "own.egg-info/SOURCES.txt", "PKG-INFO"):
        path = tree / (name if is_kept else name.replace("__init__", "x").replace("PKG", "x"))
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    artifact = Artifact("own", "1.0", "directory", str(tree), "", {}, None)
    copy, _ = copy_source(artifact, None, tmp_path / "copy", Credentials())
    for name in ("dist", "build", "own.egg-info"):
        assert (copy / name).exists() is is_kept


@pytest.mark.parametrize("password", ["s3cr3t-word", "wr0ng-word"])
def test_a_git_password_is_in_no_argument_and_no_message(
    password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = require("git")
    repository = make_repository(make_source_tree(tmp_path / "served/vcs", "vcs", declared=[]))
    subprocess.run([git, "update-server-info"], cwd=repository, check=True)
    commit = subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    with private_repositories(tmp_path / "served", "alice", "s3cr3t-word") as host:
        url = f"http://alice:{password}@{host}/vcs/.git"
        artifact = Artifact("vcs", "1.0", "git", url, "", {}, None, commit=commit)
        if password == "wr0ng-word":
            with pytest.raises(FetchError) as caught:
                copy_source(artifact, None, tmp_path, Credentials())
            assert password not in f"{caught.value} {caught.value.hint}"
        else:
            source, _ = copy_source(artifact, None, tmp_path, Credentials())
            assert (source / "vcs.py").is_file()
    assert "remote-http" in trace.read_text()
    assert password not in trace.read_text()
