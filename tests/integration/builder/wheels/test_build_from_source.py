"""Wheels built from source: settings of builds, and logins of git repositories."""

from __future__ import annotations

import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.resolve.model import Artifact
from offline_bundle.builder.wheels.sources import copy_source
from offline_bundle.wheelhouse.runtime.errors import FetchError, IntegrityError
from tests.support.command_line import call
from tests.support.distributions import make_source_tree, make_wheel, pack_sdist
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
            source = copy_source(artifact, None, tmp_path, Credentials())
            assert (source / "vcs.py").is_file()
    assert "remote-http" in trace.read_text()
    assert password not in trace.read_text()


def _lfs_repository(folder: Path) -> Path:
    """Commit a project whose module is a file of Git LFS."""
    git = require("git")
    require("git-lfs")
    tree = make_source_tree(folder, "large", declared=[])
    subprocess.run([git, "init", "--quiet"], cwd=tree, check=True)
    subprocess.run([git, "lfs", "install", "--local"], cwd=tree, check=True, capture_output=True)
    (tree / ".gitattributes").write_text("large.py filter=lfs diff=lfs merge=lfs -text\n")
    return make_repository(tree)


def test_files_of_git_lfs_are_fetched_where_uv_fetches_them(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = _lfs_repository(tmp_path / "large").as_uri()
    tool = f'[tool.uv.sources]\nlarge = {{{{ git = "{url}"{{}} }}}}'
    text = factory.fails(
        FetchError, factory.script("large", tool=tool.format("")), allow=("large",)
    )
    assert "Git LFS pointers" in text
    assert "large.py" in text
    assert "`lfs = true`" in text
    factory.build(factory.script("large", tool=tool.format(", lfs = true")), allow=("large",))
    monkeypatch.setenv("UV_GIT_LFS", "1")
    script = factory.script("large", name="without", tool=tool.format(", lfs = false"))
    assert "Git LFS pointers" in factory.fails(FetchError, script, allow=("large",))
    other = Factory(tmp_path / "other", factory.index)
    other.folder.mkdir()
    report = other.build(other.script("large", tool=tool.format("")), allow=("large",))
    assert report.built == ("large-1.0-py3-none-any.whl",)
    with zipfile.ZipFile(other.bundle / "wheels/large-1.0-py3-none-any.whl") as wheel:
        assert wheel.read("large.py") == b"VERSION = '1.0'\n"


_READS = """
import subprocess
build_editable = build_wheel_only = build_wheel
def build_wheel(folder, config_settings=None, metadata_directory=None):
    describe = ["git", "describe", "--tags", "--dirty"]
    version = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    try:
        from helper import VERSION as helper
    except ImportError:
        helper = ""
    with open("../VERSION") as file:
        text = " ".join([file.read(), version, helper])
    with open("own.py", "w") as file:
        file.write("READ = %r" % text)
    return build_wheel_only(folder)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with the project `own`, whose backend reads what is outside of it."""
    folder = tmp_path / "repository"
    tree = make_source_tree(folder / "own", "own", declared=[])
    with (tree / "backend.py").open("a") as file:
        file.write(_READS)
    (tree / "setup.cfg").write_text("version = file: ../VERSION")
    (folder / "VERSION").write_text("one")
    (folder / ".gitignore").write_text("__pycache__")
    make_repository(folder)
    subprocess.run([require("git"), "tag", "v7"], cwd=folder, check=True)
    return folder


def _read(bundle: Path) -> str:
    with zipfile.ZipFile(bundle / "wheels/own-1.0-py3-none-any.whl") as wheel:
        return wheel.read("own.py").decode()


def test_a_backend_reads_the_repository_around_its_project(
    factory: Factory, repository: Path, tmp_path: Path
) -> None:
    before = sorted(repository.rglob("*"))
    script = factory.script("own", tool='[tool.uv.sources]\nown = { path = "repository/own" }')
    assert factory.build(script).built
    assert _read(factory.bundle) == "READ = 'one v7 '"
    other = tmp_path / "other"
    assert factory.build(script, output=other).kept
    (repository / "VERSION").write_text("two")
    assert factory.build(script, output=tmp_path / "changed").built
    assert _read(tmp_path / "changed") == "READ = 'two v7-dirty '"
    assert (repository / "own/own.py").read_text() == "VERSION = '1.0'\n"
    assert sorted(repository.rglob("*")) == before


@pytest.mark.parametrize("source", ['path = "../helper"', "workspace = true"])
def test_build_requirements_of_a_local_project_may_be_local_too(
    factory: Factory, repository: Path, source: str
) -> None:
    helper = make_source_tree(repository / "helper", "helper", "4.2", declared=[])
    with (helper / "backend.py").open("a") as file:
        file.write("build_editable = build_wheel")
    project = repository / "own/pyproject.toml"
    text = project.read_text().replace("requires = []", 'requires = ["helper"]')
    project.write_text(f"{text}[tool.uv.sources]\nhelper = {{ {source} }}\n")
    if "workspace" in source:
        workspace = '[tool.uv.workspace]\nmembers = ["own", "helper"]\n'
        (repository / "pyproject.toml").write_text(workspace)
    script = factory.script("own", tool='[tool.uv.sources]\nown = { path = "repository/own" }')
    factory.build(script)
    assert _read(factory.bundle).endswith("4.2'")


def test_settings_outside_the_script_decide_which_kept_wheel_is_used(
    factory: Factory, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_source_tree(tmp_path / "own", "own", declared=[])
    with (tree / "backend.py").open("a") as file:
        file.write(_WRITE_SETTINGS)
    script = factory.script("own", tool='[tool.uv.sources]\nown = { path = "own" }')
    assert factory.build(script).built
    user = own_home / ".config/uv/uv.toml"
    user.parent.mkdir(parents=True)
    for number, path in enumerate((user, tmp_path / "uv.toml")):
        path.write_text(f'config-settings = {{ flavour = "{number}" }}\n')
        bundle = tmp_path / f"bundle-{number}"
        assert factory.build(script, output=bundle).built
        assert f"'flavour': '{number}'" in _read(bundle)
    for name in ("CFLAGS", "MPICC", "CMAKE_ARGS"):
        monkeypatch.setenv(name, "-O0")
        assert factory.build(script, output=tmp_path / name).built
    assert factory.build(script, output=tmp_path / "again").kept


def test_a_newer_build_requirement_changes_no_kept_wheel(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    """As in uv's cache; a new file of the same name would not fit into the bundle either."""
    tree = make_source_tree(tmp_path / "own", "own", declared=[])
    project = tree / "pyproject.toml"
    project.write_text(project.read_text().replace("requires = []", 'requires = ["helper"]'))
    with (tree / "backend.py").open("a") as file:
        file.write(_READS.replace("../VERSION", "pyproject.toml"))
    pack_sdist(tree, packages, "own", declared=[])

    def helper(output: str, tool: str = "") -> str:
        script = factory.script("own", tool=tool)
        factory.build(script, allow=("own",), output=tmp_path / output)
        return _read(tmp_path / output)[-4:-1]

    make_wheel(packages, "helper", "1.0")
    assert helper("bundle") == "1.0"
    make_wheel(packages, "helper", "2.0")
    assert helper("bundle") == helper("another") == "1.0"
    constraint = '[tool.uv]\nbuild-constraint-dependencies = ["helper>1"]'
    assert helper("constrained", constraint) == "2.0"
    assert call("cache", "clear", "built-wheel").code == 0
    assert helper("after") == "2.0"


def test_a_build_without_isolation_imports_the_locked_packages(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    """As in `uv run`. Their versions decide which kept wheel is used."""
    for version in ("1.0", "2.0"):
        make_wheel(packages, "helper", version)
    tree = make_source_tree(tmp_path / "own", "own", declared=[])
    with (tree / "backend.py").open("a") as file:
        file.write(_READS.replace("../VERSION", "pyproject.toml"))
    pack_sdist(tree, packages, "own", declared=[])
    tool = '[tool.uv]\nno-build-isolation-package = ["Own"]'
    for version in ("1.0", "2.0"):
        script = factory.script("own", f"helper=={version}", tool=tool)
        output = tmp_path / version
        assert factory.build(script, allow=("own",), output=output).built
        assert _read(output).endswith(f" {version}'")
    script = factory.script("own", "helper==2.0", tool=tool)
    assert factory.build(script, allow=("own",), output=tmp_path / "again").kept


@pytest.mark.parametrize(
    ("dependencies", "editable"), [(("own", "helper"), ", editable = true"), (("own",), "")]
)
def test_members_of_a_workspace_that_the_script_names_are_the_same_packages(
    factory: Factory, tmp_path: Path, dependencies: tuple[str, ...], editable: str
) -> None:
    """uv takes members of workspaces as editable."""
    folder = tmp_path / "space"
    for name, requires in (("own", ["helper"]), ("helper", [])):
        tree = make_source_tree(folder / name, name, requires=requires, declared=requires)
        with (tree / "backend.py").open("a") as file:
            file.write("build_editable = build_wheel\n")
    with (folder / "own/pyproject.toml").open("a") as file:
        file.write("[tool.uv.sources]\nhelper = { workspace = true }\n")
    workspace = '[tool.uv.workspace]\nmembers = ["own", "helper"]\n'
    (folder / "pyproject.toml").write_text(workspace)
    sources = [f'{name} = {{ path = "space/{name}"{editable} }}' for name in ("own", "helper")]
    tool = "\n".join(["[tool.uv.sources]", *sources])
    report = factory.build(factory.script(*dependencies, tool=tool))
    assert set(report.built) == {"own-1.0-py3-none-any.whl", "helper-1.0-py3-none-any.whl"}
