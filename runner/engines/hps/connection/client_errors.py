"""Classify errors of `ansys-hps-client`, and translate them to `BundleError`."""

from __future__ import annotations

import json
import re

import httpx
import requests
from ansys.hps.client import HPSError  # type: ignore[import-untyped]
from ansys.hps.data_transfer.client.exceptions import HPSError as TransferError  # type: ignore[import-untyped]

from offline_bundle.runner.engines.hps.connection.server import Server
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

CLIENT_ERRORS = (
    requests.RequestException,
    httpx.HTTPError,
    TransferError,
    json.JSONDecodeError,  # the page of a proxy instead of an answer
)
"""What a call of the client may raise."""

_NOT_READY = 425
"""Status code of the worker while it starts."""


class ServerUnreachableError(BundleError):
    """The server was not reachable within the retry timeout, exit code 1. Jobs on it continue."""


class WorkerStartError(HPSError):  # type: ignore[misc]
    """The client's file transfer program did not start."""


class TransferFailedError(HPSError):  # type: ignore[misc]
    """Files were not transferred; the text is the reason."""


def translate_error(error: Exception, server: Server) -> BundleError:
    """Return an error of the client as a `BundleError`, without the password."""
    if isinstance(error, BundleError):
        return error
    if is_signed_out(error):
        return InputError(
            f"{server.url} does not accept {server.account}", hint=_account_hint(server)
        )
    if isinstance(error, WorkerStartError):
        return worker_error(error_reason(error))
    if isinstance(error, requests.exceptions.SSLError):
        return tls_error(error, server)
    if is_transient(error):
        return unreachable_error(error, server)
    return _refusal(error, server)


def tls_error(error: Exception, server: Server) -> BundleError:
    """Return the error for a failed TLS connection."""
    match = re.search(r"certificate verify failed: ([^('\"]+)", str(error))
    if match:
        return InputError(
            f"the certificate of {server.url} is not trusted: {match[1].strip()}",
            hint="--ca-file FILE names the PEM certificates of your site's authority; --insecure "
            "skips verification, so that others can read the password and replace files",
        )
    return InputError(
        f"no TLS connection to {server.url}: {error_reason(error)}",
        hint="check the port, and whether the URL begins with https:// or http://",
    )


def unreachable_error(error: Exception, server: Server) -> ServerUnreachableError:
    """Return the error for a connection that could not be made."""
    return ServerUnreachableError(
        f"{server.url} cannot be reached: {error_reason(error)}",
        hint="check the address and the port of -U/--url, and the network: VPN, firewall, "
        "HTTPS_PROXY and NO_PROXY",
    )


def worker_error(reason: str) -> BundleError:
    """Return the error for a file transfer program that does not start."""
    return BundleError(
        f"the client's file transfer does not start: {reason}",
        hint="it is a program from the server that runs from HOME/.ansys: "
        "set HOME to a directory in which files can be written and executed",
    )


def is_transient(error: Exception) -> bool:
    """Return True if the call may succeed later: a broken connection, a restarting server."""
    status = _status(error) or 0
    if isinstance(error, requests.exceptions.SSLError):
        return False
    if 400 <= status < 500 and status != _NOT_READY:
        return False
    transient = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.RetryError,
        requests.exceptions.ChunkedEncodingError,
        json.JSONDecodeError,
        httpx.HTTPError,
        TransferError,
        WorkerStartError,
        ServerUnreachableError,
    )
    return isinstance(error, transient) or status >= 500


def is_signed_out(error: Exception) -> bool:
    """Return True if the server does not accept the account or its token."""
    reason = str(getattr(error, "reason", None) or "")
    return (
        _status(error) == 401
        or reason in {"invalid_grant", "invalid_token"}
        or (
            isinstance(error, HPSError)
            and re.search("No refresh token|Authentication token", str(error)) is not None
        )
    )


def error_reason(error: BaseException) -> str:
    """Return the text of the innermost cause, which is the system's: `Connection refused`."""
    text = str(error)
    for pattern in (r"\[Errno -?\d+\] ([^'\")]+)", r"(timed out)", r"(Name or service not known)"):
        match = re.search(pattern, text)
        if match:
            return match[1].strip()
    cause = error.__cause__ or error.__context__
    if not text and cause:
        return error_reason(cause)
    return text.splitlines()[0][:200] if text else type(error).__name__


def _refusal(error: Exception, server: Server) -> BundleError:
    if isinstance(error, TransferFailedError):
        return BundleError(
            f"files could not be transferred to {server.url}: {error}",
            hint="check that the files exist and can be read, and the server's free space",
        )
    answer = _server_message(error)
    if _status(error) == 403:
        return BundleError(
            f"{server.username} has no permission for this on {server.url}: {answer}",
            hint="ask the administrator of the server for permission to create projects",
        )
    return BundleError(
        f"{server.url} answers: {answer}",
        hint="this is the server's message; see its logs for more",
    )


def _account_hint(server: Server) -> str:
    if server.token:
        return "the token may have expired: get a new one, and give it as HPS_TOKEN"
    if server.client_id:
        return "check HPS_CLIENT_ID and HPS_CLIENT_SECRET"
    return (
        "check -u/--username and the password: the environment variable HPS_PASSWORD, the keyring "
        "or -p"
    )


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _server_message(error: Exception) -> str:
    reason, description = getattr(error, "reason", None), getattr(error, "description", None)
    parts = [str(_status(error) or ""), reason, description]
    return " ".join(str(part) for part in parts if part) or error_reason(error)
