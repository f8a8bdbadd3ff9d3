"""The authentication interface: tokens, clients, users."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.responses import JSONResponse
from starlette.routing import Route

from offline_bundle.runner.hps_server.auth import CLIENT_ID, AuthError
from offline_bundle.runner.hps_server.web import PREFIX, Answer, Call, RequestError, Service

_REALM = f"{PREFIX}/auth/realms/{{realm}}"
_ADMIN = f"{PREFIX}/auth/admin/realms/{{realm}}"


class AuthApi:
    """Handlers of the authentication interface."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes."""
        route = self._service.route
        return [
            route(f"{_REALM}/.well-known/openid-configuration", self._discovery, is_public=True),
            route(f"{_REALM}/protocol/openid-connect/token", self._token, "POST", is_public=True),
            route(f"{_ADMIN}/clients", self._clients),
            route(f"{_ADMIN}/users", self._users),
            route(f"{_ADMIN}/users/{{id}}", self._user),
            route(f"{_ADMIN}/users/{{id}}/groups", lambda _: []),
            route(f"{_ADMIN}/groups", lambda _: []),
            route(
                f"{_ADMIN}/users/{{id}}/role-mappings/realm",
                lambda _: [{"id": "admin", "name": "admin"}],
            ),
        ]

    def _discovery(self, call: Call) -> Answer:
        """Return the addresses of the token service."""
        issuer = _issuer(call)
        return {"issuer": issuer, "token_endpoint": f"{issuer}/protocol/openid-connect/token"}

    def _token(self, call: Call) -> Answer:
        """Issue tokens for a password, a refresh token or a client secret."""
        try:
            return self._service.accounts.issue(dict(parse_qsl(call.body.decode())), _issuer(call))
        except AuthError as error:
            return JSONResponse({"error": error.error, "error_description": error.description}, 401)

    def _clients(self, call: Call) -> Answer:
        """List the OAuth clients; only the user may see the secret."""
        if call.user != self._service.accounts.user:
            raise RequestError(403, "Forbidden", "this account may not see clients")
        return [
            {"id": CLIENT_ID, "clientId": CLIENT_ID, "secret": self._service.accounts.client_secret}
        ]

    def _users(self, call: Call) -> Answer:
        """List the accounts that match the query."""
        query = dict(call.parameters)
        found = self._service.accounts.user.document()
        is_match = all(found[name] == query[name] for name in found.keys() & query.keys())
        return [found] if is_match else []

    def _user(self, call: Call) -> Answer:
        for user in (self._service.accounts.user, self._service.accounts.service):
            if user.id == call["id"]:
                return user.document()
        raise RequestError(404, "Not Found", "User not found")


def _issuer(call: Call) -> str:
    base = f"{call.request.base_url}".rstrip("/")
    return f"{base}{_REALM.format(realm=call['realm'])}"
