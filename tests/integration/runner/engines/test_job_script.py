"""The batch script, run by the real sh as Slurm would, with a launcher that notes how it was
called.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.runner.batch.job_script import (
    ATTEMPTS,
    LOGS,
    SITE_LAUNCHER_NAME,
    VALUES_NAME,
    render_script,
    render_values,
)
from offline_bundle.runner.engines.slurm.scheduler import Slurm
from offline_bundle.runner.job_files.inputs import INPUTS
from offline_bundle.runner.job_files.outputs import plan_outputs
from offline_bundle.runner.results.folder import PRIVATE_NAME, read_outcome
from offline_bundle.runner.standalone.job_rules import Outputs
from offline_bundle.wheelhouse.store import shipped
from tests.support.machine import bubblewrap
from tests.support.site_policy import FORGED, make_site

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = 'it\'s $(touch broken) `touch broken` "quoted" 100%'
LAUNCHER = """
import json, os, pathlib, sys
if "--prepare" in sys.argv:
    sys.exit(int(os.environ.get("PREPARED", "0")))
pathlib.Path("seen.json").write_text(json.dumps([sys.argv[1:], dict(os.environ)]))
pathlib.Path("leak.txt").write_text("x")
pathlib.Path(sys.argv[-1][:-3] + "!").write_text("x")
exec(os.environ.get("CODE", ""))
"""


class Node:
    """What a batch script sees of a node."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / NAME
        self.bundle = folder / f"bundle {NAME}"
        for name in (ATTEMPTS, INPUTS, LOGS):
            (self.results / PRIVATE_NAME / name).mkdir(parents=True)
        self.bundle.mkdir()
        (self.bundle / "run.py").write_text(LAUNCHER)
        for suffix, text in ((".dat", "data"), (".py", "")):
            (self.results / PRIVATE_NAME / INPUTS / f"{NAME}{suffix}").write_text(text)

    def start(
        self,
        task: int,
        offset: int = 0,
        variables: dict[str, str] | None = None,
        command: Sequence[str] = (),
        outputs: Outputs | None = None,
        **given: object,
    ) -> subprocess.Popen[str]:
        text = render_script(
            variables=Slurm.variables,
            folder=self.results,
            bundle=str(self.bundle),
            script=f"{NAME}.py",
            inputs=[f"{NAME}.py", f"{NAME}.dat"],
            outputs=outputs or plan_outputs([]),
            **{"jobs": 12, **given},  # type: ignore[arg-type]
        )
        script = self.results / PRIVATE_NAME / "job.sh"
        script.write_text(text)
        slurm = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "41", "SLURM_JOB_ID": "42"}
        dropped = ("OFFLINE_BUNDLE", "TMPDIR", "SLURM")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return subprocess.Popen(
            [*command, "sh", str(script), str(offset)],
            env={**kept, **slurm, **(variables or {})},
            text=True,
        )

    def run(self, task: int, offset: int = 0, **given: Any) -> int:  # noqa: ANN401 - as start
        return self.start(task, offset, **given).wait(30)

    def attempts(self) -> list[str]:
        return sorted(path.name for path in (self.results / PRIVATE_NAME / ATTEMPTS).iterdir())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def seen(folder: Path) -> tuple[list[str], dict[str, str]]:
    arguments, variables = json.loads((folder / "seen.json").read_text())
    return arguments, variables


def test_every_name_is_quoted(node: Node, tmp_path: Path) -> None:
    assert node.run(3, 4, environment={"MODE": NAME}, outputs=Outputs((NAME + "?",))) == 0
    folder = node.results / "job-0007"
    arguments, variables = seen(folder)
    attempt = node.results / PRIVATE_NAME / ATTEMPTS / "job-0007.0"
    assert arguments == ["--bundle", str(node.bundle), str(attempt / f"{NAME}.py")]
    assert (folder / f"{NAME}.py").resolve().parent.name == INPUTS
    assert variables["MODE"] == NAME
    assert (variables["OFFLINE_BUNDLE_JOB"], variables["OFFLINE_BUNDLE_JOBS"]) == ("7", "12")
    assert (folder / f"{NAME}.dat").read_text() == "data"
    assert not list(tmp_path.rglob("broken"))
    assert node.attempts() == []
    ended = read_outcome(folder)
    assert ended
    assert ended.state == "done"


def test_a_job_reads_its_own_values(node: Node) -> None:
    rows = [{"name": "a" * number, "ü": number} for number in range(12)]
    records, size = render_values(rows)
    (node.results / PRIVATE_NAME / VALUES_NAME).write_bytes(records)
    assert node.run(1, 9, record_size=size) == 0
    assert json.loads((node.results / "job-0010" / "input_parameters.json").read_text()) == rows[9]
    assert render_values([{}, {}]) == (b"", 0)


