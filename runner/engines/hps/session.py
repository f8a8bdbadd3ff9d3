"""A session with an HPS server: signed in, verified, and patient with a network that comes and goes.

    with connect(Server(url="https://hps.example:8443/hps", username="me", password=…)) as session:
        session.retry_until_available(lambda: session.jms.get_projects(limit=1))

It stands on the real `ansys-hps-client`, whose gaps it closes:

- the client's file transfer neither verifies the server nor the worker program it downloads from it and runs: here it
  verifies as the session does;
- the environment's `REQUESTS_CA_BUNDLE` overrides what a session was told: here it does not;
- a refreshed token does not reach the running worker: here it does;
- its requests may wait for ever: here they have time limits.

Importing this module imports the client, which takes more than a second: do so only where it is needed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import re
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx
import requests
import urllib3
from ansys.hps.client import Client, HPSError  # type: ignore[import-untyped]
from ansys.hps.client.jms import JmsApi, ProjectApi  # type: ignore[import-untyped]
from ansys.hps.data_transfer.client import Client as TransferClient  # type: ignore[import-untyped]
from ansys.hps.data_transfer.client import DataTransferApi
from ansys.hps.data_transfer.client.exceptions import HPSError as TransferError  # type: ignore[import-untyped]
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_URL = "https://localhost:8443/hps"
DEFAULT_USERNAME = "repuser"
"""As in the examples of the HPS documentation."""

PATIENCE_SECONDS = 1800.0
"""How long an outage is ridden out: servers that restart take minutes, and jobs go on meanwhile."""

_LONGEST_PAUSE_SECONDS = 30.0
_WORKER_ATTEMPTS = 2
_WORKER_SECONDS = 10.0
_NOT_READY = 425
"""What the worker answers while it is starting."""

_STOP_SECONDS = 1.0
"""How long a worker has to leave before it is killed; the client looks ten times in that time."""

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 120.0
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where an HPS server is, and who signs in."""

    url: str = DEFAULT_URL
    username: str = DEFAULT_USERNAME
    password: str = field(repr=False)
    ca_file: Path | None = None
    """Certificates (PEM) of the authorities to trust instead of the usual ones."""
    is_insecure: bool = False
    """Whether the server's certificate goes unverified."""

    def __post_init__(self) -> None:
        """Raise `InputError` for a URL that cannot be one."""
        parts = urlsplit(self.url)
        if parts.username or parts.password:
            raise InputError(
                "the URL holds a username or password",
                hint="give them as -u and HPS_PASSWORD, and the URL without",
            )
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InputError(
                f"{self.url} is not the URL of a server", hint=f"for example {DEFAULT_URL}"
            )
        if self.ca_file and not self.ca_file.is_file():
            raise InputError(
                f"{self.ca_file} is no file", hint="--ca-file names a file with PEM certificates"
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def verify(self) -> bool | str:
        """What requests calls `verify`."""
        if self.is_insecure:
            return False
        return str(self.ca_file.absolute()) if self.ca_file else True


class ServerLostError(BundleError):
    """The server was not to be reached for longer than patience lasts: exit 1. Jobs already there go on."""


@contextlib.contextmanager
def connect(
    server: Server,
    *,
    notice: Callable[[str], None] = lambda _: None,
    patience: float = PATIENCE_SECONDS,
) -> Iterator[Session]:
    """Sign in, and out again at the end; meanwhile this process's environment makes TLS verification as asked.

    *notice* is told, once per outage, that the connection is lost and that it is back; *patience* is in seconds.
    Raises `InputError` for what the user must correct (URL, certificate, password), else `BundleError`.
    """
    with _environment(server), _quiet_logging():
        session = Session(server, notice, patience)
        try:
            yield session
        finally:
            session.close()


class Session:
    """A signed-in client that signs in again when it must. Made by `connect`."""

    def __init__(self, server: Server, notice: Callable[[str], None], patience: float) -> None:
        self.server = server
        self._notice = notice
        self._patience = patience
        _probe(server)
        self._client = self._sign_in()

    @property
    def client(self) -> Any:  # noqa: ANN401 - the client is not typed
        """The real client, which `retry_until_available` may replace: do not keep it."""
        return self._client

    @property
    def jms(self) -> Any:  # noqa: ANN401
        """The interface to projects."""
        return JmsApi(self._client)

    def project(self, project_id: str) -> Any:  # noqa: ANN401
        """Return the interface to one project."""
        return ProjectApi(self._client, project_id)

    def retry_until_available(self, call: Callable[[], _Result]) -> _Result:
        """Return what *call* returns, which may be called again and again until it succeeds.

        Lost connections and failing servers are waited for with growing pauses, an expired session is renewed with the
        password. *call* must be safe to repeat. Raises `BundleError`.
        """
        outage = _Outage(self.server.url, self._notice, self._patience)
        has_signed_in = False
        while True:
            try:
                result = call()
            except (
                requests.RequestException,
                httpx.HTTPError,
                TransferError,
                json.JSONDecodeError,
            ) as error:
                if _is_signed_out(error) and not has_signed_in:
                    has_signed_in = self._renew(outage)
                elif _is_passing(error):
                    outage.wait(error)
                    has_signed_in = False
                else:
                    raise explain(error, self.server) from error
            else:
                outage.end()
                return result

    def close(self) -> None:
        """Stop what the client has running beside this thread: its file transfer and its refreshing of tokens."""
        _close(self._client)

    def _sign_in(self) -> _VerifyingClient:
        server = self.server
        try:
            client = _VerifyingClient(
                server.url, username=server.username, password=server.password, verify=server.verify
            )
        except (requests.RequestException, RuntimeError, KeyError) as error:
            raise explain(error, server) from error
        adapter = _TimedAdapter(
            max_retries=Retry(total=2, backoff_factor=0.2, status_forcelist=[502, 503, 504])
        )
        client.session.mount("http://", adapter)
        client.session.mount("https://", adapter)
        return client

    def _renew(self, outage: _Outage) -> bool:
        """Sign in once more; false if that has to wait for the server."""
        try:
            client = self._sign_in()
        except ServerLostError as error:
            outage.wait(error)
            return False
        _close(self._client)
        self._client = client
        return True


def explain(error: Exception, server: Server) -> BundleError:
    """Say in our words what an error of the client means; nothing of it holds the password."""
    if isinstance(error, BundleError):
        return error
    if _is_signed_out(error):
        return InputError(
            f"{server.url} does not accept this username ({server.username}) and password",
            hint="check -u/--username and the password: the environment variable HPS_PASSWORD, the keyring or -p",
        )
    if isinstance(error, _WorkerStartError):
        return _worker_fault(_reason(error))
    if isinstance(error, requests.exceptions.SSLError):
        return _explain_tls(error, server)
    return _unreachable(error, server) if _is_passing(error) else _refused(error, server)


def _refused(error: Exception, server: Server) -> BundleError:
    said = _said(error)
    if _status(error) == 403:
        hint = "ask the administrator of the server for permission to create projects"
        return BundleError(f"{server.username} may not do this on {server.url}: {said}", hint=hint)
    return BundleError(
        f"{server.url} answers: {said}",
        hint="this is the server's own message; its logs may say more",
    )


class _VerifyingClient(Client):  # type: ignore[misc] # the client is not typed
    """The client, with a file transfer that verifies the server as the rest of the session does."""

    _dt_client: Any = None
    _dt_api: Any = None
    _own_directory: tempfile.TemporaryDirectory[str] | None = None

    def initialize_data_transfer_client(self) -> None:
        """Start the worker that moves files."""
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
            api = DataTransferApi(transfer)
            api.status(wait=True)
        except Exception as error:  # whatever the start of a foreign program may come to
            with contextlib.suppress(Exception):
                transfer.stop()
            raise _WorkerStartError(_reason(error)) from error
        self._dt_client, self._dt_api = transfer, api

    def refresh_access_token(self) -> None:
        """Renew the token, the worker's too."""
        super().refresh_access_token()
        if self._dt_client is not None:
            self._dt_client.binary_config.update(token=self.access_token)

    def _worker_directory(self) -> str:
        """Choose where the worker is kept: in the client's own place, or in one that a program can be started from.

        The client starts it through a shell without quoting, so no part of the path may hold a space.
        """
        home = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "HOME")
        if (
            home
            and not re.search(r"\s", home)
            and os.access(home, os.W_OK)
            and not _is_noexec(home)
        ):
            company = "Ansys" if os.name == "nt" else ".ansys"
            return str(Path(home) / company / "hps" / "data-transfer" / "binaries")
        if self._own_directory is None:
            self._own_directory = tempfile.TemporaryDirectory(prefix="hps-worker-")
        return self._own_directory.name


