"""The HTTP interface: authentication, job management, resource management; `transfer.py` adds file transfer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offline_bundle.runner.hps_server.auth import CLIENT_ID, Accounts, AuthError, User
from offline_bundle.runner.hps_server.kinds import KINDS
from offline_bundle.runner.hps_server.storage import DEFAULT_SCRIPTS, UnsafePathError
from offline_bundle.runner.hps_server.store import UnknownFieldError, now, parse_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from offline_bundle.runner.hps_server.evaluator import Evaluator
    from offline_bundle.runner.hps_server.projects import Projects
    from offline_bundle.runner.hps_server.storage import Storage
    from offline_bundle.runner.hps_server.store import Body, Store

BUILD = {
    "version": "1.1.225",
    "version_hash": "",
    "branch": "embedded",
    "timestamp": "",
    "name": "offline-bundle",
}
"""The version whose behaviour is followed: the client asks for at least 1.1.60."""

PREFIX = "/hps"
_REALM = f"{PREFIX}/auth/realms/{{realm}}"
_ADMIN = f"{PREFIX}/auth/admin/realms/{{realm}}"
_JMS = f"{PREFIX}/jms/api/v1"
_RMS = f"{PREFIX}/rms/api/v1"
_RMS_LIMIT = 10


Answer = dict[str, Any] | list[Any] | Response
"""What a handler gives: JSON, or a whole response."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, title: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.title = f"{status} {title}"