def test_a_script_that_fails_or_leaves_no_output(node: Node) -> None:
    assert (
        node.run(1, variables={"CODE": "raise SystemExit(5)"}, outputs=plan_outputs(["plot.png"]))
        == 5
    )
    assert json.loads((node.results / "job-0001/.job.json").read_text())["code"] == 5
    assert node.run(2, outputs=plan_outputs(["plot.png", "seen.json"])) == 1
    assert (
        "error: output is missing: plot.png"
        in (node.results / "job-0002/console_output.txt").read_text()
    )
    assert [read_outcome(node.results / f"job-000{number}").state for number in (1, 2)] == [
        "failed",
        "failed",
    ]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("code", "state"), [(0, "failed"), (1, "node failed"), (2, "failed"), (7, "node failed")]
)
def test_a_node_that_cannot_prepare_the_environment_is_told_from_the_script(
    node: Node, code: int, state: str
) -> None:
    assert node.run(1, variables={"CODE": "sys.exit(1)", "PREPARED": str(code)}) == 1
    ended = read_outcome(node.results / "job-0001")
    assert ended
    assert ended.state == state


def test_a_bundle_that_is_not_there(node: Node) -> None:
    (node.bundle / "run.py").unlink()
    assert node.run(1, variables={"SLURMD_NODENAME": "n7"}) == 7
    said = (node.results / "job-0001/console_output.txt").read_text()
    assert said.startswith(f"error: the bundle {node.bundle} does not exist on n7\nhint: ")


@pytest.fixture
def policy(node: Node, tmp_path: Path) -> Path:
    program = node.results / PRIVATE_NAME / SITE_LAUNCHER_NAME
    program.write_bytes(shipped.site_launcher())
    (node.bundle / "run.py").write_text(f"print({FORGED!r})\n")
    policy = make_site(tmp_path / "site")
    (tmp_path / "site" / "run.py").write_text("import sys; print('the site', sys.argv[1:])\n")
    return policy


def console(node: Node) -> str:
    return (node.results / "job-0001/console_output.txt").read_text()


def test_a_policy_starts_the_launcher_of_the_site(node: Node, policy: Path) -> None:
    variables = {"OFFLINE_BUNDLE_POLICY": str(policy)}
    assert node.run(1, variables=variables) == 0
    script = node.results / PRIVATE_NAME / ATTEMPTS / "job-0001.0" / f"{NAME}.py"
    assert console(node) == f"the site {['--bundle', str(node.bundle), str(script)]}\n"


def test_the_policy_of_the_node_starts_the_launcher_of_the_site(node: Node, policy: Path) -> None:
    node_of_site = [bubblewrap(), "--dev-bind", "/", "/", "--tmpfs", "/etc"]
    node_of_site += ["--ro-bind", str(policy.parent), "/etc/offline-bundle"]
    assert node.run(1, command=node_of_site) == 0
    assert console(node).startswith("the site ")


def test_a_policy_in_a_closed_folder_starts_nothing_of_the_bundle(node: Node, policy: Path) -> None:
    node_of_site = [bubblewrap(), "--dev-bind", "/", "/", "--tmpfs", "/etc", "--cap-drop", "ALL"]
    node_of_site += ["--ro-bind", str(policy.parent), "/etc/offline-bundle"]
    policy.parent.chmod(0)
    assert node.run(1, command=node_of_site) == 6
    policy.parent.chmod(0o755)
    assert "cannot be read" in console(node)
    assert FORGED not in console(node)


@pytest.mark.parametrize("document", ["{}", '{"allowed-signers": "allowed_signers"}', "[" * 99_999])
def test_a_policy_without_a_launcher_starts_nothing(
    node: Node, policy: Path, document: str
) -> None:
    policy.write_text(document)
    assert node.run(1, variables={"OFFLINE_BUNDLE_POLICY": str(policy)}) == 6
    assert console(node).startswith("error: ")
    assert "Traceback" not in console(node)
    assert FORGED not in console(node)


def test_a_launcher_that_others_can_change_is_not_started(node: Node, policy: Path) -> None:
    (policy.parent / "runtime" / "errors.py").chmod(0o666)
    assert node.run(1, variables={"OFFLINE_BUNDLE_POLICY": str(policy)}) == 6
    assert "errors.py can be written by others" in console(node)


