"""The evaluator: runs pending tasks, as many at a time as there are slots, each in a process group of its own.

    WORK/TASK/task/            the task's working directory, outside any project, so that no uv finds one above it
    WORK/TASK/console.txt      what it wrote to stdout and stderr
    WORK/TASK/context.json     what its execution script gets to know;  result.json: what came of it

The database decides: a task that is deleted or no longer running there is ended here, and its result is not wanted.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.hps_server import outcome
from offline_bundle.runner.hps_server.database import new_id, now
from offline_bundle.runner.hps_server.projects import CONSOLE, reset_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offline_bundle.runner.hps_server.database import Body, Store
    from offline_bundle.runner.hps_server.file_storage import Storage
    from offline_bundle.runner.hps_server.projects import Projects

_HERE = Path(__file__).parent
_LOOK_SECONDS = 5.0
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
    """`timeout`, or `cancelled` where nobody wants the result any more."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self, reason: str) -> None:
        """End all that the task has started; the first reason counts."""
        with self.lock:
            self.ended_as = self.ended_as or reason
            process = self.process
        if process is not None and process.poll() is None:
            threading.Thread(target=_end_group, args=(process,), daemon=True).start()


class Evaluator:
    """The one evaluator. *software* maps names to version, executable, environment and install_path."""

    def __init__(
        self, projects: Projects, *, slots: int, software: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.id = str(uuid.uuid5(uuid.NAMESPACE_DNS, platform.node()))
        self._projects = projects
        self._store: Store = projects.store
        self._storage: Storage = projects.storage
        self._slots = slots
        self._software = {
            name: {
                "name": name,
                "version": "",
                "executable": "",
                "install_path": "",
                "environment": {},
            }
            | dict(given)
            for name, given in software.items()
        }
        self._runs: dict[str, Run] = {}
        self._waking = threading.Event()
        self._is_stopping = False
        self._work = Path(tempfile.mkdtemp(prefix="embedded-hps-"))
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._thread = threading.Thread(target=self._work_on, name="evaluator", daemon=True)
        self.can_run = functools.lru_cache(self._can_run)
        self._store.on_question(self.can_run)

    def start(self) -> None:
        """Put back what an earlier server left half done, and begin."""
        with self._store.transaction():
            tasks = self._store.interrupted_tasks()
            self._requeue(tasks)
        self._thread.start()

    def stop(self) -> None:
        """End what runs; it is pending again, for the next start."""
        self._is_stopping = True
        self.wake()
        self._thread.join()
        for run in list(self._runs.values()):
            run.end("cancelled")
        self._pool.shutdown()
        with self._store.transaction():
            self._requeue(self._store.interrupted_tasks())
        shutil.rmtree(self._work, ignore_errors=True)

    def wake(self) -> None:
        """Look at once: something has changed."""
        self._waking.set()

    def registration(self) -> Body:
        """Return what resource management shows of this evaluator."""
        return {
            "id": self.id,
            "name": "embedded",
            "host_id": self.id,
            "host_name": platform.node(),
            "username": "embedded",
            "platform": platform.system().lower(),
            "last_modified": now(),
            "build_info": {"version": "embedded"},
        }

    def configuration(self) -> Body:
        """Return its configuration."""
        memory = (
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            if hasattr(os, "sysconf")
            else 0
        )
        return {
            "id": self.id,
            "evaluator_id": self.id,
            "working_directory": str(self._work),
            "max_num_parallel_tasks": self._slots,
            "loop_interval": _LOOK_SECONDS,
            "last_modified": now(),
            "applications": list(self._software.values()),
            "resources": {
                "num_cores": os.cpu_count(),
                "memory": memory,
                "disk_space": shutil.disk_usage(self._work).free,
                "custom": {},
            },
        }

    def _can_run(self, requirements: str | None) -> bool:
        """Tell whether software is here, by name, and by version where one is asked for."""
        return all(self._find(wanted) is not None for wanted in json.loads(requirements or "[]"))

    def _find(self, wanted: Body) -> Body | None:
        found = self._software.get(wanted.get("name") or "")
        version = wanted.get("version")
        return found if found and (not version or version == found["version"]) else None

    def _requeue(self, tasks: list[Body]) -> None:
        for task in tasks:
            trials = max(0, task["trial_number"] - 1)
            reset_task(task)
            task.update(eval_status="pending", trial_number=trials)
        self._store.save(tasks)
        self._projects.refresh_jobs({task["job_id"] for task in tasks})

    # --- choosing ---

    def _work_on(self) -> None:
        while not self._is_stopping:
            self._waking.clear()
            try:
                for run in self._begin_runs():
                    self._pool.submit(self._evaluate, run)
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever one round meets
                print(f"evaluator: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
            self._waking.wait(_LOOK_SECONDS)

    def _begin_runs(self) -> list[Run]:
        """End the runs that nobody wants any more; mark tasks for the free slots and return them."""
        begun = []
        with self._store.transaction():
            wanted = {task["id"]: task for task in self._store.get("tasks", list(self._runs))}
            for identifier, run in list(self._runs.items()):
                if wanted.get(identifier, {}).get("eval_status") not in {"prolog", "running"}:
                    run.end("cancelled")
            free = self._slots - len(self._runs)
            for project, task in self._store.ready_tasks(free, self._runs) if free > 0 else ():
                task.update(eval_status="prolog", prolog_time=now(), host_id=self.id)
                task["trial_number"] += 1
                run = Run(task, project, self._work / task["id"])
                self._runs[task["id"]] = run
                begun.append(run)
            self._store.save(run.task for run in begun)
            self._projects.refresh_jobs({run.task["job_id"] for run in begun})
        return begun

    # --- evaluating ---

    def _evaluate(self, run: Run) -> None:
        """Evaluate one task from beginning to end, in a slot's thread."""
        try:
            self._finish(run, self._run_process(run))
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is this task's failure and no other's
            self._give_up(run, f"the evaluator failed: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(run.folder, ignore_errors=True)
            self._runs.pop(run.task["id"], None)
            self.wake()

    def _give_up(self, run: Run, problem: str) -> None:
        """Let a task have failed whose outcome could not be stored, such as on a full disk."""
        print(f"evaluator: task {run.task['id']}: {problem}", file=sys.stderr)  # noqa: T201
        with contextlib.suppress(Exception), self._store.transaction():
            task = self._current(run)
            if task is not None:
                task.update(
                    eval_status="failed", finished_time=now(), custom_data={"problem": problem}
                )
                self._store.save([task])
                self._projects.refresh_jobs([task["job_id"]])

    def _run_process(self, run: Run) -> Body:
        """Prepare the task's directory, run its script there; return what came of it."""
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
                [sys.executable, "-I", str(_HERE / "harness.py"), str(_HERE / "shim"), *files],
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
        with contextlib.suppress(OSError):  # what the script left running in the background
            os.killpg(run.process.pid, signal.SIGKILL)
        if run.process.stdin:
            run.process.stdin.close()
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((run.folder / "result.json").read_text()))
        return {"error": f"the execution script's process ended with exit code {code}"}

    def _mark_running(self, run: Run, directory: Path) -> bool:
        with self._store.transaction():
            if self._current(run) is None:
                return False
            run.task.update(
                eval_status="running", running_time=now(), working_directory=str(directory)
            )
            self._store.save([run.task])
            self._projects.refresh_jobs([run.task["job_id"]])
        return True

    def _current(self, run: Run) -> Body | None:
        """Return the task as it is now, or None where this run is no longer wanted."""
        found = self._store.get("tasks", [run.task["id"]])
        is_wanted = (
            run.ended_as != "cancelled"
            and found
            and found[0]["eval_status"] in {"prolog", "running"}
        )
        return found[0] if is_wanted else None

    def _context(self, run: Run, directory: Path) -> Body:
        """Put the inputs in place; return what the execution script gets to know. Raises OSError."""
        definition = run.task["task_definition_snapshot"]
        job = self._store.get("jobs", [run.task["job_id"]])[0]
        earlier = {file["reference_id"]: file for file in self._store.get("files", job["file_ids"])}
        asked_for = [
            wanted for wanted in definition["software_requirements"] or [] if self._find(wanted)
        ]
        software = [found for wanted in asked_for if (found := self._find(wanted))]
        environment: dict[str, str] = {}
        for found in software:
            environment.update({name: str(value) for name, value in found["environment"].items()})
        inputs = self._store.get(
            "files", run.task["input_file_ids"] or definition["input_file_ids"]
        )
        placed = [self._place(run, directory, earlier.get(file["id"], file)) for file in inputs]
        script = None
        if definition["use_execution_script"]:
            scripts = self._store.get("files", [definition["execution_script_id"] or ""])
            if not scripts:
                raise FileNotFoundError("the task definition names no execution script")
            script = self._place(run, directory, scripts[0])["path"]
        criteria = definition["success_criteria"] or {}
        return {
            "input_files": placed,
            "output_files": [
                {name: file[name] for name in ("name", "type", "monitor")}
                | {"path": file["evaluation_path"]}
                for file in self._store.get("files", definition["output_file_ids"])
            ],
            "software": software,
            "environment": environment | (definition["environment"] or {}),
            "parameter_values": job["values"] or {},
            "resource_requirements": definition["resource_requirements"] or {},
            "execution_context": definition["execution_context"] or {},
            "execution_script": script,
            "execution_command": definition["execution_command"],
            "expected_return_code": criteria.get("return_code") or 0,
        }

    def _place(self, run: Run, directory: Path, file: Body) -> Body:
        """Copy an input file to where the task expects it; return how the script sees it."""
        path = outcome.inside(directory, file["evaluation_path"] or file["name"])
        content = self._storage.path(f"{run.project}/{file['storage_id']}")
        if not content.is_file():
            raise FileNotFoundError(
                f"the input file {file['name']} has no content: it was never uploaded"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(content, path)
        return {
            "name": file["name"],
            "path": str(path),
            "type": file["type"],
            "monitor": file["monitor"],
        }

    # --- the end ---

    def _finish(self, run: Run, result: Body) -> None:
        """Collect outputs, judge, and write down how the task went."""
        if self._current(run) is None:
            return
        definition = run.task["task_definition_snapshot"]
        wanted = self._store.get("files", definition["output_file_ids"])
        found = outcome.collect(run.folder / "task", wanted)
        job = self._store.get("jobs", [run.task["job_id"]])[0]
        values = (job["values"] or {}) | result.get("parameter_values", {})
        problems = outcome.judge(result, definition["success_criteria"] or {}, wanted, found)
        problems += outcome.judge_values(
            definition["success_criteria"] or {}, self._outputs(job), values
        )
        if run.ended_as == "timeout":
            problems = [f"timeout: it ran longer than {definition['max_execution_time']} s"]
        state = ("timeout" if run.ended_as == "timeout" else "failed") if problems else "evaluated"
        files = [
            self._keep(run, file, path)
            for file, path in found
            if file["collect"] or file["monitor"]
        ]
        if definition["store_output"]:
            files += self._keep_console(run, problems)
        with self._store.transaction():
            task = self._current(run)
            if task is None:
                return
            self._write_down(
                run, task, state, self._store.insert("files", files, project=run.project), result
            )
            current = self._store.get("jobs", [task["job_id"]])[0]
            current["values"] = (current["values"] or {}) | result.get("parameter_values", {})
            self._store.save([current])
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

    def _outputs(self, job: Body) -> list[Body]:
        definitions = self._store.get("job_definitions", [job["job_definition_id"] or ""])
        wanted = definitions[0]["parameter_definition_ids"] if definitions else []
        return [
            body
            for body in self._store.get("parameter_definitions", wanted)
            if body["mode"] == "output"
        ]

    def _keep(self, run: Run, file: Body, path: Path) -> Body:
        """Copy one output into the storage; return the file object that stands for it."""
        storage_id = new_id()
        metadata = self._storage.add(f"{run.project}/{storage_id}", path)
        return {
            "name": file["name"],
            "type": file["type"],
            "evaluation_path": path.relative_to(run.folder / "task").as_posix(),
            "storage_id": storage_id,
            "hash": metadata["checksum"],
            "size": metadata["size"],
            "reference_id": file["id"],
            "collect": file["collect"],
            "monitor": file["monitor"],
        }

    def _keep_console(self, run: Run, problems: list[str]) -> list[Body]:
        """Store the console, its end only where it is long, with the evaluator's verdict as its last lines."""
        console = run.folder / "console.txt"
        with console.open("ab") as stream:
            stream.write("".join(f"evaluator: {problem}\n" for problem in problems).encode())
        if console.stat().st_size > _CONSOLE_BYTES:
            with console.open("rb") as stream:
                stream.seek(-_CONSOLE_BYTES, os.SEEK_END)
                end = stream.read()
            console.write_bytes(b"[the beginning was left out]\n" + end)
        if not console.stat().st_size:
            return []
        storage_id = new_id()
        metadata = self._storage.add(f"{run.project}/{storage_id}", console)
        return [
            {
                "name": CONSOLE,
                "type": "text/plain",
                "evaluation_path": "console_output.txt",
                "storage_id": storage_id,
            }
            | {
                "hash": metadata["checksum"],
                "size": metadata["size"],
                "collect": True,
                "monitor": True,
            }
        ]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the process group to end, then kill it; where its first process ends, the waiting slot kills the others."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 0.0)):
        if process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, number)
        deadline = time.monotonic() + seconds
        while process.returncode is None and time.monotonic() < deadline:
            time.sleep(0.05)
