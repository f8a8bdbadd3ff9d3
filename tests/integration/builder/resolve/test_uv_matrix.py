"""Each setting of uv in each place decides what it decides for the pinned uv.

The cells are generated: setting x place x the variable that names the index. All are compared with
`uv lock --script`; the slow ones also with `uv run`.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.inputs.scripts import read_script
from offline_bundle.builder.resolve.uv_checks import check_settings_readable
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import BundleError
from tests.support.command_line import HERE
from tests.support.distributions import make_buildable_sdist, make_wheel
from tests.support.index_server import IndexServer
from tests.support.settings import in_project, write_settings
from tests.support.uv_cases import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CUT_OFF = "2024-06-01T00:00:00Z"
_INDEXES = {
    "named index": '[[index]]\nname = "own"\nurl = "{other}"',
    "unnamed index": '[[index]]\nurl = "{other}"',
    "explicit index": '[[index]]\nname = "own"\nurl = "{other}"\nexplicit = true',
    "default index": '[[index]]\nurl = "{other}"\ndefault = true',
    "index-url": 'index-url = "{other}"',
    "extra-index-url": 'extra-index-url = ["{other}"]',
    "find-links": 'find-links = ["{wheels}"]',
    "no-index": 'no-index = true\nfind-links = ["{wheels}"]',
    "index-strategy": 'index-strategy = "unsafe-best-match"\nextra-index-url = ["{other}"]',
}
_SETTINGS = {
    **_INDEXES,
    "sources": (
        '[[index]]\nname = "own"\nurl = "{other}"\nexplicit = true\n'
        '[sources]\nthing = {{ index = "own" }}'
    ),
    "source of an extra": (
        '[[index]]\nname = "own"\nurl = "{other}"\nexplicit = true\n'
        '[sources]\nthing = {{ index = "own", extra = "plot" }}'
    ),
    "source of a group": (
        '[[index]]\nname = "own"\nurl = "{other}"\nexplicit = true\n'
        '[sources]\nthing = {{ index = "own", group = "dev" }}'
    ),
    "spaces around a URL": '[[index]]\nurl = " {other} "',
    "no-sources": "no-sources = true",
    "exclude-newer": f'exclude-newer = "{_CUT_OFF}"',
    "exclude-newer-package": f'exclude-newer-package = {{{{ thing = "{_CUT_OFF}" }}}}',
    "lowest": 'resolution = "lowest"',
    "lowest-direct": 'resolution = "lowest-direct"',
    "prerelease": 'prerelease = "allow"',
    "constraint": 'constraint-dependencies = ["thing<2"]',
    "override": 'override-dependencies = ["thing<2"]',
    "exclude": 'exclude-dependencies = ["thing"]',
    "no-build": "no-build = true",
    "no-build-package": 'no-build-package = ["source"]',
    "no-binary": "no-binary = true",
    "no-binary-package": 'no-binary-package = ["thing"]',
    "dependency-metadata": 'dependency-metadata = [{{name = "app", requires-dist = ["thing<2"]}}]',
    "offline": "offline = true",
    "required-version": 'required-version = "==0.1.0"',
    "unknown key": "frob = 1",
    "unreadable value": 'resolution = "frob"',
    "pip resolution": '[pip]\nresolution = "lowest"',
    "pip prerelease": '[pip]\nprerelease = "allow"',
    "pip exclude-newer": f'[pip]\nexclude-newer = "{_CUT_OFF}"',
    "pip no-index": "[pip]\nno-index = true",
    "pip index-url": '[pip]\nindex-url = "{other}"',
    "pip no-binary": '[pip]\nno-binary = ["thing"]',
    "pip no-deps": "[pip]\nno-deps = true",
}
_VARIABLES = {
    "named index": {"UV_INDEX": "own={other}"},
    "unnamed index": {"UV_INDEX": "{other}"},
    "default index": {"UV_DEFAULT_INDEX": "{other}"},
    "index-url": {"UV_INDEX_URL": "{other}"},
    "extra-index-url": {"UV_EXTRA_INDEX_URL": "{other}"},
    "find-links": {"UV_FIND_LINKS": "{wheels}"},
    "index-strategy": {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_EXTRA_INDEX_URL": "{other}",
    },
    "spaces around a URL": {"UV_DEFAULT_INDEX": " {other} "},
    "no-sources": {"UV_NO_SOURCES": "1"},
    "exclude-newer": {"UV_EXCLUDE_NEWER": _CUT_OFF},
    "lowest": {"UV_RESOLUTION": "lowest"},
    "lowest-direct": {"UV_RESOLUTION": "lowest-direct"},
    "prerelease": {"UV_PRERELEASE": "allow"},
    "constraint": {"UV_CONSTRAINT": "{limits}"},
    "override": {"UV_OVERRIDE": "{limits}"},
    "exclude": {"UV_EXCLUDE": "{names}"},
    "no-build": {"UV_NO_BUILD": "1"},
    "no-build-package": {"UV_NO_BUILD_PACKAGE": "source"},
    "no-binary": {"UV_NO_BINARY": "1"},
    "no-binary-package": {"UV_NO_BINARY_PACKAGE": "thing"},
    "offline": {"UV_OFFLINE": "1"},
    "unreadable value": {"UV_RESOLUTION": "frob"},
}
_FILES = ("script", "uv.toml", "pyproject.toml", "user", "system", "UV_CONFIG_FILE")
_BASES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")


def _cells() -> Iterator[tuple[str, str, str]]:
    """Yield setting, place, and the variable with the index that has the packages."""
    for setting in _SETTINGS:
        places = (*_FILES, "variable") if setting in _VARIABLES else _FILES
        yield from itertools.product([setting], places, _BASES[:1])
    yield from itertools.product(_INDEXES, (*_FILES[:4], "variable"), _BASES[1:])


def _parameters() -> list[object]:
    """Return the cells; a fifth of them, with each setting, is not slow."""
    cells = [cell for cell in _cells() if cell[1] != "variable" or cell[0] in _VARIABLES]
    assert len(cells) > 300
    return [
        pytest.param(*cell, id="-".join(cell), marks=[pytest.mark.slow] if number % 5 else [])
        for number, cell in enumerate(cells)
    ]


@dataclass(frozen=True)
class Site:
    """Two indexes, and the values to fill in."""

    index: IndexServer
    values: Mapping[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    packages, others = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("others")
    with IndexServer(packages) as index, IndexServer(others) as other:
        for version in ("1.0", "2.0", "3.0rc1"):
            wheel = make_wheel(packages, "thing", version)
            year = "2024" if version == "1.0" else "2025"
            index.describe(wheel.name, upload_time=f"{year}-01-01T00:00:00Z")
        for version in ("1.0", "2.0"):
            make_wheel(packages, "app", version, requires=["thing"])
            make_buildable_sdist(packages, "source", version, declared=[])
        make_buildable_sdist(packages, "thing", "2.0", declared=[])
        make_wheel(packages, "source", "1.0")
        make_wheel(others, "thing", "9.0")
        (others / "limits.txt").write_text("thing<2")
        (others / "names.txt").write_text("thing")
        values = {
            "other": other.url,
            "wheels": str(others),
            "limits": str(others / "limits.txt"),
            "names": str(others / "names.txt"),
        }
        yield Site(index, values)


@pytest.mark.parametrize(("setting", "place", "base"), _parameters())
def test_a_setting_decides_what_it_decides_for_uv(  # noqa: PLR0917 - fixtures
    site: Site,
    tmp_path: Path,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    setting: str,
    place: str,
    base: str,
) -> None:
    folder = tmp_path / "project/scripts"
    folder.mkdir(parents=True)
    monkeypatch.setenv(base, site.index.url)
    tool = ""
    if place == "variable":
        for name, value in _VARIABLES[setting].items():
            filled = value.format(**site.values)
            is_list = name == base and name in {"UV_INDEX", "UV_EXTRA_INDEX_URL"}
            monkeypatch.setenv(name, f"{filled} {site.index.url}" if is_list else filled)
    else:
        text = _SETTINGS[setting].format(**site.values)
        tool = in_project(text) if place == "script" else ""
        write_settings(text, place, tmp_path, own_home, monkeypatch)
    workshop = Workshop(folder, site.index)
    script = workshop.script("app", "thing", "source", tool=tool)
    is_slow = request.node.get_closest_marker("slow") is not None
    taken, locked = _taken(workshop, script), _locked(script)
    assert taken == locked
    if is_slow:
        assert taken == _run(script)


def _taken(workshop: Workshop, script: Path) -> dict[str, str] | None:
    """Return the versions that a build takes; None where it fails."""
    interpreters = {HERE: sys.executable}
    try:
        check_settings_readable([read_script(script)], find_uv())
        resolution = workshop.resolve(
            script, default=False, allow=(":all:",), interpreters=interpreters
        )
    except BundleError:
        return None
    return {package.name: str(package.version) for package in resolution.lock.packages}


def _locked(script: Path) -> dict[str, str] | None:
    command = [find_uv(), "lock", "--script", str(script), "--python", sys.executable]
    subprocess.run(command, cwd=script.parent, check=False, capture_output=True)
    lock = script.with_name("job.py.lock")
    if not lock.is_file():
        return None
    packages = tomllib.loads(lock.read_text()).get("package", [])
    lock.unlink()
    return {package["name"]: package["version"] for package in packages}


def _run(script: Path) -> dict[str, str] | None:
    """Return the versions that the script itself finds when uv runs it."""
    code = "import importlib.metadata as m\nfor d in m.distributions(): print(d.name, d.version)\n"
    script.write_text(script.read_text() + code)
    command = [find_uv(), "run", "--python", sys.executable, str(script)]
    process = subprocess.run(
        command, cwd=script.parent, check=False, capture_output=True, text=True
    )
    if process.returncode:
        return None
    return dict(line.split() for line in process.stdout.splitlines())
