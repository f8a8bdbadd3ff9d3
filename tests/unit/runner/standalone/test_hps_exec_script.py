"""The execution script: its parts alone, and run on real bundles against the `ansys.rep` of the
embedded HPS.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bundles import make_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Execute = Callable[..., dict[str, Any]]
from tests.support.hps_exec_script_cases import SCRIPT, module, put, task

__all__ = ["module", "task"]


def test_it_suits_an_old_python() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [one.name for one in node.names]
        )
    }
    assert modules <= sys.stdlib_module_names | {"ansys"}


class TestTheScript:
    METADATA = "# /// script\n# dependencies = []\n# ///\n"

    @pytest.mark.parametrize(
        ("files", "chosen", "expected"),
        [
            ({"script": "", "helper": METADATA}, None, "script.py"),
            ({"eval": "", "helper": ""}, None, "eval.py"),
            ({"a": METADATA, "b": ""}, None, "a.py"),
            ({"a": "", "exec_script": METADATA, "x_unpack": METADATA}, None, "a.py"),
            ({"a": "", "b": ""}, "b", "b.py"),
            ({"script": "", "b": ""}, "b.py", "b.py"),
        ],
    )
    def test_found(
        self,
        module: ModuleType,
        task: Path,
        files: dict[str, str],
        chosen: str | None,
        expected: str,
    ) -> None:
        inputs = put(task, **files)
        for file in inputs:
            if file["name"] == "x_unpack":
                file["path"] = str(Path(file["path"]).rename(task / "x.unpack.py"))
        assert module.find_script(inputs, chosen) == task / expected

    @pytest.mark.parametrize(
        ("files", "chosen", "message"),
        [
            ({}, None, "ambiguous: .*: none"),
            (
                {"a": "", "b": ""},
                None,
                r"a\.py, b\.py; set OFFLINE_BUNDLE_SCRIPT",
            ),
            ({"a": ""}, "c", "neither an input file nor a file here"),
        ],
    )
    def test_not_found(
        self,
        module: ModuleType,
        task: Path,
        files: dict[str, str],
        chosen: str | None,
        message: str,
    ) -> None:
        with pytest.raises((RuntimeError, FileNotFoundError), match=message):
            module.find_script(put(task, **files), chosen)


class TestTheRest:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ('"C:\\Program Files\\uv\\uv.exe"', "C:\\Program Files\\uv\\uv.exe"),
            ("'/opt/my uv/uv'", "/opt/my uv/uv"),
            (" /usr/bin/uv ", "/usr/bin/uv"),
            ('"', '"'),
            ("", ""),
        ],
    )
    def test_quotes(self, module: ModuleType, given: str, expected: str) -> None:
        assert module.unquoted(given) == expected

    def test_environments(self, module: ModuleType) -> None:
        merged = module.merge_environments(
            {"A": "1", "B": "1", "C": "1"}, None, {"B": 2, "C": 2}, {"C": 3, "D": None}
        )
        assert merged == {"A": "1", "B": "2", "C": "3"}

    @pytest.mark.parametrize(
        ("variable", "place"), [("UV_CONFIG_FILE", "uv.toml"), ("UV_CACHE_DIR", "cache")]
    )
    def test_that_uv_is_registered_with(
        self, module: ModuleType, tmp_path: Path, variable: str, place: str
    ) -> None:
        bundle = make_bundle(tmp_path / "bundle")
        assert module.find_bundle([], {variable: f'"{bundle / place}"'}) == bundle
        assert (
            module.find_bundle(
                [], {variable: str(tmp_path / "x" / place), "OFFLINE_BUNDLE": str(bundle)}
            )
            == bundle
        )
        with pytest.raises(RuntimeError, match="no bundle"):
            module.find_bundle([], {variable: str(tmp_path / place)})

    def test_no_bundle(self, module: ModuleType, task: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no bundle at OFFLINE_BUNDLE=/nowhere"):
            module.find_bundle([], {"OFFLINE_BUNDLE": "/nowhere"})
        with pytest.raises(RuntimeError, match="no bundle: set OFFLINE_BUNDLE"):
            module.find_bundle([], {})
        with pytest.raises(RuntimeError, match="cannot be unpacked"):
            module.find_bundle([{"name": "a", "path": str(task / "a.tar")}], {})

    def test_a_cache_that_others_may_write(self, module: ModuleType, tmp_path: Path) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(0o777)
        with pytest.raises(RuntimeError, match="no cache folder"):
            module.cache_directory({"OFFLINE_BUNDLE_CACHE": str(tmp_path / "cache")})

    def test_a_frozen_evaluator(self, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/opt/hps/evaluator")
        assert Path(module.launcher_python()).name.startswith("python")
        monkeypatch.setenv("PATH", "")
        with pytest.raises(RuntimeError, match="no Python"):
            module.launcher_python()

    @pytest.mark.parametrize(
        ("text", "error"), [("{", "is not JSON"), ("[1]", "is not a JSON object")]
    )
    def test_bad_output_parameters(
        self, module: ModuleType, task: Path, text: str, error: str
    ) -> None:
        (task / "output_parameters.json").write_text(text)
        with pytest.raises((RuntimeError, TypeError), match=error):
            module.read_parameters()

    def test_only_its_own_environment_goes(
        self, module: ModuleType, task: Path, tmp_path: Path
    ) -> None:
        own, shared, no_environment = task / ".venv", tmp_path / "shared", task / "data"
        for folder in (own, shared, no_environment):
            (folder / "bin").mkdir(parents=True)
            (folder / "pyvenv.cfg").touch()
        (no_environment / "pyvenv.cfg").unlink()
        for folder in (own, shared, no_environment):
            module.remove_own_environment(str(folder / "bin" / "python"))
        for odd in (None, 3, "", "python", str(task)):
            module.remove_own_environment(odd)
        assert not own.exists()
        assert shared.exists()
        assert no_environment.exists()
