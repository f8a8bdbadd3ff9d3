"""One task: prepare its directory, run its script in a process group, collect the outputs.

WORK/TASK/task/            working directory, outside any project, so that uv finds none above it
WORK/TASK/console.txt      stdout and stderr
WORK/TASK/context.json     context of the execution script;  result.json: its result
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from offline_bundle.runner.hps_server.evaluation import outcome
from offline_bundle.runner.hps_server.evaluation.job_parameters import JobParameters
from offline_bundle.runner.hps_server.store.database import Body, Store, new_id, now, parse_json
from offline_bundle.runner.hps_server.store.file_storage import Storage
from offline_bundle.runner.hps_server.store.projects import CONSOLE, Projects

_FOLDER = Path(__file__).parent
_GRACE_SECONDS = 2.0
_CONSOLE_BYTES = 8 << 20


@dataclass
class Run:
    """One task while it is evaluated."""

    task: Body
    project: str
    folder: Path
    started: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None
    ended_as: str | None = None
    """`timeout`, or `cancelled` if the result is no longer needed."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self, reason: str) -> None:
        """End all processes of the task; the first reason is kept."""
        with self.lock:
            self.ended_as = self.ended_as or reason
            process = self.process
        if process is not None and process.poll() is None:
            threading.Thread(target=_end_group, args=(process,), daemon=True).start()


