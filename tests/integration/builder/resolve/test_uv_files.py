from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.resolve.uv_files import configuration_files
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import BundleError
from tests.support.distributions import make_wheel
from tests.support.index_server import IndexServer
from tests.support.uv_cases import Workshop

if TYPE_CHECKING:
    from pathlib import Path

_PROJECT = '[project]\nname = "p"\nversion = "0"\n'
_SETTINGS = {
    "default index": '[[index]]\nurl = "{other}"\ndefault = true',
    "named index": '[[index]]\nname = "own"\nurl = "{other}"',
    "index-url": 'index-url = "{other}"',
    "extra-index-url": 'extra-index-url = ["{other}"]',
    "no-index": "no-index = true",
    "exclude-newer": 'exclude-newer = "2024-06-01T00:00:00Z"',
    "resolution": 'resolution = "lowest"',
    "prerelease": 'prerelease = "allow"',
    "constraint": 'constraint-dependencies = ["thing<2"]',
    "override": 'override-dependencies = ["thing<2"]',
    "exclude": 'exclude-dependencies = ["thing"]',
    "pip resolution": '[pip]\nresolution = "lowest"',
    "pip prerelease": '[pip]\nprerelease = "allow"',
    "pip no-index": "[pip]\nno-index = true",
}


@pytest.mark.parametrize("place", ["uv.toml", "pyproject.toml", "user", "system"])
@pytest.mark.parametrize("setting", _SETTINGS)
def test_a_setting_decides_what_it_decides_for_uv(  # noqa: PLR0917 - fixtures
    packages: Path,
    index: IndexServer,
    tmp_path: Path,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    place: str,
) -> None:
    for version in ("1.0", "2.0", "3.0rc1"):
        wheel = make_wheel(packages, "thing", version)
        year = "2024" if version == "1.0" else "2025"
        index.describe(wheel.name, upload_time=f"{year}-01-01T00:00:00Z")
    make_wheel(tmp_path / "other", "thing", "9.0")
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    project = tmp_path / "project"
    files = {
        "user": own_home / ".config/uv/uv.toml",
        "system": tmp_path / "system/uv/uv.toml",
    }
    path = files.get(place, project / place)
    folder = project / "scripts"
    folder.mkdir(parents=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with IndexServer(tmp_path / "other") as other:
        text = _SETTINGS[setting].format(other=other.url)
        if place == "pyproject.toml":
            text = text.replace("[[index", "[[tool.uv.index").replace("[pip", "[tool.uv.pip")
            text = text if text.startswith("[") else f"[tool.uv]\n{text}"
            text = f"{_PROJECT}{text}"
        path.write_text(text)
        is_named = setting == "named index"
        monkeypatch.setenv("UV_DEFAULT_INDEX" if is_named else "UV_EXTRA_INDEX_URL", index.url)
        workshop = Workshop(folder, index)
        script = workshop.script("thing")
        command = [find_uv(), "lock", "--script", str(script), "--python", sys.executable]
        subprocess.run(command, cwd=folder, check=False, capture_output=True)
        expected = _locked(script.with_name("job.py.lock"))
        try:
            resolution = workshop.resolve(script, default=False)
        except BundleError:
            taken = None
        else:
            taken = {package.name: str(package.version) for package in resolution.lock.packages}
    assert taken == expected


def _locked(lock: Path) -> dict[str, str] | None:
    if not lock.is_file():
        return None
    packages = tomllib.loads(lock.read_text()).get("package", [])
    return {package["name"]: package["version"] for package in packages}


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
