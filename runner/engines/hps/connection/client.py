"""The real `ansys-hps-client`, with its gaps closed.

- The client's file transfer neither verifies the server nor the worker program that it downloads
  from it and runs: here it verifies as the session does.
- A refreshed token does not reach the running worker: here it does.
- It reports that files were not transferred, without the reason, also where only a question about
  the state had no answer: here it asks again, and the reason is in the error.
- Its requests have no time limit: here they have.

Importing this module imports the client, which takes more than a second: import it late.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from ansys.hps.client import Client  # type: ignore[import-untyped]
from ansys.hps.data_transfer.client import Client as TransferClient  # type: ignore[import-untyped]
from ansys.hps.data_transfer.client import DataTransferApi
from ansys.hps.data_transfer.client.exceptions import HPSError as TransferError  # type: ignore[import-untyped]
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from offline_bundle.runner.engines.hps.connection.client_errors import (
    TransferFailedError,
    WorkerStartError,
    error_reason,
)
from offline_bundle.runner.engines.hps.connection.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    import requests


CONNECT_SECONDS = 10.0
_READ_SECONDS = 120.0

_WORKER_SECONDS = 10.0
"""Time that a worker has to listen on its port."""

_POLL_PAUSES = (0.5, 2.0)
"""Seconds between questions about the state of a transfer that had no answer."""

_STOP_SECONDS = 1.0
"""Time that a worker has to end before it is killed; the client looks ten times in that time."""


def make_client(server: Server) -> VerifyingClient:
    """Sign in. Raises the client's errors."""
    client = VerifyingClient(server.url, verify=server.verify, **_credentials(server))
    adapter = _TimedAdapter(
        max_retries=Retry(total=2, backoff_factor=0.2, status_forcelist=[502, 503, 504])
    )
    client.session.mount("http://", adapter)
    client.session.mount("https://", adapter)
    return client


def _credentials(server: Server) -> dict[str, str]:
    if server.token:
        return {"access_token": server.token}
    if server.client_id:
        return {"client_id": server.client_id, "client_secret": server.client_secret}
    return {"username": server.username, "password": server.password}


def close_client(client: Any) -> None:  # noqa: ANN401
    """Stop the threads of the client and its file transfer worker."""
    stop = getattr(client, "_stop_event", None)
    if stop is not None:
        stop.set()
    transfer = getattr(client, "_dt_client", None)
    if transfer is not None:
        with contextlib.suppress(Exception):  # it may have ended already
            transfer.stop(wait=_STOP_SECONDS)
    folder = getattr(client, "_own_directory", None)
    if folder is not None:
        folder.cleanup()
    client.session.close()


class VerifyingClient(Client):  # type: ignore[misc] # the client is not typed
    """The client, with a file transfer that verifies the server as the session does."""

    _dt_client: Any = None
    _dt_api: Any = None
    _own_directory: tempfile.TemporaryDirectory[str] | None = None

    def initialize_data_transfer_client(self) -> None:
        """Start the worker that transfers files."""
        if self._dt_client is not None:
            return
        transfer = _Transfer(download_dir=self._worker_directory())
        transfer.binary_config.update(
            insecure=self.verify is False,
            token=self.access_token,
            data_transfer_url=self.data_transfer_url,
        )
        try:
            transfer.start()
            api = _TransferApi(transfer)
            api.status(wait=True)
        except Exception as error:  # starting a foreign program may raise anything
            with contextlib.suppress(Exception):
                transfer.stop()
            raise WorkerStartError(error_reason(error)) from error
        self._dt_client, self._dt_api = transfer, api

    def refresh_access_token(self) -> None:
        """Renew the token, for the worker too."""
        super().refresh_access_token()
        if self._dt_client is not None:
            self._dt_client.binary_config.update(token=self.access_token)

    def _worker_directory(self) -> str:
        """Return the folder of the worker: the client's own, or one that allows execution.

        The client starts the worker through a shell without quoting, so the path has no spaces.
        """
        home = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "HOME")
        is_usable = home and not re.search(r"\s", home) and os.access(home, os.W_OK)
        if home and is_usable and not _is_noexec(home):
            company = "Ansys" if os.name == "nt" else ".ansys"
            return str(Path(home) / company / "hps" / "data-transfer" / "binaries")
        if self._own_directory is None:
            self._own_directory = tempfile.TemporaryDirectory(prefix="hps-worker-")
        return self._own_directory.name


class _Transfer(TransferClient):  # type: ignore[misc] # the client is not typed
    """The client's file transfer; it closes the connections and pipes that it opens."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        self._opened: list[httpx.Client] = []
        super().__init__(*args, **options)

    def stop(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """Stop the worker and its monitor."""
        process = getattr(self.binary, "_process", None)
        super().stop(*args, **options)
        while self._opened:
            self._opened.pop().close()
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            process.stdout.close()

    def _create_session(self, *args: Any, **options: Any) -> httpx.Client:  # noqa: ANN401
        """Open a session once the worker listens: the client waits three seconds only."""
        if self.binary is not None:
            _wait_for_port(self.binary_config.host, self.binary_config.port)
        session: httpx.Client = super()._create_session(*args, **options)
        self._opened.append(session)
        return session


class _TransferApi(DataTransferApi):  # type: ignore[misc] # the client is not typed
    """The client's transfers, of which each failure has a reason."""

    def wait_for(self, *args: Any, **options: Any) -> Sequence[Any]:  # noqa: ANN401
        """Return the operations, all successful. Raises `TransferFailedError`, `CLIENT_ERRORS`."""
        options["raise_on_error"] = True
        for pause in _POLL_PAUSES:
            with contextlib.suppress(httpx.HTTPError, TransferError):
                operations = super().wait_for(*args, **options)
                break
            time.sleep(pause)  # the worker is busy, or its token is renewed
        else:
            operations = super().wait_for(*args, **options)
        if not operations:
            raise TransferError("the worker was restarted")
        for operation in operations:
            if operation.state.value == "failed":
                raise TransferFailedError(str(operation.error or "").strip() or "no reason given")
        return operations  # type: ignore[no-any-return]


class _TimedAdapter(HTTPAdapter):
    """Requests with time limits; the client's have none."""

    def send(
        self,
        request: requests.PreparedRequest,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> requests.Response:
        """Send with time limits."""
        kwargs["timeout"] = kwargs.get("timeout") or (CONNECT_SECONDS, _READ_SECONDS)
        return super().send(request, *args, **kwargs)


def _wait_for_port(host: str, port: int | None) -> None:
    """Return as soon as the port accepts connections, or after a time limit."""
    deadline = time.monotonic() + _WORKER_SECONDS
    while port and time.monotonic() < deadline:
        with socket.socket() as connection:
            if connection.connect_ex((host, port)) == 0:
                return
        time.sleep(0.02)


def _is_noexec(directory: str) -> bool:
    if not hasattr(os, "statvfs"):
        return False
    return bool(os.statvfs(directory).f_flag & getattr(os, "ST_NOEXEC", 0))
