"""Requests and responses: routes, checked tokens, errors as JSON."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from offline_bundle.runner.hps_server.auth import Accounts, AuthError, User
from offline_bundle.runner.hps_server.evaluation.evaluator import Evaluator
from offline_bundle.runner.hps_server.store.database import (
    Body,
    Store,
    UnknownFieldError,
    parse_json,
)
from offline_bundle.runner.hps_server.store.file_storage import Storage, UnsafePathError
from offline_bundle.runner.hps_server.store.object_types import OBJECT_TYPES
from offline_bundle.runner.hps_server.store.projects import Projects
from offline_bundle.wheelhouse.runtime.sizes import format_size
from offline_bundle.wheelhouse.runtime.text import shown

BUILD = {
    "version": "1.1.225",
    "version_hash": "",
    "branch": "embedded",
    "timestamp": "",
    "name": "offline-bundle",
}
"""The version whose behaviour is implemented: the client requires 1.1.60 or newer."""

PREFIX = "/hps"

_PUBLIC_LIMIT = 64 << 10
"""Most bytes of the body of a request without a token."""

_JSON_LIMIT = 64 << 20
"""Most bytes of a JSON document. Contents of files have no limit: they go to the disk."""

Answer = dict[str, Any] | list[Any] | Response
"""What a handler returns: JSON, or a whole response."""


class RequestError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, title: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.title = f"{status} {title}"


@dataclass(frozen=True)
class Call:
    """A request with its body and its user."""

    request: Request
    body: bytes
    user: User

    @property
    def document(self) -> Body:
        """The body as JSON."""
        try:
            document = parse_json(self.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise RequestError(400, "Bad Request", f"the body is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise RequestError(400, "Bad Request", "the body is not a JSON object")
        return document

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query, in order, with repetitions. Raises RequestError for an invalid number."""
        parameters: list[tuple[str, str]] = self.request.query_params.multi_items()
        for name, value in parameters:
            if name in {"limit", "offset"} and not re.fullmatch("-?[0-9]{1,18}", value):
                raise RequestError(400, "Bad Request", f"{name} is not a number: {shown(value)}")
        return parameters

    def __getitem__(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])


class Service:
    """The parts of the server that handlers use."""

    def __init__(
        self, accounts: Accounts, projects: Projects, storage: Storage, evaluator: Evaluator
    ) -> None:
        self.accounts = accounts
        self.projects = projects
        self.store: Store = projects.store
        self.storage = storage
        self.evaluator = evaluator

    def route(
        self,
        path: str,
        handler: Callable[[Call], Answer],
        method: str = "GET",
        *,
        is_public: bool = False,
    ) -> Route:
        """Return a route whose handler runs in a thread after the token is checked."""

        async def answer(request: Request) -> Response:
            # why before the body is read: without a token, a request must not fill the memory
            user = User("") if is_public else self.check(request)
            body = await read_body(request, limit=_PUBLIC_LIMIT if is_public else _JSON_LIMIT)
            result = await run_in_threadpool(handler, Call(request, body, user))
            if isinstance(result, Response):
                return result
            return await run_in_threadpool(JSONResponse, result)

        async def endpoint(request: Request) -> Response:
            return await respond(lambda: answer(request))

        return Route(path, endpoint, methods=[method])

    def check(self, request: Request) -> User:
        """Return the user of a request. Raises RequestError."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            user = self.accounts.check(token if scheme.lower() == "bearer" else "")
        except AuthError as error:
            raise RequestError(401, "Unauthorized", error.description) from None
        request.state.user = user  # such a request keeps its connection
        return user


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the body. Raises RequestError as soon as it has more than *limit* bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            description = f"the body is larger than {format_size(limit)}"
            raise RequestError(413, "Content Too Large", description)
    return bytes(body)


async def respond(answer: Callable[[], Awaitable[Response]]) -> Response:
    """Await *answer*; turn exceptions into error responses."""
    try:
        return await answer()
    except RequestError as error:
        return JSONResponse({"title": error.title, "description": str(error)}, error.status)
    except Exception as error:  # noqa: BLE001 - a request must not end the server
        is_missing = isinstance(error, (UnsafePathError, FileNotFoundError, LookupError))
        title = "404 Not Found" if is_missing else "500 Internal Server Error"
        is_message = isinstance(error, UnknownFieldError)  # as a real server words it
        description = str(error) if is_message else f"{type(error).__name__}: {error}"
        return JSONResponse({"title": title, "description": description}, int(title[:3]))


def make_starlette(routes: Sequence[BaseRoute]) -> Starlette:
    """Return the application; a slash at the end of a path is optional."""
    slashed = [
        Route(f"{route.path}/", route.endpoint, methods=[*(route.methods or ())])
        for route in routes
        if isinstance(route, Route)
    ]
    handlers = {404: _unknown_route, 405: _unknown_route}
    return Starlette(routes=[*routes, *slashed], exception_handlers=handlers)


def _unknown_route(request: Request, error: Exception) -> Response:
    del error
    description = f"the embedded HPS has no route {request.method} {request.url.path}"
    return JSONResponse({"title": "404 Not Found", "description": description}, 404)


def select_fields(kind: str, body: Body, call: Call) -> Body:
    """Return the requested fields, and always the id."""
    wanted = {
        part for name, value in call.parameters if name == "fields" for part in value.split(",")
    }
    if "all" in wanted:
        return body
    if wanted:
        return {name: value for name, value in body.items() if name in wanted or name == "id"}
    hidden = OBJECT_TYPES[kind].left_out if kind else frozenset()
    return {name: value for name, value in body.items() if name not in hidden}
