"""The execution script: its parts alone, and run on real bundles against the `ansys.rep` of the embedded HPS."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from offline_bundle.wheelhouse.runtime import manifest as manifest_module
from offline_bundle.wheelhouse.store import shipped
from offline_bundle.wheelhouse.transport.pack import pack
from tests.support.bundles import BundleScript, make_bundle, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    Execute = Callable[..., dict[str, Any]]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "runner" / "standalone" / "hps_exec_script.py"
SHIM = ROOT / "runner" / "hps_server" / "shim"
UV = [{"name": "uv", "version": "", "executable": find_uv_bin(), "environment": {}}]

BODY = """
import json, os, sys
import alpha
print("alpha is here")
found = {"exe": sys.executable, "offline": os.environ.get("UV_OFFLINE"), "mine": os.environ.get("MINE")}
try:
    found["x"] = json.load(open("input_parameters.json"))["x"] + 1
except FileNotFoundError:
    pass
json.dump(found, open("output_parameters.json", "w"))
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SHIM))
    specification = importlib.util.spec_from_file_location("exec_script_under_test", SCRIPT)
    assert specification
    assert specification.loader
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    yield loaded
    for name in set(sys.modules) - before:
        if name.startswith("ansys.rep"):
            del sys.modules[name]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task's directory, with a cache of its own."""
    directory = tmp_path / "task"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return directory


def put(task: Path, **contents: str) -> list[dict[str, Any]]:
    """Write input files `NAME.py`; return them as HPS names them."""
    files = []
    for name, content in contents.items():
        path = task / f"{name}.py"
        path.write_text(content)
        files.append({"name": name, "path": str(path), "type": "text/plain", "monitor": False})
    return files


@pytest.fixture
def run(module: ModuleType) -> Execute:
    """Execute with this context; return the parameter values after it."""

    def _run(**given: object) -> dict[str, Any]:
        from ansys.rep.evaluator.task_manager import Context

        document: dict[str, Any] = {
            name: {}
            for name in (
                "environment",
                "parameter_values",
                "resource_requirements",
                "execution_context",
            )
        }
        document |= {
            "input_files": [],
            "output_files": [],
            "software": [],
            "expected_return_code": 0,
        }
        context = Context(document | given)
        module.OfflineBundleExecution(context).execute()
        return context.parameter_values

    return _run


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


