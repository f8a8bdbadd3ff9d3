"""Rules of projects, jobs and tasks: tasks of new jobs, states, copies, archives."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from offline_bundle.runner.hps_server.auth import User
from offline_bundle.runner.hps_server.store.database import Body, Store, new_id, now, parse_json
from offline_bundle.runner.hps_server.store.file_storage import Storage

CONSOLE = "console_output"
"""Name of the task output that contains its console."""

_RUN_FIELDS = (
    "pending_time",
    "prolog_time",
    "running_time",
    "finished_time",
    "elapsed_time",
    "host_id",
)
_FINISHED = frozenset({"evaluated", "failed", "timeout"})
_ARCHIVE_LIST = "objects.json"
_ID = re.compile(r"[0-9A-Za-z]{22}")


class Projects:
    """Operations on projects; *store* has the objects, *storage* the file contents."""

    def __init__(self, store: Store, storage: Storage) -> None:
        self.store = store
        self.storage = storage

    def create(self, bodies: list[Body], user: User, *, replace: bool) -> list[Body]:
        """Create projects; with *replace*, delete others of the same name."""
        with self.store.transaction():
            if replace:
                names = {body.get("name") for body in bodies}
                for old in self.store.find("projects"):
                    if old["name"] in names:
                        self.delete(old["id"])
            made = self.store.insert(
                "projects", ({**body, "id": None} for body in bodies), user=user.id
            )
            for body in made:
                owner = owner_permission(user)
                self.store.insert("permissions", [owner], project=body["id"], user=user.id)
        return made

    def delete(self, identifier: str) -> None:
        """Delete a project with its contents; the evaluator ends its tasks."""
        self.store.delete_project(identifier)
        self.storage.remove_bucket(identifier)

    def create_objects(self, kind: str, project: str, bodies: list[Body], user: User) -> list[Body]:
        """Create objects of a project; jobs get their tasks."""
        bodies = [{**body, "id": None} for body in bodies]
        if kind == "files":
            bodies = [
                body | {"storage_id": _plain(body.get("storage_id")) or new_id()} for body in bodies
            ]
        with self.store.transaction():
            made = self.store.insert(kind, bodies, project=project, user=user.id)
            if kind == "jobs":
                self._add_tasks(project, made, user)
            if kind == "job_definitions":
                self._set_modes(made)
        return made

    def _set_modes(self, job_definitions: list[Body]) -> None:
        """Make parameters outputs that are mapped to outputs: old clients cannot set the mode."""
        for definition in job_definitions:
            tasks = self.store.get("task_definitions", definition["task_definition_ids"] or [])
            inputs = {name for task in tasks for name in task["input_file_ids"] or []}
            outputs = {name for task in tasks for name in task["output_file_ids"] or []} - inputs
            wanted = definition["parameter_mapping_ids"] or []
            mapped = [
                mapping["parameter_definition_id"]
                for mapping in self.store.get("parameter_mappings", wanted)
                if mapping["file_id"] in outputs
            ]
            parameters = self.store.get("parameter_definitions", filter(None, mapped))
            self.store.save(body | {"mode": "output"} for body in parameters)

    def _add_tasks(
        self, project: str, jobs: list[Body], user: User, *, state: str | None = None
    ) -> None:
        """Create missing tasks of jobs, in the state of the job unless *state* is given."""
        definitions = {
            job["job_definition_id"]: self._tasks_wanted(job["job_definition_id"]) for job in jobs
        }
        existing: dict[str, set[str]] = {}
        if state:
            for task in self.store.tasks_of(job["id"] for job in jobs):
                existing.setdefault(task["job_id"], set()).add(task["task_definition_id"])
        tasks = [
            {
                "job_id": job["id"],
                "task_definition_id": definition["id"],
                "task_definition_snapshot": definition,
                "eval_status": state or job["eval_status"],
                "input_file_ids": definition["input_file_ids"],
                "inherited_file_ids": definition["input_file_ids"],
                "pending_time": now(),
            }
            for job in jobs
            for definition in definitions[job["job_definition_id"]]
            if definition["id"] not in existing.get(job["id"], ())
        ]
        self.store.insert("tasks", tasks, project=project, user=user.id)
        for job in jobs:
            if job["priority"]:
                self.store.set_priority(job["id"], job["priority"])

    def _tasks_wanted(self, job_definition_id: str | None) -> list[Body]:
        found = self.store.get("job_definitions", [job_definition_id] if job_definition_id else [])
        definitions = self.store.get(
            "task_definitions", found[0]["task_definition_ids"] or [] if found else []
        )
        return sorted(definitions, key=lambda definition: definition["execution_level"] or 0)

    def update_objects(
        self, kind: str, project: str, changes: list[Body], user: User
    ) -> list[Body]:
        """Update objects. A new state of a job applies to its tasks, one of a task to its job."""
        with self.store.transaction():
            old = {
                body["id"]: body
                for body in self.store.get(kind, [change["id"] for change in changes])
            }
            made = [old[change["id"]] | change for change in changes if change["id"] in old]
            self.store.save(made, user=user.id)
            if kind == "job_definitions":
                self._set_modes(made)
            changed = [
                body
                for body in made
                if body.get("eval_status") != old[body["id"]].get("eval_status")
            ]
            if kind == "jobs":
                self._spread_states(project, changed)
                for body in made:
                    if body["priority"] != old[body["id"]]["priority"]:
                        self.store.set_priority(body["id"], body["priority"])
            if kind == "tasks":
                self.refresh_jobs({body["job_id"] for body in changed})
        return made

    def _spread_states(self, project: str, jobs: list[Body]) -> None:
        states = {job["id"]: job["eval_status"] for job in jobs}
        tasks = self.store.tasks_of(states)
        for task in tasks:
            state = states[task["job_id"]]
            if state in {"pending", "inactive"}:
                reset_task(task)
                self.drop_outputs(project, task)
            if state != "aborted" or task["eval_status"] not in _FINISHED:
                task["eval_status"] = state
        self.store.save(tasks)
        for job in jobs:
            if job["eval_status"] in {"pending", "inactive"}:
                job.update(executed_level=-1, elapsed_time=0.0, host_ids=[], file_ids=[])
        self.store.save(jobs)

    def drop_outputs(self, project: str, task: Body) -> None:
        """Delete the outputs of an earlier evaluation of a task."""
        collected = set(task["owned_file_ids"]) & set(task["output_file_ids"])
        files = [
            file
            for file in self.store.get("files", collected)
            if file["reference_id"] or file["name"] == CONSOLE
        ]
        gone = [file["id"] for file in files]
        self.delete_objects("files", project, gone)
        for field in ("output_file_ids", "owned_file_ids", "monitored_file_ids"):
            task[field] = [identifier for identifier in task[field] if identifier not in gone]

    def delete_objects(self, kind: str, project: str, ids: list[str]) -> None:
        """Delete objects of a project: jobs with their outputs, files with their contents."""
        with self.store.transaction():
            if kind == "jobs":
                for task in self.store.tasks_of(ids):
                    self.drop_outputs(project, task)
            if kind == "files":
                for file in self.store.get("files", ids):
                    self.storage.path(f"{project}/{file['storage_id']}").unlink(missing_ok=True)
            self.store.delete(kind, ids)

    def refresh_jobs(self, identifiers: Iterable[str]) -> None:
        """Update the states of jobs from those of their tasks."""
        with self.store.transaction():
            for job in self.store.get("jobs", identifiers):
                tasks = self.store.tasks_of([job["id"]])
                if tasks:
                    job.update(_summary(tasks))
                    self.store.save([job])

    def sync(self, project: str, job_ids: list[str], user: User) -> None:
        """Create tasks added to the definition since, and update unfinished tasks from it."""
        with self.store.transaction():
            jobs = self.store.get("jobs", job_ids)
            tasks = [
                task for task in self.store.tasks_of(job_ids) if task["eval_status"] != "evaluated"
            ]
            wanted = self.store.get(
                "task_definitions", {task["task_definition_id"] for task in tasks}
            )
            definitions = {definition["id"]: definition for definition in wanted}
            for task in tasks:
                task["task_definition_snapshot"] = definitions.get(
                    task["task_definition_id"], task["task_definition_snapshot"]
                )
            self.store.save(tasks)
            self._add_tasks(project, jobs, user, state="inactive")

    def copy_objects(self, kind: str, project: str, source_ids: list[str], user: User) -> list[str]:
        """Copy objects of a project; copied jobs are inactive."""
        is_job = kind == "jobs"
        copies = [
            body | ({"eval_status": "inactive"} if is_job else {"name": f"{body['name']} - copy"})
            for body in self.store.get(kind, source_ids)
        ]
        return [body["id"] for body in self.create_objects(kind, project, copies, user)]

    def copy_project(self, identifier: str, user: User) -> str:
        """Copy a project with everything in it."""
        body = self.store.get("projects", [identifier])[0]
        listed = {
            "project": body | {"name": f"{body['name']} - copy"},
            "objects": self.store.everything_in(identifier),
        }
        return self._restore(listed, self.storage.path(identifier), user)

    def archive(self, identifier: str) -> str:
        """Write a project to a ZIP file in the storage; return its path there."""
        body = self.store.get("projects", [identifier])[0]
        listed = {"project": body, "objects": self.store.everything_in(identifier)}
        name = f"{identifier}/archive-{identifier}.zip"
        stream, partial = self.storage.begin(name)
        with stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_ARCHIVE_LIST, json.dumps(listed))
            for file in self._contents(identifier):
                archive.write(file, f"files/{file.name}")
        self.storage.commit(partial, name)
        return name

    def _contents(self, identifier: str) -> list[Path]:
        folder = self.storage.path(identifier)
        files = folder.iterdir() if folder.is_dir() else iter(())
        return sorted(
            file for file in files if file.is_file() and not file.name.startswith("archive-")
        )

    def restore(self, name: str, user: User) -> str:
        """Create a project from an archive in the storage; return its id."""
        with (
            tempfile.TemporaryDirectory() as folder,
            zipfile.ZipFile(self.storage.path(name)) as archive,
        ):
            for member in archive.namelist():
                if re.fullmatch(r"files/[\w.-]+", member):
                    archive.extract(member, folder)
            listed = parse_json(archive.read(_ARCHIVE_LIST))
            return self._restore(listed, Path(folder) / "files", user)

    def _restore(self, listed: dict[str, Any], contents: Path, user: User) -> str:
        """Create a project from *listed* objects, with new ids; *contents* has its files."""
        bodies = [listed["project"], *(body for _, body in listed["objects"])]
        new = {body["id"]: new_id() for body in bodies}
        renewed = json.loads(_ID.sub(lambda match: new.get(match[0], match[0]), json.dumps(listed)))
        project = renewed["project"]
        with self.store.transaction():
            self.store.insert("projects", [project], user=user.id)
            for kind, body in renewed["objects"]:
                self.store.insert(kind, [body], project=project["id"], user=user.id)
        if contents.is_dir():
            target = self.storage.path(project["id"])
            shutil.copytree(contents, target, ignore=shutil.ignore_patterns("archive-*"))
        return str(project["id"])


def owner_permission(user: User) -> Body:
    """Return the permission of the creator of an object."""
    return {
        "permission_type": "user",
        "value_id": user.id,
        "value_name": user.name,
        "role": "admin",
    }


def reset_task(task: Body) -> None:
    """Reset the evaluation fields of a task."""
    task.update(dict.fromkeys(_RUN_FIELDS), trial_number=0, pending_time=now())


def _plain(name: str | None) -> str | None:
    return name if name and not re.search(r"[/\\]", name) and name not in {".", ".."} else None


def _summary(tasks: list[Body]) -> Body:
    """State, times and files of a job from its tasks: the worst state wins, then the busiest."""
    states = [task["eval_status"] for task in tasks]
    order = ("failed", "timeout", "aborted", "running", "prolog", "pending", "inactive")
    state = next((state for state in order if state in states), "evaluated")
    if state == "pending" and "evaluated" in states:
        state = "running"
    levels = [
        task["task_definition_snapshot"]["execution_level"] or 0
        for task in tasks
        if task["eval_status"] == "evaluated"
    ]
    return {
        "eval_status": state,
        "executed_level": max(levels, default=-1),
        "elapsed_time": sum(task["elapsed_time"] or 0.0 for task in tasks),
        "host_ids": sorted({task["host_id"] for task in tasks if task["host_id"]}),
        "file_ids": [identifier for task in tasks for identifier in task["owned_file_ids"]],
    }
