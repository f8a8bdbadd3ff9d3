"""The console of a running task, from the monitor service of HPS."""

from __future__ import annotations

import queue
import ssl
import threading
from typing import Any

from offline_bundle.runner.engines.hps.connection.session import Session
from offline_bundle.runner.engines.hps.stored_files import CONSOLE_NAME
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

_WAIT_SECONDS = 3600.0
"""Time without a new line after which the connection is made again."""

_BACKLOG_LINES = 10_000


class ConsoleStream:
    """Collects the lines of a task in a thread."""

    def __init__(self, session: Session, project_id: str, job: str) -> None:
        """Connect. Raises `InputError` for an unknown job, `BundleError` for old clients."""
        try:
            from ansys.hps.client.monitor import MonitorApi  # type: ignore[import-untyped] # noqa: PLC0415 - since 0.13
        except ImportError as error:
            raise BundleError(
                "this version of ansys-hps-client cannot follow consoles",
                hint="install ansys-hps-client 0.13 or newer, or leave out --follow",
            ) from error
        server = session.server
        verify = {"cert_reqs": ssl.CERT_NONE} if server.is_insecure else {}
        trusted = {"ca_certs": str(server.ca_file)} if server.ca_file else {}
        self._api: Any = MonitorApi(
            session.client,
            ws_connection_options={"sslopt": verify | trusted},
            timeout_seconds=_WAIT_SECONDS,
        )
        self._task = _find_task(session, project_id, job)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._collect, daemon=True, name="console")
        self._thread.start()

    def read(self) -> str:
        """Return new lines; empty if there are none."""
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return "".join(f"{line}\n" for line in lines)

    def finish(self, seconds: float) -> None:
        """Wait for the last lines of a task that has ended."""
        self._thread.join(seconds)

    def _collect(self) -> None:
        messages = self._api.stream_task_logs(
            self._task, file_path=CONSOLE_NAME, backlog=_BACKLOG_LINES
        )
        try:
            for message in messages:
                text = message.get("message", message.get("description", ""))
                self._lines.put(str(text).rstrip("\n"))
        except Exception as error:  # noqa: BLE001 - the jobs do not depend on it
            self._lines.put(f"the console cannot be followed: {error}")


def _find_task(session: Session, project_id: str, job: str) -> str:
    api = session.project(project_id)
    jobs = session.retry_until_available(
        lambda: api.get_jobs(as_objects=False, name=job, fields=["id"])
    )
    if not jobs:
        raise InputError(f"there is no job {job}", hint="name one such as job-0001, or its number")
    tasks = session.retry_until_available(
        lambda: api.get_tasks(as_objects=False, job_id=jobs[0]["id"], fields=["id"])
    )
    return str(tasks[0]["id"])
