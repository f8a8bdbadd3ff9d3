"""The file with all modules of the launcher."""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.launcher.modules import render_modules, use_modules_file
from offline_bundle.wheelhouse.store.shipped import bundle_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for runtime/modules-1.txt; what is imported from it goes at the end."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "runtime").mkdir()
    return tmp_path


def test_modules_are_imported_with_the_path_of_their_file(folder: Path) -> None:
    sources = {
        "runtime/__init__.py": "",
        "runtime/inner/__init__.py": '"""Inner."""\n',
        "runtime/inner/one.py": "from .two import ANSWER\n",
        "runtime/inner/two.py": "# ANSWER\n\nANSWER = 42\n\n",
    }
    (folder / "runtime/modules-1.txt").write_text(render_modules(sources))
    use_modules_file(str(folder), "modules-1.txt")
    assert str(folder) not in sys.path
    one = import_module("runtime.inner.one")
    assert one.ANSWER == 42
    assert one.__file__ == str(folder / "runtime/inner/one.py")
    assert sys.modules["runtime.inner"].__doc__ == "Inner."
    with pytest.raises(ModuleNotFoundError):
        import_module("runtime.inner.three")


def test_without_the_file_nothing_changes(folder: Path) -> None:
    before = list(sys.meta_path)
    use_modules_file(str(folder), "modules-1.txt")
    assert sys.meta_path == before


@pytest.mark.parametrize("source", ["# ---- x.py ----\n", "x = 1\n# ---- y\n", "no line end"])
def test_source_that_would_be_read_as_another_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="has a line that begins with"):
        render_modules({"runtime/a.py": source})


def test_bundles_have_all_modules_in_the_file() -> None:
    files = bundle_files(with_cache=False, with_pythons=False)
    modules = {path: code.decode() for path, code in files.items() if path.startswith("runtime/")}
    [path] = [path for path in modules if path.endswith(".txt")]
    content = modules.pop(path)
    assert content == render_modules(modules)
    name = f"modules-{hashlib.sha256(content.encode()).hexdigest()[:16]}.txt"
    assert path == f"runtime/{name}"
    assert f'main(folder, "{name}")' in files["run.py"].decode()
