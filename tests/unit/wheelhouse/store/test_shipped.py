"""The generated programs: one file each, for old Pythons, of modules that fit together."""

from __future__ import annotations

import ast
import builtins
import sys

import pytest

from offline_bundle.wheelhouse.store.shipped import bundle_files, unpacker

_DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
FILES = {
    "unpacker": unpacker(),
    "run.py": bundle_files(with_cache=False, with_pythons=False)["run.py"],
}


@pytest.mark.parametrize("name", FILES)
def test_generated_file_parses_on_python_3_9(name: str) -> None:
    ast.parse(FILES[name], feature_version=(3, 9))


@pytest.mark.parametrize("name", FILES)
def test_generated_file_has_unique_top_level_names(name: str) -> None:
    """Two modules with one private name would silently share the later definition."""
    defined: list[str] = []
    for node in ast.parse(FILES[name]).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.append(node.name)
        elif isinstance(node, ast.Assign):
            defined += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.append(node.target.id)
    assert sorted({name for name in defined if defined.count(name) > 1}) == []


@pytest.mark.parametrize("name", FILES)
def test_generated_file_imports_the_standard_library_only(name: str) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(FILES[name])):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            imported.add((node.module or "").split(".")[0])
    local = {"runtime"} if name == "run.py" else set()  # the folder beside it
    assert imported - sys.stdlib_module_names <= local


@pytest.mark.parametrize("name", FILES)
def test_generated_file_uses_no_undefined_name(name: str) -> None:
    """A module that was left out of the list would fail only when it is used."""
    tree = ast.parse(FILES[name])
    defined = {node.name for node in ast.walk(tree) if isinstance(node, _DEFINITIONS)}
    defined |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    loaded: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            defined.add(node.name)
    assert loaded - defined - set(dir(builtins)) - {"__file__", "__name__"} == set()
