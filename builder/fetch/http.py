"""HTTP session: proxies, certificates, netrc and credentials.

Slow to import (requests).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.exceptions import InsecureRequestWarning

from offline_bundle import __version__
from offline_bundle.builder.fetch.credentials import Credentials, Login, origin_of
from offline_bundle.builder.fetch.model import TlsSettings
from offline_bundle.builder.fetch.tls import unverified_context, verifying_context
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.text import without_logins

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
# Some indexes answer 403 or 404 to requests without credentials.
_WANTS_LOGIN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}


class IndexSession(requests.Session):
    """A requests session that sends *credentials* to their own origins only, also after redirects.

    Threads may share it.
    """

    def __init__(
        self, credentials: Credentials, connections: int, tls: TlsSettings | None = None
    ) -> None:
        super().__init__()
        self._credentials = credentials
        self.headers["User-Agent"] = f"offline-bundle/{__version__}"
        self.headers["Accept-Encoding"] = "identity"
        self.timeout = timeouts(os.environ)
        # cookies ignore ports and schemes; uv keeps none between requests either
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.mount("http://", HTTPAdapter(pool_maxsize=connections))
        self.mount("https://", _Adapter(tls or TlsSettings(), pool_maxsize=connections))

    def open_stream(
        self, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> requests.Response:
        """Request *url*, or send it *body*; the answer's body is not read yet."""
        response = self._open(url, headers, body)
        if response.status_code in _WANTS_LOGIN and self._credentials.look_up(response.url):
            response.close()
            response = self._open(url, headers, body)
        return response

    def _open(self, url: str, headers: Mapping[str, str], body: bytes | None) -> requests.Response:
        method = "GET" if body is None else "POST"
        login = self._login(url)
        url = without_logins(url)
        try:
            return self.request(
                method,
                url,
                headers=headers,
                data=body,
                auth=login,
                stream=True,
                timeout=self.timeout,
            )
        except requests.RequestException:
            raise
        except ValueError as error:  # a redirect to an invalid URL
            raise requests.exceptions.InvalidURL(str(error)) from None

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Choose the credentials for a redirect; drop cookies of another origin.

        requests would send a netrc password, which belongs to a host, to all its ports and schemes.
        """
        url = prepared_request.url or ""
        old, new = origin_of(response.request.url or ""), origin_of(url)
        if new != old:
            prepared_request.headers.pop("Authorization", None)
            prepared_request.headers.pop("Cookie", None)
        login = self._login(url)
        if login is None and (new.scheme, new.port) == (old.scheme, old.port):
            login = _basic(requests.utils.get_netrc_auth(url))
        if login:
            prepared_request.prepare_auth(login)

    def _login(self, url: str) -> HTTPBasicAuth | None:
        login = self._credentials.for_url(url)
        if login is None:
            return None
        user, password = login
        netrc = None if password else requests.utils.get_netrc_auth(url)
        return _basic(netrc if netrc and netrc[0] == user else login)


def _basic(login: Login | None) -> HTTPBasicAuth | None:
    """Encode as UTF-8, as uv and pip do."""
    return HTTPBasicAuth(login[0].encode(), login[1].encode()) if login else None


class _Adapter(HTTPAdapter):
    """Shares one TLS context among all verified connections, and one among the others.

    requests reads the certificates again for each connection: tens of milliseconds of CPU time.
    """

    def __init__(self, tls: TlsSettings, *, pool_maxsize: int) -> None:
        self._tls = tls
        self._context = verifying_context(tls)
        if tls.insecure_hosts:
            self._unverified = unverified_context()
            # the user named the hosts
            warnings.simplefilter("ignore", InsecureRequestWarning)
        super().__init__(pool_maxsize=pool_maxsize)

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,  # noqa: FBT001 - requests' signature
        cert: str | tuple[str, str] | None = None,
    ) -> tuple[Any, Any]:
        """Return host and TLS arguments, which identify a pool of connections."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        if not self._tls.verifies(request.url or ""):
            return host, {
                "cert_reqs": "CERT_NONE",
                "ssl_context": self._unverified,
                "assert_hostname": False,
            }
        return host, {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._context}

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Leave the connection unchanged: its context has the certificates."""

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:  # noqa: ANN401 - requests' signature
        """Use the same certificates for an https:// proxy."""
        if proxy.lower().startswith("https://"):
            proxy_kwargs["proxy_ssl_context"] = self._context
        return super().proxy_manager_for(proxy, **proxy_kwargs)


def timeouts(environ: Mapping[str, str]) -> tuple[float, float]:
    """Return the connect and read timeouts in seconds; UV_HTTP_TIMEOUT sets the latter."""
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
