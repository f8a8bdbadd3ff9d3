"""The job management interface: projects, and the objects in them."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offline_bundle.runner.hps_server.evaluation.mappings import unsupported
from offline_bundle.runner.hps_server.store.database import Body, now, parse_query
from offline_bundle.runner.hps_server.store.file_storage import DEFAULT_SCRIPTS
from offline_bundle.runner.hps_server.store.object_types import OBJECT_TYPES
from offline_bundle.runner.hps_server.store.projects import owner_permission
from offline_bundle.runner.hps_server.web import (
    BUILD,
    PREFIX,
    Answer,
    Call,
    RequestError,
    Service,
    select_fields,
)

_JMS = f"{PREFIX}/jms/api/v1"
_EMBEDDED = "the embedded HPS"


class JobApi:
    """Handlers of the job management interface."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes."""
        route = self._service.route
        project = f"{_JMS}/projects/{{project}}"
        return [
            route(_JMS, self._information, is_public=True),
            route(f"{_JMS}/storage", self._backends),
            route(f"{_JMS}/operations/{{id}}", self._operation),
            route(f"{_JMS}/projects", self._list_projects),
            route(f"{_JMS}/projects", self._create_projects, "POST"),
            route(f"{_JMS}/projects:copy", self._copy_projects, "POST"),
            route(f"{_JMS}/projects/dir", self._make_bucket, "POST"),
            route(f"{_JMS}/projects/archive", self._restore_project, "POST"),
            route(project, self._get_project),
            route(project, self._update_project, "PUT"),
            route(project, self._delete_project, "DELETE"),
            route(f"{project}/storage", self._backends),
            route(f"{project}/archive", self._archive_project, "PUT"),
            route(f"{project}/jobs:sync", self._sync_jobs, "PUT"),
            *self._collection(f"{project}/{{kind}}"),
            *self._collection(f"{_JMS}/{{kind}}"),
            route(f"{_JMS}/{{kind}}/{{id}}/permissions", self._object_permissions),
        ]

    def _collection(self, path: str) -> list[Route]:
        return [
            self._service.route(f"{path}:copy", self._copy_objects, "POST"),
            self._service.route(path, self._list_objects),
            self._service.route(path, self._write_objects, "POST"),
            self._service.route(path, self._write_objects, "PUT"),
            self._service.route(path, self._delete_objects, "DELETE"),
        ]

    def _information(self, call: Call) -> Answer:
        """Return version and addresses."""
        auth = f"{call.request.base_url}".rstrip("/") + f"{PREFIX}/auth/realms/rep"
        settings = {
            "execution_script_bucket": "execution_scripts",
            "execution_script_default_bucket": DEFAULT_SCRIPTS,
            "admin_keys": ["admin"],
        }
        services = {"auth_url": auth, "external_auth_url": auth}
        return {"build": BUILD, "services": services, "settings": settings, "time": now()}

    def _object_permissions(self, call: Call) -> Answer:
        """List the permissions of a template: its one user has all."""
        self._kind(call)
        return {"permissions": [owner_permission(call.user)]}

    def _backends(self, _: Call) -> Answer:
        return {"backends": [{"name": "files", "priority": 1, "obj_type": "DataTransferService"}]}

    def _operation(self, call: Call) -> Answer:
        return {"operations": self._service.store.get("operations", [call["id"]])}

    def _list_projects(self, call: Call) -> Answer:
        store, query = self._service.store, parse_query("projects", call.parameters)
        if "count" in dict(call.parameters):
            return {"num_projects": store.count("projects", query)}
        found = store.find("projects", query)
        if dict(call.parameters).get("statistics") == "True":
            found = [body | {"statistics": store.statistics(body["id"])} for body in found]
        return {"projects": [select_fields("projects", body, call) for body in found]}

    def _create_projects(self, call: Call) -> Answer:
        made = self._service.projects.create(
            call.document["projects"], call.user, replace=bool(call.document.get("replace"))
        )
        self._service.evaluator.wake()
        return {"projects": made}

    def _get_project(self, call: Call) -> Answer:
        return {"projects": [self._project(call)]}

    def _update_project(self, call: Call) -> Answer:
        with self._service.store.transaction():
            body = self._project(call) | call.document["projects"][0] | {"id": call["project"]}
            self._service.store.save([body], user=call.user.id)
        self._service.evaluator.wake()
        return {"projects": [body]}

    def _delete_project(self, call: Call) -> Answer:
        """Delete a project and its contents."""
        self._project(call)
        self._service.projects.delete(call["project"])
        self._service.evaluator.wake()
        return {}

    def _copy_projects(self, call: Call) -> Answer:
        made = [
            self._service.projects.copy_project(source, call.user)
            for source in call.document["source_ids"]
        ]
        return self._done(call, {"destination_ids": made})

    def _make_bucket(self, _: Call) -> Answer:
        """Name a new bucket for an archive."""
        return {"project_dir": [f"archives-{now().translate(str.maketrans('', '', ':.+-'))}"]}

    def _archive_project(self, call: Call) -> Answer:
        """Archive a project to a file in the storage."""
        self._project(call)
        return self._done(call, {"backend_path": self._service.projects.archive(call["project"])})

    def _restore_project(self, call: Call) -> Answer:
        """Restore a project from an archive."""
        path = dict(call.parameters)["backend_path"]
        return self._done(call, {"project_id": self._service.projects.restore(path, call.user)})

    def _sync_jobs(self, call: Call) -> Answer:
        """Update jobs from their definitions."""
        self._service.projects.sync(call["project"], call.document["job_ids"], call.user)
        self._service.evaluator.wake()
        return {}

    def _list_objects(self, call: Call) -> Answer:
        kind, project = self._kind(call)
        parameters = [self._translated(kind, *pair) for pair in call.parameters]
        query = parse_query(kind, [pair for pairs in parameters for pair in pairs])
        if "count" in dict(call.parameters):
            return {f"num_{kind}": self._service.store.count(kind, query, project=project)}
        found = self._service.store.find(kind, query, project=project)
        return {kind: [select_fields(kind, body, call) for body in found]}

    def _translated(self, kind: str, name: str, value: str) -> list[tuple[str, str]]:
        """Translate a query for the jobs of an algorithm to one for their ids."""
        if (kind, name) != ("jobs", "algorithm_id"):
            return [(name, value)]
        return [
            ("id", job)
            for body in self._service.store.get("algorithms", [value])
            for job in ["", *body["job_ids"]]
        ]

    def _write_objects(self, call: Call) -> Answer:
        """Create objects of one kind (POST), or update them (PUT)."""
        kind, project = self._changeable(call)
        projects = self._service.projects
        is_new = call.request.method == "POST"
        write = projects.create_objects if is_new else projects.update_objects
        made = write(kind, project, call.document.get(kind, []), call.user)
        self._service.evaluator.wake()
        return {kind: [select_fields(kind, body, call) for body in made]}

    def _delete_objects(self, call: Call) -> Answer:
        kind, project = self._changeable(call)
        self._service.projects.delete_objects(kind, project, call.document.get("source_ids", []))
        self._service.evaluator.wake()
        return {}

    def _copy_objects(self, call: Call) -> Answer:
        kind, project = self._kind(call)
        made = self._service.projects.copy_objects(
            kind, project, call.document["source_ids"], call.user
        )
        return self._done(call, {"destination_ids": made})

    def _kind(self, call: Call) -> tuple[str, str]:
        """Return the kind and the project that the path names. Raises RequestError."""
        kind, project = call["kind"], call.request.path_params.get("project", "")
        if kind not in OBJECT_TYPES:
            raise RequestError(404, "Not Found", f"no such collection: {kind}")
        if project:
            self._project(call)
        return kind, project

    def _changeable(self, call: Call) -> tuple[str, str]:
        """Return kind and project of objects to change. Raises RequestError for what cannot be."""
        kind, project = self._kind(call)
        if kind == "permissions":
            raise RequestError(403, "Forbidden", f"{_EMBEDDED} has one user: permissions are fixed")
        for body in call.document.get(kind, []):
            faults = _refused(kind, body)
            if faults:
                what = f"{_EMBEDDED} does not support {', '.join(faults)}"
                raise RequestError(501, "Not Implemented", f"{kind}: {what}")
        return kind, project

    def _project(self, call: Call) -> Body:
        found = self._service.store.get("projects", [call["project"]])
        if not found:
            raise RequestError(404, "Not Found", f"project {call['project']} not found")
        return found[0]

    def _done(self, call: Call, result: Body) -> Response:
        """Return an operation that has already finished."""
        body = {"result": result, "start_time": now(), "end_time": now()}
        made = self._service.store.insert("operations", [body], user=call.user.id)[0]
        self._service.evaluator.wake()
        return JSONResponse({}, 202, headers={"Location": f"{_JMS}/operations/{made['id']}"})


def _refused(kind: str, body: Body) -> list[str]:
    """Return what this server would have to ignore in an object."""
    if kind in {"task_commands", "task_command_definitions"}:
        return ["commands to running tasks"]
    if kind == "job_definitions" and body.get("fitness_definition"):
        return ["fitness_definition"]
    is_new_mapping = kind == "parameter_mappings" and not body.get("id")
    return unsupported(body) if is_new_mapping else []