class TestOnABundle:
    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        return make_bundle(tmp_path / "bundle", {"eval": BundleScript(body=BODY)})

    @pytest.fixture
    def script(self, bundle: Path, task: Path) -> list[dict[str, Any]]:
        return put(task, eval=(bundle / "scripts" / "eval.py").read_text())

    def test_it_runs(
        self,
        bundle: Path,
        script: list[dict[str, Any]],
        run: Execute,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        software = [
            {
                "name": "UV",
                "executable": f'"{find_uv_bin()}"',
                "environment": {"OFFLINE_BUNDLE": str(bundle), "MINE": "no"},
            }
        ]
        values = run(
            input_files=script,
            software=software,
            environment={"MINE": "yes"},
            parameter_values={"x": 1, "z": 0},
        )
        assert (values["x"], values["z"], values["offline"], values["mine"]) == (2, 0, "1", "yes")
        assert Path(values["exe"]).exists(), "the shared environment must stay"
        assert "alpha is here" in capfd.readouterr().out

    def test_a_dependency_that_is_not_there(self, bundle: Path, task: Path, run: Execute) -> None:
        inputs = put(task, eval=BundleScript(dependencies=["alpha", "omega"]).text)
        with pytest.raises(RuntimeError, match=r"(?s)error: .*omega"):
            run(input_files=inputs, environment={"OFFLINE_BUNDLE": str(bundle)}, software=UV)

    def test_a_script_that_fails(self, bundle: Path, task: Path, run: Execute) -> None:
        inputs = put(task, eval=BundleScript(body="raise SystemExit(3)").text)
        with pytest.raises(
            RuntimeError, match=r"^eval\.py failed: The command ended with return code 3$"
        ):
            run(input_files=inputs, environment={"OFFLINE_BUNDLE": str(bundle)}, software=UV)

    def test_errors_before_the_launcher_are_in_the_console(
        self, task: Path, run: Execute, capfd: pytest.CaptureFixture[str]
    ) -> None:
        inputs = put(task, eval=BundleScript().text)
        with pytest.raises(FileNotFoundError, match="no bundle at OFFLINE_BUNDLE=/nowhere"):
            run(input_files=inputs, environment={"OFFLINE_BUNDLE": "/nowhere"}, software=UV)
        assert "error: no bundle at OFFLINE_BUNDLE=/nowhere" in capfd.readouterr().out

    def test_errors_of_the_launcher_are_in_the_console_once(
        self, bundle: Path, task: Path, run: Execute, capfd: pytest.CaptureFixture[str]
    ) -> None:
        inputs = put(task, eval=BundleScript(dependencies=["alpha", "omega"]).text)
        with pytest.raises(RuntimeError, match="omega"):
            run(input_files=inputs, environment={"OFFLINE_BUNDLE": str(bundle)}, software=UV)
        assert capfd.readouterr().out.count("error: ") == 1

    def test_missing_outputs_are_in_the_console(
        self, bundle: Path, task: Path, run: Execute, capfd: pytest.CaptureFixture[str]
    ) -> None:
        inputs = put(task, eval=BundleScript(body="open('a.csv', 'w').close()").text)
        outputs = [{"name": path, "path": path} for path in ("a.csv", "*.csv", "b.png")]
        run(
            input_files=inputs,
            output_files=outputs,
            environment={"OFFLINE_BUNDLE": str(bundle)},
            software=UV,
        )
        printed = capfd.readouterr().out
        assert "error: output is missing: b.png\n" in printed
        assert printed.count("output is missing") == 1

    @pytest.fixture
    def archive(self, bundle: Path, task: Path) -> Path:
        """The bundle as one file among the task's inputs."""
        manifest = read_manifest(bundle)
        manifest["files"]["SHA256SUMS"] = {}
        document = json.dumps(manifest).encode()
        (bundle / "bundle.json").write_bytes(document)
        read = manifest_module.read_manifest(bundle)
        sums = manifest_module.render_checksums(read, document)
        (bundle / "SHA256SUMS").write_bytes(sums)
        pack(bundle, task / "offline-bundle.tar")
        return task / "offline-bundle.tar"

    def test_a_bundle_that_travels(
        self, archive: Path, script: list[dict[str, Any]], task: Path, tmp_path: Path, run: Execute
    ) -> None:
        unpacker = task / "offline-bundle.tar.unpack.py"
        unpacker.write_bytes(shipped.unpacker())
        inputs = [
            *script,
            *({"name": path.name, "path": str(path)} for path in (archive, unpacker)),
        ]
        values = run(input_files=inputs, parameter_values={"x": 4}, software=UV)
        assert values["x"] == 5
        unpacked = [path for path in (tmp_path / "cache" / "bundles").iterdir() if path.is_dir()]
        assert len(unpacked) == 1
        assert json.loads((unpacked[0] / "bundle.json").read_text())["format"] == 1
        (task / "input_parameters.json").unlink()
        unpacker.write_text("raise SystemExit('not again')")
        environment = {"OFFLINE_BUNDLE": "/another"}
        values = run(
            input_files=inputs, environment=environment, parameter_values={"x": 1}, software=UV
        )
        assert values["x"] == 2

    def test_a_damaged_archive(
        self, archive: Path, script: list[dict[str, Any]], task: Path, tmp_path: Path, run: Execute
    ) -> None:
        unpacker = task / "unpack.py"
        content = bytearray(archive.read_bytes())
        content[-3000] ^= 1
        archive.write_bytes(content)
        unpacker.write_bytes(shipped.unpacker())
        inputs = [
            *script,
            *({"name": path.name, "path": str(path)} for path in (archive, unpacker)),
        ]
        with pytest.raises(RuntimeError, match="error: "):
            run(input_files=inputs)
        assert not list((tmp_path / "cache" / "bundles").glob("*/bundle.json"))