class _Transfer(TransferClient):  # type: ignore[misc] # the client is not typed
    """The client's file transfer, closing at its end the connections and pipes that it opens."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        self._opened: list[httpx.Client] = []
        super().__init__(*args, **options)

    def stop(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """Stop the worker and watching it."""
        process = getattr(self.binary, "_process", None)
        super().stop(*args, **options)
        while self._opened:
            self._opened.pop().close()
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            process.stdout.close()

    def _create_session(self, *args: Any, **options: Any) -> httpx.Client:  # noqa: ANN401
        """Open a session, with the worker only once it listens: the client gives it three seconds and looks seldom."""
        if self.binary is not None:
            _wait_for_port(self.binary_config.host, self.binary_config.port)
        session: httpx.Client = super()._create_session(*args, **options)
        self._opened.append(session)
        return session


class _WorkerStartError(HPSError):  # type: ignore[misc]
    """The program that moves files did not start."""


class _TimedAdapter(HTTPAdapter):
    """Requests that end: without this the client's wait for ever."""

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:  # noqa: ANN401
        """Send with time limits."""
        kwargs["timeout"] = kwargs.get("timeout") or (_CONNECT_SECONDS, _READ_SECONDS)
        return super().send(request, *args, **kwargs)


class _Outage:
    """A time in which the server cannot be reached, of which the user hears twice: when it begins, and when it ends."""

    def __init__(self, url: str, notice: Callable[[str], None], patience: float) -> None:
        self._url = url
        self._notice = notice
        self._patience = patience
        self._begin: float | None = None
        self._pauses = 0
        self._worker_failures = 0

    def wait(self, error: Exception) -> None:
        """Pause; raise where there has been enough of it."""
        reason = error.message if isinstance(error, BundleError) else _reason(error)
        now = time.monotonic()
        if self._begin is None:
            self._begin = now
            self._notice(f"the connection to {self._url} is lost ({reason}); trying again")
        if isinstance(error, _WorkerStartError):
            self._worker_failures += 1
        if self._worker_failures >= _WORKER_ATTEMPTS:
            raise _worker_fault(reason)
        if now - self._begin > self._patience:
            hint = "jobs that were created go on without this command; look again later"
            raise ServerLostError(
                f"{self._url} could not be reached any more: {reason}", hint=hint
            ) from error
        pause = min(2.0**self._pauses / 2, _LONGEST_PAUSE_SECONDS, max(self._patience / 4, 0.05))
        self._pauses += 1
        time.sleep(pause)

    def end(self) -> None:
        """Say that it is over, if there was one."""
        if self._begin is not None:
            self._notice(f"the connection to {self._url} is back")


