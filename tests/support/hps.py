"""A running embedded HPS and the real client on it; one of each for a test module, as starting them
takes a second.
"""

from __future__ import annotations

import gc
import io
import os
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from ansys.hps.client import Client
from ansys.hps.client.jms import (
    File,
    JmsApi,
    Job,
    JobDefinition,
    Project,
    ProjectApi,
    Software,
    SuccessCriteria,
    TaskDefinition,
)

from offline_bundle.runner.hps_server import EmbeddedHps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDED = ("evaluated", "failed", "aborted", "timeout")

HEAD = """
import json, os, sys, time
from ansys.rep.common.logging import log
from ansys.rep.evaluator.task_manager import ApplicationExecution

class Execution(ApplicationExecution):
    def execute(self):
"""


@dataclass
class Submitted:
    """A project with one task definition and its jobs."""

    hps: Hps
    api: ProjectApi
    project: Project
    files: dict[str, File]
    count: int

    def states(self) -> dict[str, int]:
        found = self.hps.jms.get_projects(id=self.project.id, statistics=True)[0].statistics[
            "eval_status"
        ]
        return {state: number for state, number in found.items() if number}

    def wait(self, seconds: float = 30, until: tuple[str, ...] = ENDED) -> dict[str, int]:
        """Wait until every job is in one of these states."""
        deadline = time.monotonic() + seconds
        while sum(number for state, number in self.states().items() if state in until) < self.count:
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.1)
        return self.states()

    def task(self) -> Any:  # noqa: ANN401 - the client is not typed
        return self.api.get_tasks()[0]

    def outputs(self) -> dict[str, bytes]:
        """Contents of the first task's files, by path."""
        found = self.api.get_files(id=self.task().output_file_ids or ["none"], content=True)
        return {file.evaluation_path: file.content for file in found}

    def console(self) -> str:
        return self.outputs().get("console_output.txt", b"").decode()


class Hps:
    """The server and a client."""

    def __init__(self, server: EmbeddedHps) -> None:
        self.server = server
        self.client = Client(server.url, server.username, server.password, verify=False)
        self.jms = JmsApi(self.client)

    def submit(
        self,
        body: str,
        *,
        outputs: dict[str, str] | None = None,
        inputs: dict[str, bytes] | None = None,
        jobs: int = 1,
        values: dict[str, Any] | None = None,
        state: str = "pending",
        **definition: Any,  # noqa: ANN401 - fields of a task definition
    ) -> Submitted:
        """Make a project whose jobs run *body*, the inside of `execute`."""
        project = self.jms.create_project(Project(name=f"test {time.time_ns()}", active=True))
        api = ProjectApi(self.client, project.id)
        text = HEAD + "".join(f"        {line}\n" for line in body.splitlines())
        wanted = [
            File(
                name="exec_script", evaluation_path="exec_script.py", src=io.BytesIO(text.encode())
            )
        ]
        wanted += [
            File(name=name, evaluation_path=name, src=io.BytesIO(data))
            for name, data in (inputs or {}).items()
        ]
        wanted += [
            File(name=name, evaluation_path=path, collect=True)
            for name, path in (outputs or {}).items()
        ]
        made = {file.name: file for file in api.create_files(wanted)}
        defaults: dict[str, Any] = {
            "name": "task",
            "software_requirements": [Software(name="tool")],
            "execution_level": 0,
            "max_execution_time": 30.0,
            "success_criteria": SuccessCriteria(return_code=0, require_all_output_files=True),
        }
        task = TaskDefinition(
            **(defaults | definition),
            use_execution_script=True,
            execution_script_id=made["exec_script"].id,
            input_file_ids=[made[name].id for name in inputs or {}],
            output_file_ids=[made[name].id for name in outputs or {}],
        )
        task = api.create_task_definitions([task])[0]
        job = api.create_job_definitions(
            [JobDefinition(name="jobs", active=True, task_definition_ids=[task.id])]
        )[0]
        api.create_jobs(
            [
                Job(
                    name=f"job {i}",
                    eval_status=state,
                    job_definition_id=job.id,
                    values=values or {},
                )
                for i in range(jobs)
            ]
        )
        return Submitted(self, api, project, made, jobs)

    def close(self) -> None:
        """Close what the client would leave open until the process ends."""
        self.client._stop_event.set()
        self.client.session.close()
        transfer = self.client._dt_client
        if transfer is not None:
            session = transfer.session
            transfer.stop()
            session.close()


SOFTWARE = {
    "tool": {
        "version": "1.2",
        "executable": "/bin/sh",
        "environment": {"FROM_SOFTWARE": "yes", "BOTH": "1"},
    }
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The upstream client leaves sockets and temporary directories to the garbage collector."""
    for item in items:
        if "embedded" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(
                pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
            )


def collect_garbage() -> None:
    """Let what the client left go now, and not during somebody else's test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A HOME for the transfer worker that the client downloads."""
    home, before = tmp_path_factory.mktemp("home"), os.environ.get("HOME")
    os.environ["HOME"] = str(home)
    yield
    os.environ["HOME"] = before or ""


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory, module_home: None) -> Iterator[Hps]:
    del module_home
    with EmbeddedHps(tmp_path_factory.mktemp("hps") / "data", slots=2, software=SOFTWARE) as server:
        found = Hps(server)
        found.client.initialize_data_transfer_client()
        yield found
        found.close()
        del found
    collect_garbage()


@pytest.fixture
def connect() -> Iterator[Callable[[EmbeddedHps], Hps]]:
    """Connect to servers of a test's own."""
    made: list[Hps] = []

    def _connect(server: EmbeddedHps) -> Hps:
        made.append(Hps(server))
        return made[-1]

    yield _connect
    while made:
        made.pop().close()
    collect_garbage()
