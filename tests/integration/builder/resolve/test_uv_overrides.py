"""Tables of `[tool.uv]` that name a package which the script binds to an explicit index.

Each choice is that of `uv lock --script`. One is stricter: a bound package that only another
package requires comes from its index too. uv takes it from any.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import ResolveError
from tests.support.distributions import make_wheel
from tests.support.index_server import IndexServer
from tests.support.uv_cases import Workshop, workshop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["workshop"]

TABLES = {
    "none": "",
    "override": 'override-dependencies = ["Internal>=1.2"]',
    "override that only the public index satisfies": 'override-dependencies = ["internal>=50"]',
    "override with a marker": (
        "override-dependencies = [\"internal>=1.2; sys_platform == 'linux'\"]"
    ),
    "override with an @ in its marker": (
        "override-dependencies = [\"internal>=1.2; platform_version != '@'\"]"
    ),
    "override with a false marker": (
        "override-dependencies = [\"internal>=1.2; sys_platform == 'win32'\"]"
    ),
    "override with an extra": 'override-dependencies = ["internal[more]>=1.2"]',
    "lower override": 'override-dependencies = ["internal<1.2"]',
    "two overrides": 'override-dependencies = ["internal<1.9", "internal>1"]',
    "another override too": 'override-dependencies = ["leaf<2", "internal>=1.2"]',
    "constraint": 'constraint-dependencies = ["internal<2"]',
    "override and constraint": (
        'override-dependencies = ["internal>=1"]\nconstraint-dependencies = ["internal<1.2"]'
    ),
    "build constraint": 'build-constraint-dependencies = ["internal<1.2"]',
    "exclude": 'exclude-dependencies = ["internal"]',
}
DEPENDENCIES = {
    "direct": ["internal"],
    "direct with an extra": ["internal[more]"],
    "direct and limited": ["internal<1.2"],
    "transitive": ["user"],
    "transitive and limited": ["limited"],
    "two levels down": ["above"],
    "by an extra": ["optional[x]"],
    "by another extra": ["optional"],
    "both": ["internal", "limited"],
    "not at all": ["leaf"],
}
USUAL = [
    (table, dependency)
    for table in ("override", "constraint", "override with a false marker")
    for dependency in ("direct", "transitive and limited")
]


@pytest.fixture
def private(packages: Path, tmp_path: Path) -> Iterator[IndexServer]:
    """The script's own index; the public one has other, also newer, versions of its package."""
    for version in ("1.0.1", "2.0.1", "99.0"):
        make_wheel(packages, "internal", version, requires=["leaf", "extra; extra == 'more'"])
    for name in ("internal", "private-only"):
        for version in ("1.0", "1.5", "2.0"):
            requires = ["leaf", "extra; extra == 'more'"]
            make_wheel(tmp_path / "own", name, version, requires=requires)
    for version in ("1.0", "2.0"):
        make_wheel(packages, "leaf", version)
    make_wheel(packages, "extra")
    make_wheel(packages, "user", requires=["internal"])
    make_wheel(packages, "limited", requires=["internal<1.2"])
    make_wheel(packages, "above", requires=["limited", "user"])
    make_wheel(packages, "optional", requires=["internal<1.9; extra == 'x'"])
    with IndexServer(tmp_path / "own") as own:
        yield own


def tool(table: str, own: IndexServer, name: str = "internal") -> str:
    source = f'[[tool.uv.index]]\nname = "own"\nurl = "{own.url}"\nexplicit = true\n'
    return f'[tool.uv]\n{table}\n{source}[tool.uv.sources]\n{name} = {{ index = "own" }}\n'


def locked_by_uv(workshop: Workshop, *dependencies: str, tool: str) -> dict[str, str] | None:
    """What `uv lock --script` chooses for this machine; None where it fails."""
    script = workshop.script(*dependencies, tool=tool)
    script.with_name("job.py.lock").unlink(missing_ok=True)
    flags = ["--script", str(script), "--python", sys.executable]
    command = [find_uv(), "lock", *flags, "--default-index", workshop.index.url]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return None
    command = [find_uv(), "export", "--frozen", *flags, "--no-hashes", "--no-header"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [Requirement(line) for line in output.splitlines() if not line.strip().startswith("#")]
    here = [line for line in lines if line.marker is None or line.marker.evaluate()]
    return {line.name: str(line.specifier).removeprefix("==") for line in here}


def resolved(workshop: Workshop, *dependencies: str, tool: str) -> dict[str, str] | None:
    try:
        resolution = workshop.resolve(workshop.script(*dependencies, tool=tool))
    except ResolveError:
        return None
    return {package.name: str(package.version) for package in resolution.lock.packages}


@pytest.mark.parametrize(
    ("table", "dependency"),
    [
        cell if cell in USUAL else pytest.param(*cell, marks=pytest.mark.slow)
        for cell in [(table, dependency) for table in TABLES for dependency in DEPENDENCIES]
    ],
)
def test_the_choice_is_that_of_uv_lock(
    workshop: Workshop, private: IndexServer, table: str, dependency: str
) -> None:
    given, text = DEPENDENCIES[dependency], tool(TABLES[table], private)
    expected = locked_by_uv(workshop, *given, tool=text)
    if expected and expected.get("internal", "").endswith((".1", "99.0")):
        expected = locked_by_uv(workshop, *given, "internal", tool=text)
    assert resolved(workshop, *given, tool=text) == expected


@pytest.mark.parametrize("dependency", ["private-only", "needs"])
def test_an_override_of_a_package_that_no_other_index_has(
    workshop: Workshop, private: IndexServer, packages: Path, dependency: str
) -> None:
    make_wheel(packages, "needs", requires=["private-only<1.2"])
    text = tool('override-dependencies = ["private-only>1.2"]', private, "private-only")
    expected = locked_by_uv(workshop, dependency, tool=text)
    assert expected
    assert expected["private-only"] == "2.0"
    assert resolved(workshop, dependency, tool=text) == expected


def test_an_override_of_one_package_stays_one(workshop: Workshop, private: IndexServer) -> None:
    """An override of the requirements of `user` alone, beside one of all others."""
    table = (
        'override-dependencies = ["internal<1.9", '
        '{ package = { name = "above" }, dependencies = ["leaf<2"] }]'
    )
    text = tool(table, private)
    expected = locked_by_uv(workshop, "above", tool=text)
    assert expected
    assert (expected["internal"], expected["leaf"]) == ("1.5", "1.0")
    assert resolved(workshop, "above", tool=text) == expected


def test_the_index_of_an_overridden_package_is_its_own(
    workshop: Workshop, private: IndexServer
) -> None:
    text = tool(TABLES["override"], private)
    resolution = workshop.resolve(workshop.script("limited", tool=text))
    indexes = workshop.resolver(default_index=workshop.index.url).index_of(resolution).urls
    assert indexes["internal"].startswith(private.url.rstrip("/"))
    assert indexes["limited"].startswith(workshop.index.url.rstrip("/"))
