"""How we speak HTTP: requests with the machine's proxies, certificates and netrc, and our credentials.

Slow to import (requests); whoever needs it imports it late, or in a thread while something else runs.
"""

from __future__ import annotations

import functools
import os
import ssl
import warnings
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import InsecureRequestWarning
from urllib3.util.ssl_ import create_urllib3_context

from offline_bundle import __version__
from offline_bundle.builder.fetch.credentials import without_credentials
from offline_bundle.builder.fetch.tls import Trust
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offline_bundle.builder.fetch.credentials import Credentials

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
# What an index answers to strangers: some would not tell them whether a file exists.
_WANTS_LOGIN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}


class Session(requests.Session):
    """A requests session that sends *credentials* to their own hosts, also after a redirect.

    Threads may share it.
    """

    def __init__(
        self, credentials: Credentials, connections: int, trust: Trust | None = None
    ) -> None:
        super().__init__()
        self._credentials = credentials
        self.headers["User-Agent"] = f"offline-bundle/{__version__}"

        self.headers["Accept-Encoding"] = "identity"
        self.timeout = timeouts(os.environ)
        self.mount("http://", HTTPAdapter(pool_maxsize=connections))
        self.mount("https://", _Adapter(trust or Trust(), pool_maxsize=connections))

    def open_stream(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask for *url*; the body is still to be read."""
        response = self._open(url, headers)
        if response.status_code in _WANTS_LOGIN and self._credentials.look_up(response.url):
            response.close()
            response = self._open(url, headers)
        return response

    def _open(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        login = self._login(url)
        url = without_credentials(url)
        try:
            return self.get(url, headers=headers, auth=login, stream=True, timeout=self.timeout)
        except requests.RequestException:
            raise
        except ValueError as error:  # a redirect to what is no URL
            raise requests.exceptions.InvalidURL(str(error)) from None

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Choose the credentials for a redirect; requests drops the old host's and looks into netrc."""
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        login = self._login(prepared_request.url or "")
        if login:
            prepared_request.prepare_auth(login)

    def _login(self, url: str) -> HTTPBasicAuth | None:
        login = self._credentials.for_url(url)
        if login is None:
            return None
        user, password = login
        netrc = None if password else requests.utils.get_netrc_auth(url)
        if netrc and netrc[0] == user:
            password = netrc[1]
        return HTTPBasicAuth(user.encode(), password.encode())  # UTF-8, as uv and pip send it


class _Adapter(HTTPAdapter):
    """Shares one TLS context among all connections, and another among those to hosts that are not checked.

    requests has the certificates read anew for each connection, at tens of milliseconds of processor time.
    """

    def __init__(self, trust: Trust, *, pool_maxsize: int) -> None:
        self._trust = trust
        self._context = trusted_certificates(trust)
        if trust.insecure_hosts:
            self._unchecked = unchecking_context()
            warnings.simplefilter(
                "ignore", InsecureRequestWarning
            )  # the user has asked for it, by name
        super().__init__(pool_maxsize=pool_maxsize)

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,  # noqa: FBT001 - requests' signature
        cert: str | tuple[str, str] | None = None,
    ) -> tuple[Any, Any]:
        """Say what tells one pool of connections from another."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        if not self._trust.checks(request.url or ""):
            return host, {
                "cert_reqs": "CERT_NONE",
                "ssl_context": self._unchecked,
                "assert_hostname": False,
            }
        return host, {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._context}

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Leave the connection as it is: its context knows the certificates."""

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:  # noqa: ANN401 - requests' signature
        """Trust the same certificates on the way to an https:// proxy."""
        if proxy.lower().startswith("https://"):
            proxy_kwargs["proxy_ssl_context"] = self._context
        return super().proxy_manager_for(proxy, **proxy_kwargs)


def timeouts(environ: Mapping[str, str]) -> tuple[float, float]:
    """Give the seconds to wait for a connection, and for the next bytes; UV_HTTP_TIMEOUT sets the latter."""
    value = environ.get("UV_HTTP_TIMEOUT")
    if not value:
        return _CONNECT_SECONDS, _READ_SECONDS
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise InputError(
            f"UV_HTTP_TIMEOUT={value}: not a number of seconds", hint="set it to 60, or unset it"
        )
    return min(_CONNECT_SECONDS, seconds), seconds


def trusted_certificates(trust: Trust | None = None) -> ssl.SSLContext:
    """Give the TLS context with the certificates that the environment tells us to trust, else requests' own.

    REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE are requests' variables, SSL_CERT_FILE and SSL_CERT_DIR those of
    OpenSSL and uv. SSL_CLIENT_CERT is uv's: one file with our own certificate and its key (mutual TLS).
    """
    return _context(_places(trust or Trust()), os.environ.get("SSL_CLIENT_CERT") or None)


def unchecking_context() -> ssl.SSLContext:
    """Give a TLS context that takes any certificate."""
    context = create_urllib3_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _present(context, os.environ.get("SSL_CLIENT_CERT") or None)
    return context


def _places(trust: Trust) -> tuple[str, ...]:
    """The files and folders of certificates; none means the machine's store."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if bundle:
        return (bundle,)
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    places = ([file] if file else []) + (folders.split(os.pathsep) if folders else [])
    ours = () if trust.uses_system_certificates else (DEFAULT_CA_BUNDLE_PATH,)
    return tuple(place for place in places if place) or ours


@functools.lru_cache(maxsize=4)
def _context(places: tuple[str, ...], own: str | None) -> ssl.SSLContext:
    context = create_urllib3_context()
    context.verify_mode = ssl.CERT_REQUIRED
    if not places:
        context.load_default_certs()
    for place in places:
        try:
            if Path(place).is_dir():
                context.load_verify_locations(capath=place)
            else:
                context.load_verify_locations(cafile=place)
        except OSError as error:  # ssl.SSLError is one
            raise BundleError(
                f"cannot read the certificates in {place}: {error.strerror or error}",
                hint="REQUESTS_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR name them: correct or unset these",
            ) from error
    _present(context, own)
    return context


def _present(context: ssl.SSLContext, own: str | None) -> None:
    """Let *context* show the certificate in the file *own*, with its key, to servers that ask for one."""
    if own is None:
        return
    try:
        context.load_cert_chain(
            own, password=lambda: ""
        )  # a key with a passphrase is an error, not a prompt
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BundleError(
            f"cannot use the client certificate in {own}: {getattr(error, 'strerror', None) or error}",
            hint="SSL_CLIENT_CERT names one PEM file with the certificate and its unencrypted key",
        ) from error
