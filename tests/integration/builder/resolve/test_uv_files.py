from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.resolve.settings.uv_files import configuration_files, ignored_projects
from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.distributions import make_wheel
from tests.support.index_server import IndexServer
from tests.support.uv_cases import Workshop

if TYPE_CHECKING:
    from pathlib import Path

_PROJECT = '[project]\nname = "p"\nversion = "0"\n'


def test_no_sources_and_pip_never_lift_the_binding_of_a_script(
    packages: Path, index: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "solver", "99.0")
    make_wheel(tmp_path / "private", "solver", "1.0")
    monkeypatch.setenv("UV_NO_SOURCES", "1")
    monkeypatch.setenv("UV_NO_SOURCES_PACKAGE", "solver")
    with IndexServer(tmp_path / "private") as own:
        tool = f'[[tool.uv.index]]\nname = "own"\nurl = "{own.url}"\nexplicit = true\n'
        tool += '[tool.uv.sources]\nsolver = { index = "own" }\n'
        workshop = Workshop(tmp_path, index)
        for text in (
            "no-sources = true",
            'no-sources-package = ["solver"]',
            "[pip]\nno-sources = true",
        ):
            (tmp_path / "uv.toml").write_text(text)
            (package,) = workshop.resolve(workshop.script("solver", tool=tool)).lock.packages
            assert str(package.version) == "1.0"


def test_the_search_begins_at_the_root_of_the_workspace(tmp_path: Path) -> None:
    member = tmp_path / "member"
    member.mkdir()
    (member / "pyproject.toml").write_text(f"{_PROJECT}[tool.uv]\noffline = true\n")
    root = f'{_PROJECT}[tool.uv.workspace]\nmembers = ["member"]\n'
    (tmp_path / "pyproject.toml").write_text(root)
    assert configuration_files(member)[0][0] == tmp_path / "pyproject.toml"
    (tmp_path / "pyproject.toml").write_text(root.replace('"member"', '"another"'))
    assert configuration_files(member)[0][0] == member / "pyproject.toml"
    (tmp_path / "uv.toml").write_text("offline = true")
    (member / "pyproject.toml").write_text("[tool.black]\n")
    assert configuration_files(member)[0][0] == tmp_path / "uv.toml"


def test_a_byte_order_mark_is_accepted_and_a_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text("\ufeffoffline = true")
    assert configuration_files(tmp_path)[0][1] == {"offline": True}
    folder = tmp_path / "below" / "uv.toml"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="Is a directory"):
        configuration_files(folder.parent)


def test_uv_project_names_the_folder_where_the_search_begins(
    packages: Path, index: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(packages, "alpha", version)
    other = tmp_path / "other"
    other.mkdir()
    (other / "uv.toml").write_text('resolution = "lowest"\n')
    workshop = Workshop(tmp_path, index)
    monkeypatch.chdir(tmp_path)
    for folder, version in (("", "2.0"), ("other", "1.0")):
        monkeypatch.setenv("UV_PROJECT", folder)
        (package,) = workshop.resolve(workshop.script("alpha")).lock.packages
        assert str(package.version) == version


def test_a_project_that_uv_ignores_is_skipped_with_a_note(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    (tmp_path / "a/pyproject.toml").write_text(f"{_PROJECT}[tool.uv]\nfrob = 1\n")
    (tmp_path / "uv.toml").write_text("offline = true")
    assert configuration_files(folder)[0][0] == tmp_path / "uv.toml"
    (note,) = ignored_projects(folder)
    assert note == (
        f"{tmp_path}/a/pyproject.toml: ignored, as uv cannot read its settings: "
        "line 5: unknown field `frob`"
    )


@pytest.mark.parametrize("variable", ["UV_NO_CONFIG", "UV_NO_SYSTEM_CONFIG"])
def test_a_variable_with_a_false_value_switches_nothing_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    path = tmp_path / "system/uv/uv.toml"
    path.parent.mkdir(parents=True)
    path.write_text("offline = true")
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    for value in ("0", "false", ""):
        monkeypatch.setenv(variable, value)
        assert configuration_files(tmp_path)[-1][0] == path
    monkeypatch.setenv(variable, "true")
    assert configuration_files(tmp_path)[-1:] != [(path, {"offline": True})]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("offline = 3", "line 1: invalid type: integer `3`, expected a boolean"),
        ("[[", "line 1: unquoted keys cannot be empty"),
        ("[sources]\na = { path = 'b' }", "`sources` field is not allowed in a `uv.toml` file"),
        ("x = '\xff'", "can't decode"),
    ],
)
def test_a_uv_toml_that_uv_refuses_stops_the_build(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, text: str, fault: str
) -> None:
    paths = {
        "project": tmp_path / "uv.toml",
        "user": own_home / ".config/uv/uv.toml",
        "system": tmp_path / "system/uv/uv.toml",
        "variable": tmp_path / "other.toml",
    }
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    for place, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
        if place == "variable":
            monkeypatch.setenv("UV_CONFIG_FILE", str(path))
        with pytest.raises(InputError, match="uv cannot read it") as caught:
            configuration_files(tmp_path)
        assert str(path) in str(caught.value)
        assert fault in str(caught.value)
        path.unlink()
