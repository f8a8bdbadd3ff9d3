"""Environment variables and logging while the HPS client is in use."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import urllib3

from offline_bundle.runner.engines.hps.connection.server import Server


@contextlib.contextmanager
def client_environment(server: Server) -> Iterator[None]:
    """Set the variables that requests, httpx and the worker read to match *server*.

    Without that, REQUESTS_CA_BUNDLE overrides the settings of a session.
    """
    changes = _ca_variables(server)
    host = urlsplit(server.url).hostname or ""
    if _is_loopback(host):
        others = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
        hosts = ",".join(filter(None, [others, host]))
        changes |= dict.fromkeys(("NO_PROXY", "no_proxy"), hosts)
    before = {name: os.environ.get(name) for name in changes}
    _set_variables(changes)
    try:
        yield
    finally:
        _set_variables(before)


@contextlib.contextmanager
def quiet_logging() -> Iterator[None]:
    """Keep the client's warnings off stderr unless the program has configured logging."""
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


def _ca_variables(server: Server) -> dict[str, str | None]:
    if server.is_insecure:
        # --help of --insecure has the warning
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return {"REQUESTS_CA_BUNDLE": None, "CURL_CA_BUNDLE": None}
    usual = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    trusted = str(server.ca_file.absolute()) if server.ca_file else usual
    return {"REQUESTS_CA_BUNDLE": trusted, "SSL_CERT_FILE": trusted} if trusted else {}


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
