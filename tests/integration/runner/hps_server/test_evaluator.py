from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest
from ansys.hps.client.jms import File, Job, JobDefinition, SuccessCriteria, TaskDefinition

from offline_bundle.runner.hps_server import EmbeddedHps
from offline_bundle.runner.hps_server.store.file_storage import Storage
from tests.support.hps import SOFTWARE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.hps import Hps
from tests.support.evaluator_cases import wait_for, wait_until_gone

SLEEP = """
child = os.fork()
if child == 0:
    time.sleep(600)
open({path!r}, "w").write(f"{{os.getpid()}} {{child}}")
time.sleep(600)
"""


class TestAJob:
    @pytest.mark.measured
    def test_what_a_script_sees_and_leaves(self, hps: Hps) -> None:
        submitted = hps.submit(
            """
context = self.context
seen = {
    "inputs": context.input_files, "outputs": context.output_files, "software": context.software,
    "environment": context.environment, "values": context.parameter_values, "directory": os.getcwd(),
    "data": open("data.txt").read(),
}
log.info("hello")
open("seen.json", "w").write(json.dumps(seen))
self.run_and_capture_output("echo from the command; echo more > more.txt", shell=True, env=dict(os.environ))
self.run_and_capture_output(["sh", "-c", "pwd"], shell=False, cwd="/")
context.parameter_values["y"] = 2.5
""",
            inputs={"data.txt": b"some data"},
            outputs={"seen": "seen.json", "more": "mo*.txt"},
            values={"x": 1},
            environment={"BOTH": "2"},
        )
        assert submitted.wait() == {"evaluated": 1}
        outputs = submitted.outputs()
        seen = json.loads(outputs["seen.json"])
        assert seen["data"] == "some data"
        assert seen["values"] == {"x": 1}
        assert seen["environment"] == {"FROM_SOFTWARE": "yes", "BOTH": "2"}
        assert seen["software"][0]["name"] == "tool"
        assert [file["name"] for file in seen["inputs"]] == ["data.txt"]
        assert {file["path"] for file in seen["outputs"]} == {"seen.json", "mo*.txt"}
        assert outputs["more.txt"] == b"more\n"
        console = outputs["console_output.txt"].decode().splitlines()
        assert any(line.endswith("INFO hello") for line in console)
        assert "from the command" in console
        assert "/" in console
        job = submitted.api.get_jobs()[0]
        assert job.values == {"x": 1, "y": 2.5}
        assert job.elapsed_time > 0
        task = submitted.task()
        assert (task.trial_number, task.owned_file_ids) == (1, task.output_file_ids)
        assert not os.path.exists(seen["directory"])  # noqa: PTH110

    def test_a_command_instead_of_a_script(self, hps: Hps) -> None:
        submitted = hps.submit(
            "raise AssertionError",
            outputs={"out": "out.txt"},
            inputs={"in": b"1"},
            state="inactive",
        )
        definition = submitted.api.get_task_definitions()[0]
        definition.use_execution_script = False
        definition.execution_command = '%executable% -c "cat %file:in% > out.txt"'
        submitted.api.update_task_definitions([definition])
        job = submitted.api.get_jobs()[0]
        submitted.api.sync_jobs([job])
        job.eval_status = "pending"
        submitted.api.update_jobs([job])
        assert submitted.wait() == {"evaluated": 1}
        assert submitted.outputs()["out.txt"] == b"1"

    def test_linked_tasks_of_a_job(self, hps: Hps) -> None:
        submitted = hps.submit(
            'open("first.txt", "w").write("one")', outputs={"first": "first.txt"}, state="inactive"
        )
        api = submitted.api
        second = api.create_files(
            [File(name="second", evaluation_path="second.txt", collect=True)]
        )[0]
        task = TaskDefinition(
            name="second",
            execution_level=1,
            execution_command="cat %file:first% > second.txt; echo two >> second.txt",
            input_file_ids=[submitted.files["first"].id],
            output_file_ids=[second.id],
            success_criteria=SuccessCriteria(require_all_output_files=True),
        )
        task = api.create_task_definitions([task])[0]
        ids = [api.get_task_definitions()[0].id, task.id]
        definition = api.create_job_definitions(
            [JobDefinition(name="both", task_definition_ids=ids)]
        )[0]
        api.create_jobs(
            [Job(name="linked", eval_status="pending", job_definition_id=definition.id)]
        )
        submitted.wait(until=("evaluated", "failed"))
        job = api.get_jobs(name="linked")[0]
        assert (job.eval_status, job.executed_level) == ("evaluated", 1)
        file = api.get_files(id=job.file_ids, name="second", content=True)[0]
        assert file.content == b"onetwo\n"

    def test_unknown_software_waits(self, hps: Hps) -> None:
        submitted = hps.submit("pass", software_requirements=[{"name": "tool", "version": "9"}])
        time.sleep(0.3)
        assert submitted.states() == {"pending": 1}
        hps.jms.delete_project(submitted.project)