def _probe(server: Server) -> None:
    """Ask for the server's version before any password is sent, to tell a wrong URL from a wrong password."""
    try:
        response = requests.get(
            f"{server.url}/jms/api/v1", timeout=_CONNECT_SECONDS, verify=server.verify
        )
    except requests.exceptions.SSLError as error:
        raise _explain_tls(error, server) from error
    except (requests.RequestException, OSError, UnicodeError) as error:
        raise _unreachable(error, server) from error
    if response.status_code in {502, 503, 504}:
        raise ServerLostError(
            f"{server.url} is not ready: {response.status_code} {response.reason}",
            hint="it may be starting: try again in a minute",
        )
    try:
        is_hps = response.status_code == 200 and "build" in response.json()
    except ValueError:
        is_hps = False
    if not is_hps:
        raise InputError(
            f"no HPS answers at {server.url}: {response.status_code} {response.reason}",
            hint=f"check the path of the URL, usually /hps as in {DEFAULT_URL}",
        )


def _explain_tls(error: Exception, server: Server) -> BundleError:
    found = re.search(r"certificate verify failed: ([^('\"]+)", str(error))
    if found:
        return InputError(
            f"the certificate of {server.url} is not trusted: {found[1].strip()}",
            hint="--ca-file FILE names the certificates (PEM) of your site's authority; --insecure goes on without "
            "verification, which lets anybody in between read the password and replace files",
        )
    return InputError(
        f"no TLS connection to {server.url}: {_reason(error)}",
        hint="check the port, and whether the URL begins with https:// or http://",
    )


