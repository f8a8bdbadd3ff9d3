"""Settings of builds in each place decide what they decide for `uv run` of the pinned uv."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from itertools import product
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from tests.support.distributions import make_source_tree, make_wheel, pack_sdist
from tests.support.pipeline_cases import Factory, factory
from tests.support.settings import in_project, write_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.index_server import IndexServer

__all__ = ["factory"]

# Appended to the build backend of the tests: it writes what it gets into the module.
_PROBE = """
_build_wheel = build_wheel
def build_wheel(folder, config_settings=None, metadata_directory=None):
    import helper
    try:
        import extra
    except ImportError:
        extra = None
    found = [config_settings or {}, os.environ.get("MARK"), helper.VERSION, bool(extra)]
    with open("probe.py", "w") as file:
        file.write("print(" + ascii(found) + ")")
    return _build_wheel(folder)
"""
_CUT_OFF = "2024-06-01T00:00:00Z"
_SETTINGS = {
    "config-settings": 'config-settings = { flavour = "mint" }',
    "config-settings-package": 'config-settings-package = { probe = { flavour = "lime" } }',
    "both": (
        'config-settings = { flavour = "mint", shape = "cube" }\n'
        'config-settings-package = { probe = { flavour = "lime" } }'
    ),
    "another package": 'config-settings-package = { other = { flavour = "lime" } }',
    "extra-build-dependencies": 'extra-build-dependencies = { probe = ["extra"] }',
    "extra-build-variables": 'extra-build-variables = { probe = { MARK = "set" } }',
    "build constraint": 'build-constraint-dependencies = ["helper<2"]',
    "exclude-newer": f'exclude-newer = "{_CUT_OFF}"',
    "resolution": 'resolution = "lowest"',
}
_VARIABLES = {
    "build constraint": ("UV_BUILD_CONSTRAINT", "limits.txt"),
    "exclude-newer": ("UV_EXCLUDE_NEWER", _CUT_OFF),
    "resolution": ("UV_RESOLUTION", "lowest"),
}
_PLACES = ("script", "uv.toml", "pyproject.toml", "user", "system", "UV_CONFIG_FILE", "variable")


def _cells() -> list[object]:
    cells = [
        (setting, place)
        for setting, place in product(_SETTINGS, _PLACES)
        if place != "variable" or setting in _VARIABLES
    ]
    return [
        pytest.param(*cell, id="-".join(cell), marks=[pytest.mark.slow] if number % 6 else [])
        for number, cell in enumerate(cells)
    ]


@pytest.mark.parametrize(("setting", "place"), _cells())
def test_a_setting_of_builds_decides_what_it_decides_for_uv(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    packages: Path,
    index: IndexServer,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    place: str,
) -> None:
    for version in ("1.0", "2.0"):
        wheel = make_wheel(packages, "helper", version)
        index.describe(wheel.name, upload_time=f"202{3 + int(version[0])}-01-01T00:00:00Z")
    make_wheel(packages, "extra")
    tree = make_source_tree(tmp_path / "probe", "probe", declared=[])
    with (tree / "backend.py").open("a") as file:
        file.write(_PROBE)
    project = tree / "pyproject.toml"
    project.write_text(project.read_text().replace("requires = []", 'requires = ["helper"]'))
    pack_sdist(tree, packages, "probe", declared=[])
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    (tmp_path / "project").mkdir()
    text = _SETTINGS[setting]
    if place == "variable":
        (tmp_path / "project/limits.txt").write_text("helper<2")
        monkeypatch.setenv(*_VARIABLES[setting])
    else:
        write_settings(text, place, tmp_path, own_home, monkeypatch)
    monkeypatch.chdir(tmp_path / "project")
    factory = Factory(tmp_path / "project", index)
    script = factory.script(
        "probe", tool=in_project(text) if place == "script" else "", body="import probe"
    )
    command = [find_uv(), "run", "--quiet", "--python", sys.executable, script.name]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    factory.build(script, allow=("probe",))
    with zipfile.ZipFile(factory.bundle / "wheels/probe-1.0-py3-none-any.whl") as wheel_file:
        content = wheel_file.read("probe.py").decode()
    expected = ast.literal_eval(run.stdout)
    assert ast.literal_eval(content.removeprefix("print(").removesuffix(")")) == expected
