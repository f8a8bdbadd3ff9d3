"""The execution script: its parts alone, and run on real bundles against the `ansys.rep` of the
embedded HPS.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from offline_bundle.runner.engines.hps.submit import RULES_PROGRAM
from offline_bundle.runner.job_files.names import JOB_RULES
from offline_bundle.wheelhouse.store import shipped
from offline_bundle.wheelhouse.transport.pack import pack
from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    Execute = Callable[..., dict[str, Any]]
from tests.support.hps_exec_script_cases import list_checksums, module, put, run, task

__all__ = ["module", "run", "task"]


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


def submitted_with(run: Execute, task: Path, bundle: Path, script: str) -> Execute:
    """Return a function that runs *script* as `submit` has it run, with these rules."""
    inputs = put(task, eval=script, offline_bundle_job=RULES_PROGRAM.read_text())
    inputs[1]["name"] = JOB_RULES
    wanted = {"patterns": ["*.png"], "limit": 100, "required": False}

    def submitted(**rules: object) -> dict[str, Any]:
        rules = {"arguments": [], "run_with": [], "outputs": wanted, "inputs": [], **rules}
        environment = {"OFFLINE_BUNDLE": str(bundle), "OFFLINE_BUNDLE_RULES": json.dumps(rules)}
        return run(
            input_files=inputs,
            output_files=[{"name": "*.png", "path": "*.png"}],
            parameter_values={"offline_bundle_job": 1},
            environment=environment,
            software=UV,
        )

    return submitted


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

    def test_a_fault_of_the_node_is_told_from_one_of_the_script(
        self, bundle: Path, task: Path, run: Execute
    ) -> None:
        inputs = put(task, eval=BundleScript(body="raise SystemExit(3)").text)
        environment = {"OFFLINE_BUNDLE": str(bundle), "OFFLINE_BUNDLE_CACHE": "/proc/none"}
        with pytest.raises(RuntimeError, match=r"^the node failed, not the script\nerror: .*/proc"):
            run(input_files=inputs, environment=environment, software=UV)
        inputs = put(task, eval="# /// script\n# dependencies = 3\n# ///\n")
        with pytest.raises(RuntimeError, match=r"^error: "):
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

    def test_the_rules_of_submit_print_missing_outputs_themselves(
        self, bundle: Path, task: Path, run: Execute, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Outputs that are not required are no errors."""
        submitted = submitted_with(run, task, bundle, BundleScript().text)
        submitted()
        assert "output is missing" not in capfd.readouterr().out
        with pytest.raises(Exception, match=r"eval\.py failed"):
            submitted(run_with=["no-such-command", "-n", "2"])
        said = capfd.readouterr().out
        assert "the job could not start: no-such-command: No such file or directory" in said
        assert "Traceback" not in said

    def test_links_to_folders_are_not_collected_at_any_depth(
        self, bundle: Path, task: Path, run: Execute, capfd: pytest.CaptureFixture[str]
    ) -> None:
        body = "import os\nfor _ in range(1100):\n    os.mkdir('d')\n    os.chdir('d')\n"
        submitted = submitted_with(
            run, task, bundle, BundleScript(body=f"{body}os.symlink('..', 'up')").text
        )
        try:
            submitted()
            deepest = task.joinpath(*["d"] * 1100)
            assert deepest.is_dir()
            assert not os.path.lexists(deepest / "up")
            assert "Traceback" not in capfd.readouterr().out
        finally:  # pytest removes no folders that deep
            subprocess.run(["rm", "-rf", task / "d"], check=True)

    @pytest.fixture
    def archive(self, bundle: Path, task: Path) -> Path:
        """The bundle as one file among the task's inputs."""
        list_checksums(bundle)
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
