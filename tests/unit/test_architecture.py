"""Rules that import-linter cannot hold: see the contracts in pyproject.toml for the layers."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.architecture_cases import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RUNTIME = sorted((ROOT / "wheelhouse" / "runtime").rglob("*.py"))


STANDALONE = sorted((ROOT / "runner" / "standalone").glob("[!_]*.py"))


LONGEST_MODULE = 400


FLOORS = {"probe.py": (3, 6), "hps_exec_script.py": (3, 8), "job_rules.py": (3, 8)}


FOREIGN = {"hps_exec_script.py": {"ansys"}, "uv_shim.py": {"runtime"}}


"""Provided by the evaluator of HPS, and by the bundle in which the shim is."""


def absolute_imports(path: Path) -> set[str]:
    """Return the top-level names of all absolute imports, also in functions and for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def product_modules() -> list[Path]:
    rooms = [ROOT / room for room in ("builder", "runner", "wheelhouse")]
    paths = [path for room in rooms for path in room.rglob("*.py")]
    return sorted([*paths, *(ROOT / "offline_bundle").glob("*.py")])


@pytest.mark.parametrize("path", [*RUNTIME, *STANDALONE], ids=lambda path: path.name)
def test_shipped_module_imports_the_standard_library_only(path: Path) -> None:
    """Contracts name forbidden packages; here, everything that is not allowed is forbidden."""
    foreign = absolute_imports(path) - sys.stdlib_module_names
    assert foreign <= FOREIGN.get(path.name, set()) | {"msvcrt"}


@pytest.mark.parametrize("path", [*RUNTIME, *STANDALONE], ids=lambda path: path.name)
def test_shipped_module_has_the_syntax_of_the_oldest_python(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=FLOORS.get(path.name, (3, 9)))


def test_shipped_modules_are_found() -> None:
    assert len(RUNTIME) > 30
    assert {path.name for path in STANDALONE} >= set(FLOORS)


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in product_modules()
    }
    assert {name: count for name, count in lengths.items() if count > LONGEST_MODULE} == {}