@dataclass(frozen=True)
class Call:
    """A request with its body read and its user known."""

    request: Request
    body: bytes
    user: User

    @property
    def document(self) -> Body:
        """The body as JSON."""
        try:
            document = json.loads(self.body or b"{}")
        except ValueError as error:
            raise RefusedError(400, "Bad Request", f"the body is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise RefusedError(400, "Bad Request", "the body is not a JSON object")
        return document

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query, in order, with repetitions."""
        return self.request.query_params.multi_items()

    def __getitem__(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])


class App:
    """The server's parts and the handlers over them."""

    def __init__(
        self, accounts: Accounts, projects: Projects, storage: Storage, evaluator: Evaluator
    ) -> None:
        self.accounts = accounts
        self.projects = projects
        self.store: Store = projects.store
        self.storage = storage
        self.evaluator = evaluator

    def routes(self) -> list[Route]:
        """Return the routes; one of a fixed name stands before the general one."""
        project = f"{_JMS}/projects/{{project}}"
        return [
            self.route(
                f"{_REALM}/.well-known/openid-configuration", self.discovery, is_public=True
            ),
            self.route(
                f"{_REALM}/protocol/openid-connect/token", self.token, "POST", is_public=True
            ),
            self.route(f"{_ADMIN}/clients", self.clients),
            self.route(f"{_ADMIN}/users", self.users),
            self.route(f"{_ADMIN}/users/{{id}}", self.user),
            self.route(f"{_ADMIN}/users/{{id}}/groups", lambda _: []),
            self.route(
                f"{_ADMIN}/users/{{id}}/role-mappings/realm",
                lambda _: [{"id": "admin", "name": "admin"}],
            ),
            self.route(_JMS, self.information, is_public=True),
            self.route(f"{_JMS}/storage", self.backends),
            self.route(f"{_JMS}/operations/{{id}}", self.operation),
            self.route(f"{_JMS}/projects", self.list_projects),
            self.route(f"{_JMS}/projects", self.create_projects, "POST"),
            self.route(f"{_JMS}/projects:copy", self.copy_projects, "POST"),
            self.route(f"{_JMS}/projects/dir", self.make_bucket, "POST"),
            self.route(f"{_JMS}/projects/archive", self.restore_project, "POST"),
            self.route(project, self.get_project),
            self.route(project, self.update_project, "PUT"),
            self.route(project, self.delete_project, "DELETE"),
            self.route(f"{project}/storage", self.backends),
            self.route(f"{project}/archive", self.archive_project, "PUT"),
            self.route(f"{project}/jobs:sync", self.sync_jobs, "PUT"),
            *self._collection(f"{project}/{{kind}}"),
            *self._collection(f"{_JMS}/{{kind}}"),
            self.route(_RMS, lambda _: {"build": BUILD | {"version": "1.2.177"}, "time": now()}),
            self.route(f"{PREFIX}/rcs/healthz", lambda _: {"status": "alive"}),
            self.route(
                f"{PREFIX}/rcs/api/v1",
                lambda _: {"build": BUILD | {"version": "0.1.265"}, "time": now()},
            ),
            self.route(f"{_RMS}/analyze", self.analyze, "POST"),
            self.route(f"{_RMS}/{{kind}}:count", self.count_resources),
            self.route(
                f"{_RMS}/evaluators/{{id}}/configuration", lambda _: self.evaluator.configuration()
            ),
            self.route(f"{_RMS}/evaluators/{{id}}/configuration_updates", self.configure, "POST"),
            self.route(f"{_RMS}/{{kind}}", self.list_resources),
        ]

    def _collection(self, path: str) -> list[Route]:
        return [
            self.route(f"{path}:copy", self.copy_objects, "POST"),
            self.route(path, self.list_objects),
            self.route(path, self.create_objects, "POST"),
            self.route(path, self.update_objects, "PUT"),
            self.route(path, self.delete_objects, "DELETE"),
        ]

    def route(
        self,
        path: str,
        handler: Callable[[Call], Answer],
        method: str = "GET",
        *,
        is_public: bool = False,
    ) -> Route:
        """Make a route whose handler runs in a thread, after the token was checked."""

        async def endpoint(request: Request) -> Response:
            body = await request.body()

            def answer() -> Response:
                user = User("") if is_public else self.check(request)
                result = handler(Call(request, body, user))
                return result if isinstance(result, Response) else JSONResponse(result)

            return await respond(lambda: run_in_threadpool(answer))

        return Route(path, endpoint, methods=[method])

    def check(self, request: Request) -> User:
        """Return the user of a request. Raises RefusedError."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            return self.accounts.check(token if scheme.lower() == "bearer" else "")
        except AuthError as error:
            raise RefusedError(401, "Unauthorized", error.description) from None

    # --- authentication ---

    def discovery(self, call: Call) -> Answer:
        """Tell where tokens are."""
        issuer = _issuer(call)
        return {"issuer": issuer, "token_endpoint": f"{issuer}/protocol/openid-connect/token"}

    def token(self, call: Call) -> Answer:
        """Give tokens for a password, a refresh token or a client's secret."""
        try:
            return self.accounts.issue(dict(parse_qsl(call.body.decode())), _issuer(call))
        except AuthError as error:
            return JSONResponse({"error": error.error, "error_description": error.description}, 401)

    def clients(self, call: Call) -> Answer:
        """List the OAuth clients; the secret is for the user, not for the client itself."""
        if call.user != self.accounts.user:
            raise RefusedError(403, "Forbidden", "this account may not see clients")
        return [{"id": CLIENT_ID, "clientId": CLIENT_ID, "secret": self.accounts.client_secret}]

    def users(self, call: Call) -> Answer:
        """List the accounts, which is one, by the conditions given."""
        query = dict(call.parameters)
        found = self.accounts.user.document()
        return (
            [found]
            if all(found[name] == query[name] for name in found.keys() & query.keys())
            else []
        )

    def user(self, call: Call) -> Answer:
        """Show one account."""
        for user in (self.accounts.user, self.accounts.service):
            if user.id == call["id"]:
                return user.document()
        raise RefusedError(404, "Not Found", "User not found")

    # --- job management ---

    def information(self, call: Call) -> Answer:
        """Tell version and addresses."""
        auth = f"{call.request.base_url}".rstrip("/") + f"{PREFIX}/auth/realms/rep"
        settings = {
            "execution_script_bucket": "execution_scripts",
            "execution_script_default_bucket": DEFAULT_SCRIPTS,
            "admin_keys": ["admin"],
        }
        services = {"auth_url": auth, "external_auth_url": auth}
        return {"build": BUILD, "services": services, "settings": settings, "time": now()}

    def backends(self, _: Call) -> Answer:
        """List the storages."""
        return {"backends": [{"name": "files", "priority": 1, "obj_type": "DataTransferService"}]}

    def operation(self, call: Call) -> Answer:
        """Show one operation."""
        return {"operations": self.store.get("operations", [call["id"]])}

    def list_projects(self, call: Call) -> Answer:
        """List projects, with statistics where asked."""
        if "count" in dict(call.parameters):
            return {
                "num_projects": self.store.count(
                    "projects", parse_query("projects", call.parameters)
                )
            }
        found = self.store.find("projects", parse_query("projects", call.parameters))
        if dict(call.parameters).get("statistics") == "True":
            found = [body | {"statistics": self.store.statistics(body["id"])} for body in found]
        return {"projects": [_shorten("projects", body, call) for body in found]}

    def create_projects(self, call: Call) -> Answer:
        """Create projects."""
        made = self.projects.create(
            call.document["projects"], call.user, replace=bool(call.document.get("replace"))
        )
        self.evaluator.wake()
        return {"projects": made}

    def get_project(self, call: Call) -> Answer:
        """Show one project."""
        return {"projects": [self._project(call)]}

    def update_project(self, call: Call) -> Answer:
        """Change a project."""
        with self.store.transaction():
            body = self._project(call) | call.document["projects"][0] | {"id": call["project"]}
            self.store.save([body], user=call.user.id)
        self.evaluator.wake()
        return {"projects": [body]}

    def delete_project(self, call: Call) -> Answer:
        """Remove a project and all that is in it."""
        self._project(call)
        self.projects.delete(call["project"])
        self.evaluator.wake()
        return {}

    def copy_projects(self, call: Call) -> Answer:
        """Copy projects."""
        made = [
            self.projects.copy_project(source, call.user) for source in call.document["source_ids"]
        ]
        return self._done(call, {"destination_ids": made})

    def make_bucket(self, _: Call) -> Answer:
        """Name a new bucket for an archive."""
        return {"project_dir": [f"archives-{now().translate(str.maketrans('', '', ':.+-'))}"]}

    def archive_project(self, call: Call) -> Answer:
        """Put a project into a file of the storage."""
        self._project(call)
        return self._done(call, {"backend_path": self.projects.archive(call["project"])})

    def restore_project(self, call: Call) -> Answer:
        """Make a project from such a file."""
        path = dict(call.parameters)["backend_path"]
        return self._done(call, {"project_id": self.projects.restore(path, call.user)})

    def sync_jobs(self, call: Call) -> Answer:
        """Bring jobs up to date with their definitions."""
        self.projects.sync(call["project"], call.document["job_ids"], call.user)
        self.evaluator.wake()
        return {}

    def list_objects(self, call: Call) -> Answer:
        """List the objects of one kind."""
        kind, project = self._kind(call)
        parameters = [self._translated(kind, *pair) for pair in call.parameters]
        query = parse_query(kind, [pair for pairs in parameters for pair in pairs])
        if "count" in dict(call.parameters):
            return {f"num_{kind}": self.store.count(kind, query, project=project)}
        return {
            kind: [
                _shorten(kind, body, call) for body in self.store.find(kind, query, project=project)
            ]
        }

    def _translated(self, kind: str, name: str, value: str) -> list[tuple[str, str]]:
        """Jobs may be asked for by their algorithm, which knows them."""
        if (kind, name) != ("jobs", "algorithm_id"):
            return [(name, value)]
        return [
            ("id", job)
            for body in self.store.get("algorithms", [value])
            for job in ["", *body["job_ids"]]
        ]

    def create_objects(self, call: Call) -> Answer:
        """Create objects of one kind."""
        kind, project = self._kind(call)
        made = self.projects.create_objects(kind, project, call.document.get(kind, []), call.user)
        self.evaluator.wake()
        return {kind: [_shorten(kind, body, call) for body in made]}

    def update_objects(self, call: Call) -> Answer:
        """Change objects of one kind."""
        kind, project = self._kind(call)
        made = self.projects.update_objects(kind, project, call.document.get(kind, []), call.user)
        self.evaluator.wake()
        return {kind: [_shorten(kind, body, call) for body in made]}

    def delete_objects(self, call: Call) -> Answer:
        """Remove objects of one kind."""
        kind, project = self._kind(call)
        self.projects.delete_objects(kind, project, call.document.get("source_ids", []))
        self.evaluator.wake()
        return {}

    def copy_objects(self, call: Call) -> Answer:
        """Copy objects of one kind."""
        kind, project = self._kind(call)
        made = self.projects.copy_objects(kind, project, call.document["source_ids"], call.user)
        return self._done(call, {"destination_ids": made})

    def _kind(self, call: Call) -> tuple[str, str]:
        """Return the kind and the project that the path names. Raises RefusedError."""
        kind, project = call["kind"], call.request.path_params.get("project", "")
        if kind not in KINDS:
            raise RefusedError(404, "Not Found", f"there is no collection {kind}")
        if project:
            self._project(call)
        return kind, project

    def _project(self, call: Call) -> Body:
        found = self.store.get("projects", [call["project"]])
        if not found:
            raise RefusedError(404, "Not Found", f"project {call['project']} not found")
        return found[0]

    def _done(self, call: Call, result: Body) -> Response:
        """Answer with an operation, which has ended already."""
        body = {"result": result, "start_time": now(), "end_time": now()}
        made = self.store.insert("operations", [body], user=call.user.id)[0]
        self.evaluator.wake()
        return JSONResponse({}, 202, headers={"Location": f"{_JMS}/operations/{made['id']}"})

    # --- resource management ---

    def list_resources(self, call: Call) -> Answer:
        """List evaluators, or scalers and resource sets, of which there are none."""
        found = self._resources(call)
        limit = int(dict(call.parameters).get("limit", _RMS_LIMIT))
        return {call["kind"]: [_shorten("", body, call) for body in found[:limit]]}

    def count_resources(self, call: Call) -> Answer:
        """Count them."""
        return {f"num_{call['kind']}": len(self._resources(call))}

    def _resources(self, call: Call) -> list[Body]:
        if call["kind"] not in {"evaluators", "scalers", "compute_resource_sets"}:
            raise RefusedError(404, "Not Found", f"there is no collection {call['kind']}")
        return [self.evaluator.registration()] if call["kind"] == "evaluators" else []

    def configure(self, call: Call) -> Answer:
        """Accept a change of the evaluator's configuration; it is told back, and nothing else."""
        return {"configuration_updates": call.document["configuration_updates"]}

    def analyze(self, call: Call) -> Answer:
        """Compare requirements with this machine."""
        software = call.document.get("software_requirements") or []
        resources = call.document.get("resource_requirements") or {}
        can_run = self.evaluator.can_run(json.dumps(software))
        verdict = dict.fromkeys(
            ("has_platform", "has_hardware", "has_custom", "accessible", "assignable"), True
        )
        entry = {
            "resource_requirements": resources,
            "software_requirements": software,
            "requirements": verdict | {"has_applications": can_run},
            "evaluator_id": self.evaluator.id,
        }
        names = ("matching", "assignable", "accessible_assignable_and_matching", "accessible")
        counts = {f"number_{name}": int(can_run or "matching" not in name) for name in names}
        wants_counts = dict(call.parameters).get("analytics") == "True"
        return {"analytics": counts if wants_counts else None, "evaluators": [entry], "scalers": []}


async def respond(answer: Callable[[], Awaitable[Response]]) -> Response:
    """Await *answer*; turn what it raises into an answer of its own."""
    try:
        return await answer()
    except RefusedError as error:
        return JSONResponse({"title": error.title, "description": str(error)}, error.status)
    except (UnsafePathError, FileNotFoundError, IndexError, KeyError) as error:
        return JSONResponse(
            {"title": "404 Not Found", "description": f"{type(error).__name__}: {error}"}, 404
        )
    except UnknownFieldError as error:
        return JSONResponse({"title": "500 Internal Server Error", "description": str(error)}, 500)
    except Exception as error:  # noqa: BLE001 - whatever a request causes must not end the server
        description = f"{type(error).__name__}: {error}"
        return JSONResponse({"title": "500 Internal Server Error", "description": description}, 500)


def make_starlette(routes: list[Route]) -> Starlette:
    """Return the application; every path answers with and without a slash at its end."""
    slashed = [
        Route(
            f"{route.path}/",
            route.endpoint,
            methods=[*(route.methods or ())],
            include_in_schema=False,
        )
        for route in routes
    ]
    return Starlette(routes=[route for pair in zip(routes, slashed, strict=True) for route in pair])


def _issuer(call: Call) -> str:
    base = f"{call.request.base_url}".rstrip("/")
    return f"{base}{_REALM.format(realm=call['realm'])}"


def _shorten(kind: str, body: Body, call: Call) -> Body:
    """Keep the fields that were asked for; the id always."""
    wanted = {
        part for name, value in call.parameters if name == "fields" for part in value.split(",")
    }
    if "all" in wanted:
        return body
    if wanted:
        return {name: value for name, value in body.items() if name in wanted or name == "id"}
    hidden = KINDS[kind].left_out if kind else frozenset()
    return {name: value for name, value in body.items() if name not in hidden}
