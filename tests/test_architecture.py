"""The house's floors, held to the code: see docs/explanation/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "wheelhouse": {"builder", "runner", "offline_bundle"},
    "builder": {"runner", "offline_bundle"},
    "runner": {"builder", "offline_bundle"},
}


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a module imports, also inside functions and for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_floor_imports_nothing_from_above_or_beside(package: str) -> None:
    faults = {
        path.name: found
        for path in (ROOT / package).rglob("*.py")
        if (found := imported(path) & FORBIDDEN[package])
    }
    assert faults == {}


@pytest.mark.parametrize(
    "name",
    [
        "run.py",
        "prepare.py",
        "policy.py",
        "interpreter.py",
        "unpack.py",
        "uv_cache.py",
        "uv_stand_in.py",
    ],
)
def test_the_launcher_needs_the_standard_library_only(name: str) -> None:
    import sys

    foreign = imported(ROOT / "wheelhouse" / name) - sys.stdlib_module_names
    assert foreign <= {"run", "prepare", "policy", "interpreter", "wheelhouse", "msvcrt"}


def test_no_file_names_a_registry_host_or_a_folder_of_a_machine() -> None:
    """uv and pip know their defaults; what is committed here must work behind any index, and on any machine."""
    words = ["pypi" + ".org", "python" + "hosted", "/ro" + "ot/", "/wo" + "rk/"]
    suffixes = {".py", ".md", ".toml", ".txt", ".in", ".yaml", ".yml", ".svg", ".json", ""}
    folders = [
        "builder",
        "runner",
        "wheelhouse",
        "tests",
        "examples",
        "docs",
        "benchmarks",
        ".ci",
        "ci",
        "templates",
        ".github",
    ]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(
        ROOT.glob("*")
    )
    faults = []
    for path in files:
        if path.name.startswith(".coverage"):
            continue
        if (
            path.is_file()
            and path.suffix in suffixes
            and ".peers" not in path.parts
            and ".venv" not in path.parts
        ):
            text = path.read_text(encoding="utf-8", errors="replace")
            faults += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert faults == []
