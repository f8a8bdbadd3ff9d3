"""Start and stop the server: data directory, certificate, socket, threads."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import trustme
import uvicorn
from starlette.applications import Starlette

from offline_bundle.runner.hps_server.auth import Accounts
from offline_bundle.runner.hps_server.auth_api import AuthApi
from offline_bundle.runner.hps_server.connection import LimitedConnection
from offline_bundle.runner.hps_server.data_transfer import DataTransferApi
from offline_bundle.runner.hps_server.evaluation.evaluator import Evaluator
from offline_bundle.runner.hps_server.job_api import JobApi
from offline_bundle.runner.hps_server.monitor import MonitorApi
from offline_bundle.runner.hps_server.resource_api import ResourceApi
from offline_bundle.runner.hps_server.store.database import Store
from offline_bundle.runner.hps_server.store.file_storage import Storage
from offline_bundle.runner.hps_server.store.projects import Projects
from offline_bundle.runner.hps_server.web import PREFIX, Service, make_starlette
from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.disk.cache_dir import cache_fault
from offline_bundle.wheelhouse.runtime.disk.files import write_atomic
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

_HOST = "127.0.0.1"
_START_SECONDS = 10.0


class EmbeddedHps:
    """A running embedded HPS; use it as a context manager, or call `start` and `stop`.

    *data* has all state: a later server with the same folder continues. *port* 0 selects a free
    port. The default *password* is random. *slots* is the number of tasks at a time, by default one
    per core. *software* maps names to `version`, `executable` and `environment`; by default uv is
    registered, with *bundle* in its environment. With *tls*, `ca_file` is the certificate of the
    authority. *lifetime* of access tokens is in seconds. Raises BundleError.
    """

    def __init__(  # noqa: PLR0913
        self,
        data: Path,
        *,
        port: int = 0,
        username: str = "repuser",
        password: str | None = None,
        slots: int | None = None,
        software: Mapping[str, Mapping[str, Any]] | None = None,
        bundle: Path | None = None,
        tls: bool = False,
        lifetime: float = 3600,
    ) -> None:
        self.data = data.absolute()
        self.username = username
        self.password = password or secrets.token_urlsafe(12)
        self.slots = slots or usable_cores()
        self.software = dict(software) if software is not None else {"uv": registered_uv(bundle)}
        self.ca_file: Path | None = self.data / "ca.pem" if tls else None
        self.port = port
        self._lifetime = lifetime
        self._stack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """URL for clients, known after the start."""
        return f"{'https' if self.ca_file else 'http'}://{_HOST}:{self.port}{PREFIX}"

    def start(self) -> None:
        """Start serving and evaluating. Raises BundleError."""
        with self._stack:
            self._make_folder()
            lock = FileLock(self.data / "lock")
            if not lock.acquire(block=False):
                raise InputError(
                    f"another embedded HPS is using {self.data}",
                    hint="name another folder with --data",
                )
            self._stack.callback(lock.release)
            listening = self._listen()
            self._stack.callback(listening.close)
            store = Store(self.data / "hps.sqlite")
            self._stack.callback(store.close)
            storage = Storage(self.data / "storage")
            accounts = Accounts(
                self.username, self.password, self.data / "token.key", lifetime=self._lifetime
            )
            projects = Projects(store, storage)
            evaluator = Evaluator(projects, slots=self.slots, software=self.software)
            service = Service(accounts, projects, storage, evaluator)
            interfaces = (DataTransferApi, AuthApi, JobApi, ResourceApi, MonitorApi)
            routes = [route for api in interfaces for route in api(service).routes()]
            self._serve(make_starlette(routes), listening)
            evaluator.start()
            self._stack.callback(evaluator.stop)
            self._stack = self._stack.pop_all()

    def stop(self) -> None:
        """Stop tasks and the server."""
        self._stack.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_folder(self) -> None:
        """Create the folder for this user alone; raise InputError if another user may change it.

        The key of the tokens is in it: its owner can run programs as the user of this server.
        """
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        fault = cache_fault(str(self.data))
        if fault:
            raise InputError(
                f"{self.data} {fault}: another user could run programs as you",
                hint="name a folder of yours with --data; it is created if it does not exist",
            )

    def _listen(self) -> socket.socket:
        # asyncio sets TCP_NODELAY for IPPROTO_TCP only; without it each response takes 40 ms
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((_HOST, self.port))
        except OSError as error:
            listening.close()
            hint = "name another port with --port; 0 selects a free one"
            raise BundleError(
                f"cannot listen on port {self.port}: {error.strerror}", hint=hint
            ) from error
        self.port = listening.getsockname()[1]
        return listening

    def _serve(self, application: Starlette, listening: socket.socket) -> None:
        certificate = self._certificate() if self.ca_file else None
        config = uvicorn.Config(
            application,
            log_level="critical",
            access_log=False,
            lifespan="off",
            http=LimitedConnection,  # by h11, which limits the size of headers
            ws="wsproto",
            timeout_graceful_shutdown=2,
            ssl_certfile=certificate,
            ssl_keyfile=certificate,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, args=([listening],), name="embedded-hps", daemon=True
        )
        thread.start()

        def end() -> None:
            server.should_exit = True
            thread.join()

        self._stack.callback(end)
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise BundleError(
                    "the embedded HPS did not start",
                    hint="name another port with --port, or read its console",
                )
            time.sleep(0.005)

    def _certificate(self) -> Path:
        """Return the file with key and certificate, created at the first start."""
        path = self.data / "server.pem"
        if not path.exists() and self.ca_file:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(str(self.ca_file))
            names = ("localhost", _HOST, str(ipaddress.IPv6Address(1)))
            pem = authority.issue_cert(*names).private_key_and_cert_chain_pem
            write_atomic(path, pem.bytes(), durable=True)
        return path


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def registered_uv(bundle: Path | None) -> dict[str, Any]:
    """Return the registration of the installed uv, with the environment for *bundle*."""
    import uv  # noqa: PLC0415 - not needed if software is given

    executable = uv.find_uv_bin()
    answer = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)
    return {
        "version": answer.stdout.split()[1],
        "executable": executable,
        "install_path": str(Path(executable).parent),
        "environment": _bundle_environment(bundle.absolute()) if bundle else {},
    }


def _bundle_environment(bundle: Path) -> dict[str, str]:
    """Return variables with which `uv run SCRIPT` uses the bundle, its Pythons first on PATH."""
    minors = {target.python for target in read_manifest(bundle).targets.values()}
    found = (
        find_interpreter((int(major), int(minor)))
        for major, minor in (text.split(".") for text in minors)
    )
    folders = [str(Path(path).parent) for path in found if path]
    return {
        "OFFLINE_BUNDLE": str(bundle),
        "UV_CONFIG_FILE": str(bundle / "uv.toml"),
        "UV_OFFLINE": "1",
        "PATH": os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]),
    }
