"""The monitor service: the console of a running task, line by line, over a WebSocket.

The client sends `{"action": "subscribe", "topics": [{"task_id": …, "client_type": …}], "backlog":
{"limit": 100}}`, and gets one JSON message for each line. The connection ends with the task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from offline_bundle.runner.hps_server.auth import AuthError
from offline_bundle.runner.hps_server.store.database import now
from offline_bundle.runner.hps_server.store.projects import CONSOLE
from offline_bundle.runner.hps_server.web import BUILD, PREFIX, Service

FILE_TAIL = "ansys.rep.evaluator.file_tail"
"""The one kind of message: lines of a file."""

_CONSOLE_PATH = "console_output.txt"
_POLL_SECONDS = 0.2
_UNDER_WAY = {"pending", "prolog", "running"}


class MonitorApi:
    """Handlers of the monitor interface."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        information = {"build": BUILD | {"version": "embedded"}}
        return [
            self._service.route(f"{PREFIX}/dcs/monitor/api", lambda _: information),
            WebSocketRoute(f"{PREFIX}/monitor/ws/topics", self._stream),
        ]

    async def _stream(self, socket: WebSocket) -> None:
        """Send the lines of the task that the client's command names."""
        await socket.accept()
        try:
            command = await socket.receive_json()
            fault = self._fault(socket, command)
            if fault:
                await socket.send_json({"title": "error", "description": fault})
            else:
                topic = command["topics"][0]
                limit = int((command.get("backlog") or {}).get("limit", 100))
                async for line in self._lines(str(topic["task_id"]), limit):
                    await socket.send_json(_message(topic, line))
            await socket.close()
        except (WebSocketDisconnect, ValueError, KeyError, RuntimeError):
            return  # the client has left, or sent no command

    def _fault(self, socket: WebSocket, command: dict[str, Any]) -> str | None:
        header = socket.headers.get("authorization", "").partition(" ")[2]
        try:
            socket.state.user = self._service.accounts.check(
                header or str(command.get("token") or "")
            )
        except AuthError as error:
            return error.description
        topics = command.get("topics") or [{}]
        wanted = topics[0].get("client_type"), topics[0].get("file_path", _CONSOLE_PATH)
        is_known = command.get("action") == "subscribe" and len(topics) == 1
        if not is_known or wanted != (FILE_TAIL, _CONSOLE_PATH):
            return "the embedded HPS streams only the console of one task"
        return None

    async def _lines(self, task_id: str, backlog: int) -> AsyncIterator[str]:
        """Yield the last *backlog* lines, and those that are added until the task has ended."""
        offset, rest, is_first = 0, b"", True
        while True:
            path, is_ended = await run_in_threadpool(self._console, task_id)
            content = await run_in_threadpool(_read_from, path, offset) if path else b""
            offset += len(content)
            *lines, rest = (rest + content).split(b"\n")
            if is_ended and rest:
                lines.append(rest)
            for line in lines[-backlog or len(lines) :] if is_first else lines:
                yield line.decode(errors="replace")
            is_first = is_first and not path
            if is_ended:
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _console(self, task_id: str) -> tuple[Path | None, bool]:
        """Return the file of a task's console, and whether the task has ended."""
        found = self._service.store.get("tasks", [task_id])
        if not found:
            return None, True
        if found[0]["eval_status"] in _UNDER_WAY:
            return self._service.evaluator.console(task_id), False
        files = self._service.store.get("files", found[0]["output_file_ids"] or [])
        project = self._service.store.project_of(task_id)
        paths = [
            self._service.storage.path(f"{project}/{file['storage_id']}")
            for file in files
            if file["name"] == CONSOLE
        ]
        return (paths[0] if paths else None), True


def _message(topic: dict[str, Any], line: str) -> dict[str, Any]:
    return {"time": now(), "message": line, "tags": {"file_path": _CONSOLE_PATH, **topic}}


def _read_from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read()
    except OSError:  # the task has just ended: the next look finds the stored file
        return b""