def test_a_policy_without_any_python_starts_nothing(
    node: Node, policy: Path, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("cp", "date", "id", "mkdir", "mv", "rm", "sh"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    (node.bundle / "run.sh").write_text(f"echo {FORGED!r}\n")
    variables = {"PATH": str(tmp_path / "bin"), "OFFLINE_BUNDLE_POLICY": str(policy)}
    assert node.run(1, variables=variables) == 6
    assert console(node) == "error: signatures are required; PATH has no Python\n"


def test_a_node_without_any_python(node: Node, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("cp", "date", "id", "mkdir", "mv", "rm", "sh"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    (node.bundle / "run.sh").write_text('echo "run.sh $*"\n')
    assert node.run(1, variables={"PATH": str(tmp_path / "bin")}) == 0
    said = (node.results / "job-0001/console_output.txt").read_text()
    assert said.startswith(f"run.sh --bundle {node.bundle} ")


@pytest.mark.parametrize("is_script_first", [False, True])
def test_an_attempt_that_slurm_ends_leaves_no_result(node: Node, *, is_script_first: bool) -> None:
    """A signal for all processes of a job reaches one after the other."""
    code = "import time; print('up', flush=True); time.sleep(60)"
    if is_script_first:
        code = "import signal; print('up', flush=True); os.kill(os.getpid(), signal.SIGTERM)"
    process = node.start(1, variables={"CODE": code})
    console = node.results / PRIVATE_NAME / ATTEMPTS / "job-0001.0" / "console_output.txt"
    limit = time.monotonic() + 20
    while not (console.exists() and "up" in console.read_text()):
        assert time.monotonic() < limit
        time.sleep(0.02)
    while is_script_first and "Terminated" not in console.read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert not (node.results / "job-0001").exists()
    assert node.attempts() == ["job-0001.0"]
    assert node.run(1) == 0
    assert node.attempts() == ["job-0001.0"]
    assert json.loads((node.results / "job-0001/.job.json").read_text())["restart"] == 1


def test_a_script_that_ends_itself_has_failed(node: Node) -> None:
    code = "import signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert node.run(1, variables={"CODE": code}) == 143
    assert json.loads((node.results / "job-0001/.job.json").read_text())["code"] == 143
    assert console(node) == "Terminated\n"


def test_a_job_that_is_killed_waits_for_slurms_word(node: Node) -> None:
    assert (
        node.run(1, variables={"CODE": "import signal; os.kill(os.getpid(), signal.SIGKILL)"})
        == 137
    )
    assert not (node.results / "job-0001").exists()
    assert (node.results / PRIVATE_NAME / ATTEMPTS / "job-0001.0/.job.json").exists()


def test_of_two_attempts_the_first_that_ends_counts(node: Node) -> None:
    go = node.results / "go"
    code = f"import time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    given_up = node.start(1, variables={"CODE": code})
    limit = time.monotonic() + 20
    while not node.attempts():
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert node.run(1) == 0
    go.touch()
    assert given_up.wait(20) == 1
    assert json.loads((node.results / "job-0001/.job.json").read_text())["restart"] == 1
    assert node.run(1) == 0  # and a third does not even begin
    assert node.attempts() == ["job-0001.0"]


@pytest.mark.parametrize(
    ("variables", "given", "place"),
    [
        ({}, {}, "/tmp"),
        ({"TMPDIR": "{local}"}, {}, "{local}"),
        ({"SLURM_TMPDIR": "{local}", "TMPDIR": "/tmp"}, {}, "{local}"),
        ({"TMPDIR": "{local}/slurm.42"}, {}, "/tmp"),
        ({"TMPDIR": "{local}/42/tmp", "SLURM_TMPDIR": "/not/there"}, {}, "/tmp"),
        ({"TMPDIR": "{local}/n42"}, {}, "/tmp"),
        ({"TMPDIR": "{local}/142"}, {}, "{local}/142"),
    ],
)
def test_environments_are_kept_where_they_outlive_the_job(
    node: Node, tmp_path: Path, variables: dict[str, str], given: dict[str, str], place: str
) -> None:
    local = tmp_path / "local disk"
    changes = {name: value.format(local=local) for name, value in variables.items()}
    for value in changes.values():
        if value.startswith(str(local)):
            Path(value).mkdir(parents=True, exist_ok=True)
    assert node.run(1, variables=changes, **given) == 0
    _, found = seen(node.results / "job-0001")
    assert (
        found["OFFLINE_BUNDLE_CACHE"] == f"{place.format(local=local)}/offline-bundle-{os.getuid()}"
    )


def test_a_cache_that_is_named_is_taken(node: Node) -> None:
    assert node.run(1, variables={"OFFLINE_BUNDLE_CACHE": "/the/site's"}) == 0
    assert (
        node.run(2, variables={"OFFLINE_BUNDLE_CACHE": "/the/site's"}, node_cache="/my own/$HOME")
        == 0
    )
    found = [
        seen(node.results / f"job-000{number}")[1]["OFFLINE_BUNDLE_CACHE"] for number in (1, 2)
    ]
    assert found == ["/the/site's", "/my own/$HOME"]
