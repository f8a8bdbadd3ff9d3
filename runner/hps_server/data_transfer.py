"""The data transfer service: upload, download, and the worker that the client runs."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from offline_bundle.runner.hps_server.web import BUILD, PREFIX, Answer, Call, Service, respond

_DT = f"{PREFIX}/dt/api/v1"


class DataTransferApi:
    """Handlers of the data transfer interface."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._storage = service.storage
        self._program = _worker_program()
        self._hash = hashlib.sha256(self._program).hexdigest()[:16]

    def routes(self) -> list[Route]:
        """Return the routes."""
        route = self._service.route
        return [
            route(_DT, self._information, is_public=True),
            route(
                f"{_DT}/binaries/worker/{{platform}}/{{name}}", self._send_program, is_public=True
            ),
            route(f"{_DT}/token", self._token, "POST"),
            route(f"{_DT}/storage:{{action}}", self._perform, "POST"),
            route(f"{_DT}/metadata:get", self._metadata, "POST"),
            route(f"{_DT}/data/{{path:path}}", self._download),
            Route(f"{_DT}/data/{{path:path}}", self._upload, methods=["PUT"]),
        ]

    def _information(self, _: Call) -> Answer:
        """Return the hash of the worker: it changes with its text, so old ones are not used."""
        features = {"auth_types": ["api-key"], "storage_plugins": ["local"]}
        build = BUILD | {"version_hash": self._hash}
        return {"build_info": build, "features": features, "ready": True}

    def _send_program(self, _: Call) -> Answer:
        return Response(self._program, media_type="application/octet-stream")

    def _token(self, call: Call) -> Answer:
        """Return the user of the token, and a long-lived token for the worker."""
        return {"token": self._service.accounts.worker_token(call.user), "user": call.user.name}

    def _perform(self, call: Call) -> Answer:
        """Run storage operations that do not involve the client's disk."""
        done = [
            self._storage.perform(call["action"], operation)
            for operation in call.document["operations"]
        ]
        return {"result": dict(done)}

    def _metadata(self, call: Call) -> Answer:
        """Return sizes and checksums."""
        return {"result": {path: self._storage.metadata(path) for path in call.document["paths"]}}

    def _download(self, call: Call) -> Answer:
        path = self._storage.path(call["path"])
        if not path.is_file():
            raise FileNotFoundError(call["path"])
        return FileResponse(path, media_type="application/octet-stream")

    async def _upload(self, request: Request) -> Response:
        """Store the content of a file, in chunks."""

        async def receive() -> Response:
            self._service.check(request)
            name = str(request.path_params["path"])
            stream, partial = self._storage.begin(name)
            try:
                with stream:
                    async for chunk in request.stream():
                        stream.write(chunk)
                self._storage.commit(partial, name)
            finally:
                partial.unlink(missing_ok=True)
            return JSONResponse({})

        return await respond(receive)


def _worker_program() -> bytes:
    """Return `worker.py` with a first line that starts it whatever the PATH of the client is.

    A `#!` line allows neither blanks nor long paths: as in scripts that pip installs, sh reads the
    second line.
    """
    head = f"#!/bin/sh\n'''exec' \"{sys.executable}\" -IS \"$0\" \"$@\"\n' '''\n"
    return head.encode() + (Path(__file__).parent / "worker.py").read_bytes()
