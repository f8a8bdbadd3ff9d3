"""The evaluator: runs pending tasks, as many at a time as there are slots.

The database decides: a task that is deleted there, or no longer running, is ended here and its
result is discarded.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from offline_bundle.runner.hps_server.evaluation.task_run import Run, TaskRunner
from offline_bundle.runner.hps_server.store.database import Body, Store, now
from offline_bundle.runner.hps_server.store.projects import Projects, reset_task

_POLL_SECONDS = 5.0


class Evaluator:
    """The one evaluator.

    *software* maps names to version, executable, environment and install_path.
    """

    def __init__(
        self, projects: Projects, *, slots: int, software: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.id = str(uuid.uuid5(uuid.NAMESPACE_DNS, platform.node()))
        self._projects = projects
        self._store: Store = projects.store
        self._runner = TaskRunner(projects, self._find)
        self._slots = slots
        defaults = dict.fromkeys(("version", "executable", "install_path"), "")
        self._software = {
            name: {"name": name, **defaults, "environment": {}, **given}
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
        """Requeue tasks that an earlier server did not finish, and start."""
        with self._store.transaction():
            self._requeue(self._store.interrupted_tasks())
        self._thread.start()

    def stop(self) -> None:
        """Stop; running tasks become pending again, for the next start."""
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
        """Check for changes at once."""
        self._waking.set()

    def console(self, task_id: str) -> Path | None:
        """Return the file with the console of a running task; None if it does not run."""
        run = self._runs.get(task_id)
        return run.folder / "console.txt" if run else None

    def registration(self) -> Body:
        """Return the entry of this evaluator in resource management."""
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
        """Return the configuration of this evaluator."""
        has_sizes = hasattr(os, "sysconf")
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if has_sizes else 0
        return {
            "id": self.id,
            "evaluator_id": self.id,
            "working_directory": str(self._work),
            "max_num_parallel_tasks": self._slots,
            "loop_interval": _POLL_SECONDS,
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
        """Return whether all required software is registered, by name and version."""
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

    def _work_on(self) -> None:
        while not self._is_stopping:
            self._waking.clear()
            try:
                for run in self._begin_runs():
                    self._pool.submit(self._evaluate, run)
            except Exception as error:  # noqa: BLE001 - the loop must go on
                print(f"evaluator: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
            self._waking.wait(_POLL_SECONDS)

    def _begin_runs(self) -> list[Run]:
        """End runs that are no longer needed; start tasks in the free slots and return them."""
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

    def _evaluate(self, run: Run) -> None:
        """Evaluate one task, in the thread of a slot."""
        try:
            self._runner.finish(run, self._runner.run_process(run))
        except Exception as error:  # noqa: BLE001 - any error fails this task only
            self._give_up(run, f"the evaluator failed: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(run.folder, ignore_errors=True)
            self._runs.pop(run.task["id"], None)
            self.wake()

    def _give_up(self, run: Run, problem: str) -> None:
        """Mark a task as failed if its outcome could not be stored, e.g. on a full disk."""
        print(f"evaluator: task {run.task['id']}: {problem}", file=sys.stderr)  # noqa: T201
        with contextlib.suppress(Exception), self._store.transaction():
            task = self._runner.current(run)
            if task is not None:
                task.update(
                    eval_status="failed", finished_time=now(), custom_data={"problem": problem}
                )
                self._store.save([task])
                self._projects.refresh_jobs([task["job_id"]])
