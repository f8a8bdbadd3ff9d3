"""A session with an HPS server: signed in, verified, with retries on network errors.

    with connect(Server(url="https://hps.example:8443/hps", username="me", password=…)) as session:
        session.retry_until_available(lambda: session.jms.get_projects(limit=1))

Importing this module imports the client, which takes more than a second: import it late.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import requests
from ansys.hps.client.jms import JmsApi, ProjectApi  # type: ignore[import-untyped]

from offline_bundle.runner.engines.hps.connection.client import (
    CONNECT_SECONDS,
    VerifyingClient,
    close_client,
    make_client,
)
from offline_bundle.runner.engines.hps.connection.client_errors import (
    CLIENT_ERRORS,
    ServerUnreachableError,
    WorkerStartError,
    error_reason,
    is_signed_out,
    is_transient,
    tls_error,
    translate_error,
    unreachable_error,
    worker_error,
)
from offline_bundle.runner.engines.hps.connection.environment import (
    client_environment,
    quiet_logging,
)
from offline_bundle.runner.engines.hps.connection.server import DEFAULT_URL, Server
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

RETRY_TIMEOUT_SECONDS = 1800.0
"""A restart of a server takes minutes, and jobs continue meanwhile."""

_LONGEST_PAUSE_SECONDS = 30.0
_WORKER_ATTEMPTS = 2
_Result = TypeVar("_Result")


@contextlib.contextmanager
def connect(
    server: Server,
    *,
    notice: Callable[[str], None] = lambda _: None,
    retry_timeout: float = RETRY_TIMEOUT_SECONDS,
) -> Iterator[Session]:
    """Sign in, and sign out at the end; meanwhile environment variables match *server*.

    *notice* gets a message when the connection breaks and when it is back; *retry_timeout* is in
    seconds. Raises `InputError` for what the user must correct (URL, certificate, password), else
    `BundleError`.
    """
    with client_environment(server), quiet_logging():
        session = Session(server, notice, retry_timeout)
        try:
            yield session
        finally:
            session.close()


class Session:
    """A signed-in client that signs in again when needed. Made by `connect`."""

    def __init__(self, server: Server, notice: Callable[[str], None], retry_timeout: float) -> None:
        self.server = server
        self._notice = notice
        self._retry_timeout = retry_timeout
        _check_address(server)
        self._client = self._sign_in()

    @property
    def client(self) -> Any:  # noqa: ANN401 - the client is not typed
        """The real client. Do not keep it: `retry_until_available` may replace it."""
        return self._client

    @property
    def jms(self) -> Any:  # noqa: ANN401
        """The interface to projects."""
        return JmsApi(self._client)

    def project(self, project_id: str) -> Any:  # noqa: ANN401
        """Return the interface to one project."""
        return ProjectApi(self._client, project_id)

    def retry_until_available(self, call: Callable[[], _Result]) -> _Result:
        """Return the result of *call*, which is called again until it succeeds.

        Broken connections and failing servers are retried with growing pauses, and an expired
        session is renewed with the password. *call* must be safe to repeat. Raises `BundleError`.
        """
        retries = RetryState(self.server.url, self._notice, self._retry_timeout)
        has_signed_in = False
        while True:
            try:
                result = call()
            except CLIENT_ERRORS as error:
                if is_signed_out(error) and not has_signed_in:
                    has_signed_in = self._renew(retries)
                elif is_transient(error):
                    retries.wait(error)
                    has_signed_in = False
                else:
                    raise translate_error(error, self.server) from error
            else:
                retries.end()
                return result

    def close(self) -> None:
        """Stop the client's threads and its file transfer."""
        close_client(self._client)

    def _sign_in(self) -> VerifyingClient:
        try:
            return make_client(self.server)
        except (requests.RequestException, RuntimeError, KeyError) as error:
            raise translate_error(error, self.server) from error

    def _renew(self, retries: RetryState) -> bool:
        """Sign in again; return False if the server could not be reached."""
        try:
            client = self._sign_in()
        except ServerUnreachableError as error:
            retries.wait(error)
            return False
        close_client(self._client)
        self._client = client
        return True


class RetryState:
    """Pauses between retries. The user is notified of the first error and of the recovery."""

    def __init__(self, url: str, notice: Callable[[str], None], timeout: float) -> None:
        self._url = url
        self._notice = notice
        self._timeout = timeout
        self._start: float | None = None
        self._pauses = 0
        self._worker_failures = 0

    def wait(self, error: Exception) -> None:
        """Pause; raise after the timeout."""
        reason = error.message if isinstance(error, BundleError) else error_reason(error)
        now = time.monotonic()
        if self._start is None:
            self._start = now
            self._notice(f"no connection to {self._url} ({reason}); trying again")
        if isinstance(error, WorkerStartError):
            self._worker_failures += 1
        if self._worker_failures >= _WORKER_ATTEMPTS:
            raise worker_error(reason)
        if now - self._start > self._timeout:
            raise ServerUnreachableError(
                f"{self._url} could not be reached for {self._timeout:.0f} s: {reason}",
                hint="jobs that were created continue without this command; try again later",
            ) from error
        longest = min(_LONGEST_PAUSE_SECONDS, max(self._timeout / 4, 0.05))
        time.sleep(min(2.0**self._pauses / 2, longest))
        self._pauses += 1

    def end(self) -> None:
        """Notify the user of a recovery."""
        if self._start is not None:
            self._notice(f"the connection to {self._url} is back")


def _check_address(server: Server) -> None:
    """Request the server's version before a password is sent: the URL may be wrong."""
    try:
        response = requests.get(
            f"{server.url}/jms/api/v1", timeout=CONNECT_SECONDS, verify=server.verify
        )
    except requests.exceptions.SSLError as error:
        raise tls_error(error, server) from error
    except (requests.RequestException, OSError, UnicodeError) as error:
        raise unreachable_error(error, server) from error
    if response.status_code in {502, 503, 504}:
        raise ServerUnreachableError(
            f"{server.url} is not ready: {response.status_code} {response.reason}",
            hint="it may be starting: try again in a minute",
        )
    try:
        is_hps = response.status_code == 200 and "build" in response.json()
    except ValueError:
        is_hps = False
    if not is_hps:
        raise InputError(
            f"{server.url} is not an HPS server: {response.status_code} {response.reason}",
            hint=f"check the path of the URL, usually /hps as in {DEFAULT_URL}",
        )