class TestFailures:
    def test_a_failing_script_shows_why(self, hps: Hps) -> None:
        submitted = hps.submit('log.info("so far so good")\nassert 1 + 1 == 3, "sums"')
        assert submitted.wait() == {"failed": 1}
        assert "so far so good" in submitted.console()
        assert submitted.console().endswith("evaluator: AssertionError: sums\n")

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (
                'self.run_and_capture_output("exit 3")',
                "CommandError: The command ended with return code 3",
            ),
            ("pass", "the output file out (out.txt) is missing"),
            ('os.symlink("/etc/hostname", "out.txt")', "the output file out (out.txt) is missing"),
            ("sys.exit(0)", "SystemExit: 0"),
            ("os._exit(0)", "the execution script's process ended with exit code 0"),
        ],
    )
    def test_verdicts(self, hps: Hps, body: str, problem: str) -> None:
        submitted = hps.submit(body, outputs={"out": "out.txt"})
        assert submitted.wait() == {"failed": 1}
        assert f"evaluator: {problem}" in submitted.console()

    @pytest.mark.parametrize("value", ['"\\ud800"', 'float("nan")'])
    def test_values_that_no_answer_can_hold(self, hps: Hps, value: str) -> None:
        """They would break the list of jobs for good."""
        submitted = hps.submit(f'self.context.parameter_values["y"] = {value}')
        assert submitted.wait() == {"failed": 1}
        assert [job.eval_status for job in submitted.api.get_jobs()] == ["failed"]

    def test_a_file_name_that_is_not_utf_8(self, hps: Hps) -> None:
        body = 'open(b"caf\\xe9.txt", "w").write("x")'
        submitted = hps.submit(body, outputs={"out": "*.txt"})
        assert submitted.wait() == {"evaluated": 1}
        paths = {file.evaluation_path for file in submitted.api.get_files()}
        assert "caf\N{REPLACEMENT CHARACTER}.txt" in paths

    def test_a_missing_input(self, hps: Hps) -> None:
        submitted = hps.submit("pass", inputs={"data": b"x"}, state="inactive")
        file = submitted.files["data"]
        (hps.server.data / "storage" / submitted.project.id / file.storage_id).unlink()
        job = submitted.api.get_jobs()[0]
        job.eval_status = "pending"
        submitted.api.update_jobs([job])
        assert submitted.wait() == {"failed": 1}
        assert "data has no content" in submitted.console()

    def test_expected_return_code_and_expressions(self, hps: Hps) -> None:
        criteria = SuccessCriteria(return_code=3, expressions=["values['x'] > 1"])
        body = 'self.run_and_capture_output("exit 3")\nself.context.parameter_values["x"] = {}'
        assert hps.submit(body.format(2), success_criteria=criteria).wait() == {"evaluated": 1}
        failed = hps.submit(body.format(1), success_criteria=criteria)
        assert failed.wait() == {"failed": 1}
        assert "is not met" in failed.console()

    def test_trials(self, hps: Hps, tmp_path: Path) -> None:
        count = tmp_path / "count"
        body = f'open({str(count)!r}, "a").write("x")\nassert len(open({str(count)!r}).read()) == 3'
        submitted = hps.submit(body, num_trials=5)
        assert submitted.wait() == {"evaluated": 1}
        assert submitted.task().trial_number == 3
        contents = hps.server.data / "storage" / submitted.project.id
        assert (
            len(submitted.api.get_files()) == len(list(contents.iterdir())) <= 2
        )  # the script, perhaps a console
        submitted.api.delete_jobs(submitted.api.get_jobs())
        assert len(list(contents.iterdir())) == 1

    def test_hundreds_of_lines_on_the_console(self, hps: Hps) -> None:
        submitted = hps.submit(
            'print("x" * 100 + "\\n", end="", flush=True)\n' * 3 + "assert False"
        )
        assert submitted.wait() == {"failed": 1}
        assert submitted.console().count("x" * 100) == 3