def _unreachable(error: Exception, server: Server) -> ServerLostError:
    return ServerLostError(
        f"{server.url} cannot be reached: {_reason(error)}",
        hint="check the address and the port of -U/--url, and the network: VPN, firewall, HTTPS_PROXY and NO_PROXY",
    )


def _worker_fault(reason: str) -> BundleError:
    return BundleError(
        f"the client's file transfer does not start: {reason}",
        hint="it is a program that the server hands out and that runs from HOME/.ansys: "
        "set HOME to a directory that can be written and run from",
    )


def _is_passing(error: Exception) -> bool:
    """Whether it may be over by itself: a lost connection, a server that restarts."""
    status = _status(error) or 0
    if isinstance(error, requests.exceptions.SSLError) or (
        400 <= status < 500 and status != _NOT_READY
    ):
        return False
    passing = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.RetryError,
        requests.exceptions.ChunkedEncodingError,
        json.JSONDecodeError,  # a proxy's page in place of an answer
        httpx.HTTPError,
        TransferError,
        _WorkerStartError,
        ServerLostError,
    )
    return isinstance(error, passing) or status >= 500


def _is_signed_out(error: Exception) -> bool:
    """Whether the server does not, or no longer, know who is asking."""
    reason = str(getattr(error, "reason", None) or "")
    return (
        _status(error) == 401
        or reason in {"invalid_grant", "invalid_token"}
        or (isinstance(error, HPSError) and "No refresh token" in str(error))
    )


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _said(error: Exception) -> str:
    """Return the server's words."""
    parts = [
        str(_status(error) or ""),
        getattr(error, "reason", None),
        getattr(error, "description", None),
    ]
    return " ".join(str(part) for part in parts if part) or _reason(error)


def _reason(error: BaseException) -> str:
    """Find the words of the innermost cause, which are the operating system's: `Connection refused`."""
    text = str(error)
    for pattern in (r"\[Errno -?\d+\] ([^'\")]+)", r"(timed out)", r"(Name or service not known)"):
        found = re.search(pattern, text)
        if found:
            return found[1].strip()
    cause = error.__cause__ or error.__context__
    if not text and cause:
        return _reason(cause)
    return text.splitlines()[0][:200] if text else type(error).__name__


def _close(client: Any) -> None:  # noqa: ANN401
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


def _wait_for_port(host: str, port: int | None) -> None:
    """Return as soon as somebody listens, or after a while."""
    deadline = time.monotonic() + _WORKER_SECONDS
    while port and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.02)


def _is_noexec(directory: str) -> bool:
    return hasattr(os, "statvfs") and bool(
        os.statvfs(directory).f_flag & getattr(os, "ST_NOEXEC", 0)
    )


@contextlib.contextmanager
def _environment(server: Server) -> Iterator[None]:
    """Make the variables that requests, httpx and the worker heed say what *server* says."""
    changes: dict[str, str | None] = {}
    if server.is_insecure:
        urllib3.disable_warnings(
            urllib3.exceptions.InsecureRequestWarning
        )  # the user has been told, by --help
        changes = {"REQUESTS_CA_BUNDLE": None, "CURL_CA_BUNDLE": None}
    else:
        usual = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        trusted = str(server.ca_file.absolute()) if server.ca_file else usual
        if trusted:
            changes = {"REQUESTS_CA_BUNDLE": trusted, "SSL_CERT_FILE": trusted}
    host = urlsplit(server.url).hostname or ""
    if _is_loopback(host):
        others = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
        changes |= dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(filter(None, [others, host])))
    before = {name: os.environ.get(name) for name in changes}
    _set_variables(changes)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _quiet_logging() -> Iterator[None]:
    """Keep the client's own warnings off stderr where nobody has set up logging: we say what matters."""
    logger = logging.getLogger("ansys.hps")
    handler = logging.NullHandler()
    was_propagating = logger.propagate
    logger.addHandler(handler)
    logger.propagate = bool(logging.getLogger().handlers)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = was_propagating