class TaskRunner:
    """Runs tasks; *find_software* returns the registered software for a requirement, or None."""

    def __init__(self, projects: Projects, find_software: Callable[[Body], Body | None]) -> None:
        self._projects = projects
        self._store: Store = projects.store
        self._storage: Storage = projects.storage
        self._find_software = find_software

    def run_process(self, run: Run) -> Body:
        """Prepare the working directory and run the script there; return its result."""
        directory = run.folder / "task"
        directory.mkdir(parents=True)
        try:
            context = self._context(run, directory)
        except OSError as error:
            return {"error": str(error)}
        (run.folder / "context.json").write_text(json.dumps(context))
        if not self._mark_running(run, directory):
            return {}
        files = [str(run.folder / "context.json"), str(run.folder / "result.json")]
        with (run.folder / "console.txt").open("ab") as console, run.lock:
            if run.ended_as:
                return {}
            run.process = subprocess.Popen(
                [sys.executable, "-I", str(_FOLDER / "harness.py"), str(_FOLDER / "shim"), *files],
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = run.task["task_definition_snapshot"].get("max_execution_time")
        timer = threading.Timer(limit or 0, run.end, ("timeout",))
        if limit:
            timer.start()
        code = run.process.wait()
        timer.cancel()
        with contextlib.suppress(OSError):  # background processes of the script
            os.killpg(run.process.pid, signal.SIGKILL)
        if run.process.stdin:
            run.process.stdin.close()
        try:
            return dict(parse_json((run.folder / "result.json").read_bytes()))
        except OSError:
            return {"error": f"the execution script's process ended with exit code {code}"}
        except ValueError as error:
            return {"error": f"the values of the job cannot be stored: {error}"}

    def _mark_running(self, run: Run, directory: Path) -> bool:
        with self._store.transaction():
            if self.current(run) is None:
                return False
            run.task.update(
                eval_status="running", running_time=now(), working_directory=str(directory)
            )
            self._store.save([run.task])
            self._projects.refresh_jobs([run.task["job_id"]])
        return True

    def current(self, run: Run) -> Body | None:
        """Return the stored task, or None if this run is no longer needed."""
        found = self._store.get("tasks", [run.task["id"]])
        is_wanted = (
            run.ended_as != "cancelled"
            and found
            and found[0]["eval_status"] in {"prolog", "running"}
        )
        return found[0] if is_wanted else None

    def _context(self, run: Run, directory: Path) -> Body:
        """Copy the inputs; return the context of the execution script. Raises OSError."""
        definition = run.task["task_definition_snapshot"]
        job = self._store.get("jobs", [run.task["job_id"]])[0]
        earlier = {file["reference_id"]: file for file in self._store.get("files", job["file_ids"])}
        asked_for = definition["software_requirements"] or []
        software = [found for wanted in asked_for if (found := self._find_software(wanted))]
        environment: dict[str, str] = {}
        for found in software:
            environment.update({name: str(value) for name, value in found["environment"].items()})
        wanted = run.task["input_file_ids"] or definition["input_file_ids"]
        inputs = {
            file["id"]: self._place(run, directory, earlier.get(file["id"], file))
            for file in self._store.get("files", wanted)
        }
        parameters = JobParameters(self._store, job)
        parameters.fill_inputs({name: Path(entry["path"]) for name, entry in inputs.items()})
        criteria = definition["success_criteria"] or {}
        return {
            "input_files": list(inputs.values()),
            "output_files": [
                {name: file[name] for name in ("name", "type", "monitor")}
                | {"path": file["evaluation_path"]}
                for file in self._store.get("files", definition["output_file_ids"])
            ],
            "software": software,
            "environment": environment | (definition["environment"] or {}),
            "parameter_values": job["values"] or {},
            "output_parameters": [
                {"name": body["name"], "type": body["type"]} for body in parameters.outputs
            ],
            "resource_requirements": definition["resource_requirements"] or {},
            "execution_context": definition["execution_context"] or {},
            "execution_script": self._place_script(run, directory, definition),
            "execution_command": definition["execution_command"],
            "expected_return_code": criteria.get("return_code") or 0,
        }

    def _place_script(self, run: Run, directory: Path, definition: Body) -> str | None:
        """Copy the execution script, if the task has one; return its path."""
        if not definition["use_execution_script"]:
            return None
        scripts = self._store.get("files", [definition["execution_script_id"] or ""])
        if not scripts:
            raise FileNotFoundError("the task definition has no execution script")
        path: str = self._place(run, directory, scripts[0])["path"]
        return path

    def _place(self, run: Run, directory: Path, file: Body) -> Body:
        """Copy an input file to its evaluation path; return its entry in the context."""
        path = outcome.inside(directory, file["evaluation_path"] or file["name"])
        content = self._storage.path(f"{run.project}/{file['storage_id']}")
        if not content.is_file():
            raise FileNotFoundError(
                f"the input file {file['name']} has no content: it was never uploaded"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(content, path)
        return {"path": str(path), **{name: file[name] for name in ("name", "type", "monitor")}}

    def finish(self, run: Run, result: Body) -> None:
        """Collect outputs, check the success criteria, and store the outcome."""
        if self.current(run) is None:
            return
        definition = run.task["task_definition_snapshot"]
        wanted = self._store.get("files", definition["output_file_ids"])
        found = outcome.collect(run.folder / "task", wanted)
        job = self._store.get("jobs", [run.task["job_id"]])[0]
        values = (job["values"] or {}) | result.get("parameter_values", {})
        parameters = JobParameters(self._store, job)
        criteria = definition["success_criteria"] or {}
        problems = outcome.find_problems(result, criteria, wanted, found)
        if not problems:
            read, problems = parameters.read_outputs({file["id"]: path for file, path in found})
            values |= read
        problems += outcome.find_value_problems(criteria, parameters.outputs, values)
        if run.ended_as == "timeout":
            problems = [f"timeout: the task ran longer than {definition['max_execution_time']} s"]
        state = ("timeout" if run.ended_as == "timeout" else "failed") if problems else "evaluated"
        kept = [(file, path) for file, path in found if file["collect"] or file["monitor"]]
        files = [self._keep(run, file, path) for file, path in kept]
        if definition["store_output"]:
            files += self._keep_console(run, problems)
        with self._store.transaction():
            task = self.current(run)
            if task is None:
                return
            made = self._store.insert("files", files, project=run.project)
            self._write_down(run, task, state, made, result)
            current = self._store.get("jobs", [task["job_id"]])[0]
            current["values"] = (current["values"] or {}) | values
            self._store.save([current])
            parameters.mark_outputs(values)
            self._projects.refresh_jobs([task["job_id"]])

    def _write_down(
        self, run: Run, task: Body, state: str, files: list[Body], result: Body
    ) -> None:
        definition = task["task_definition_snapshot"]
        made = [file["id"] for file in files]
        again = state != "evaluated" and task["trial_number"] < (definition["num_trials"] or 1)
        self._projects.drop_outputs(run.project, task)
        task.update(
            eval_status="pending" if again else state,
            finished_time=now(),
            elapsed_time=time.monotonic() - run.started,
            executed_command=result.get("executed_command"),
            output_file_ids=made,
            owned_file_ids=made,
            monitored_file_ids=[file["id"] for file in files if file["monitor"]],
        )
        self._store.save([task])

    def _keep(self, run: Run, file: Body, path: Path) -> Body:
        """Copy one output into the storage; return its file object."""
        name = os.fsencode(path.relative_to(run.folder / "task"))
        return {
            **{field: file[field] for field in ("name", "type", "collect", "monitor")},
            # a response cannot hold other names than UTF-8
            "evaluation_path": name.decode(errors="replace"),
            "reference_id": file["id"],
            **self._stored(run, path),
        }

    def _stored(self, run: Run, path: Path) -> Body:
        storage_id = new_id()
        metadata = self._storage.add(f"{run.project}/{storage_id}", path)
        return {
            "storage_id": storage_id,
            "hash": metadata["checksum"],
            "size": metadata["size"],
        }

    def _keep_console(self, run: Run, problems: list[str]) -> list[Body]:
        """Store the console (its end if it is long), followed by the problems found."""
        console = run.folder / "console.txt"
        with console.open("ab") as stream:
            stream.write("".join(f"evaluator: {problem}\n" for problem in problems).encode())
        if console.stat().st_size > _CONSOLE_BYTES:
            with console.open("rb") as stream:
                stream.seek(-_CONSOLE_BYTES, os.SEEK_END)
                end = stream.read()
            console.write_bytes(b"[beginning omitted]\n" + end)
        if not console.stat().st_size:
            return []
        return [
            {
                "name": CONSOLE,
                "type": "text/plain",
                "evaluation_path": "console_output.txt",
                "collect": True,
                "monitor": True,
                **self._stored(run, console),
            }
        ]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process group, then kill it.

    When its first process ends, the waiting slot kills the others.
    """
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 0.0)):
        if process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, number)
        deadline = time.monotonic() + seconds
        while process.returncode is None and time.monotonic() < deadline:
            time.sleep(0.05)