class TestEnding:
    def test_timeout_ends_all_that_was_started(self, hps: Hps, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        submitted = hps.submit(SLEEP.format(path=str(pids)), max_execution_time=1.0)
        assert submitted.wait() == {"timeout": 1}
        for number in wait_for(pids).split():
            wait_until_gone(int(number))
        assert "timeout: the task ran longer than 1.0 s" in submitted.console()

    @pytest.mark.parametrize("how", ["abort", "delete jobs", "delete project", "restart"])
    def test_what_is_no_longer_wanted_ends(self, hps: Hps, tmp_path: Path, how: str) -> None:
        pids = tmp_path / "pids"
        submitted = hps.submit(SLEEP.format(path=str(pids)))
        numbers = [int(number) for number in wait_for(pids).split()]
        jobs = submitted.api.get_jobs()
        if how == "delete project":
            hps.jms.delete_project(submitted.project)
        elif how == "delete jobs":
            submitted.api.delete_jobs(jobs)
        else:
            jobs[0].eval_status = "aborted" if how == "abort" else "pending"
            pids.unlink()
            submitted.api.update_jobs(jobs)
        for number in numbers:
            wait_until_gone(number)
        if how == "abort":
            assert submitted.states() == {"aborted": 1}
            assert submitted.task().eval_status == "aborted"
        if how == "restart":
            assert wait_for(pids).split() != [str(number) for number in numbers]
            hps.jms.delete_project(submitted.project)

    def test_background_processes_end_with_their_task(self, hps: Hps, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        submitted = hps.submit(
            f'import subprocess\nchild = subprocess.Popen(["sleep", "600"])\n'
            f'open({str(pids)!r}, "w").write(str(child.pid))'
        )
        assert submitted.wait() == {"evaluated": 1}
        wait_until_gone(int(pids.read_text()))


def test_stopping_puts_back_and_a_restart_goes_on(
    tmp_path: Path, module_home: None, connect: Callable[[EmbeddedHps], Hps]
) -> None:
    del module_home
    pids, go = tmp_path / "pids", tmp_path / "go"
    body = f'open({str(pids)!r}, "w").write(str(os.getpid()))\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)'
    server = EmbeddedHps(tmp_path / "data", slots=1, software=SOFTWARE)
    with server:
        submitted = connect(server).submit(body, jobs=3)
        number = int(wait_for(pids))
    wait_until_gone(number)
    go.touch()
    with EmbeddedHps(
        tmp_path / "data", port=server.port, password=server.password, slots=1, software=SOFTWARE
    ):
        assert submitted.wait() == {"evaluated": 3}
        assert submitted.task().trial_number == 1


def test_slots(tmp_path: Path, module_home: None, connect: Callable[[EmbeddedHps], Hps]) -> None:
    del module_home
    with EmbeddedHps(tmp_path / "data", slots=2, software=SOFTWARE) as server:
        submitted = connect(server).submit("time.sleep(0.3)", jobs=5)
        most = 0
        while sum(submitted.states().get(state, 0) for state in ("evaluated", "failed")) < 5:
            states = submitted.states()
            most = max(most, states.get("running", 0) + states.get("prolog", 0))
        assert submitted.states() == {"evaluated": 5}
        assert most == 2


def test_an_outcome_that_cannot_be_stored(hps: Hps, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    submitted = hps.submit("pass", outputs={"out": "out.txt"}, state="inactive")
    monkeypatch.setattr(Storage, "add", no_space)
    job = submitted.api.get_jobs()[0]
    job.eval_status = "pending"
    submitted.api.update_jobs([job])
    assert submitted.wait() == {"failed": 1}
    assert "No space left" in submitted.task().custom_data["problem"]
