"""Accounts: one user, a service account for client credentials, and signed tokens."""

from __future__ import annotations

import hmac
import secrets
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from offline_bundle.wheelhouse.runtime.disk.files import is_digest, write_atomic

CLIENT_ID = "rep-impersonation"
"""The one OAuth client with a secret, named as in a real installation."""

_REFRESH_SECONDS = 24 * 3600
_WORKER_SECONDS = 30 * 24 * 3600


class AuthError(Exception):
    """A refused login or token; *error* and *description* as in Keycloak."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


@dataclass(frozen=True)
class User:
    """An account."""

    name: str

    @property
    def id(self) -> str:
        """An id that depends on the name only."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.embedded-hps"))

    def document(self) -> dict[str, Any]:
        """Return the account as the user endpoints do."""
        return {
            "id": self.id,
            "username": self.name,
            "firstName": None,
            "lastName": None,
            "email": None,
        }


class Accounts:
    """Issues and checks tokens. The key is in *key_file*, so tokens survive a restart."""

    def __init__(self, username: str, password: str, key_file: Path, *, lifetime: float) -> None:
        self.user = User(username)
        self.service = User(f"service-account-{CLIENT_ID}")
        self.client_secret = secrets.token_urlsafe(24)
        self._password = password
        self._lifetime = lifetime
        self._key = key_file.read_text() if key_file.exists() else ""
        if not is_digest(self._key):  # with an empty one, left by a full disk, anyone makes tokens
            self._key = secrets.token_hex(32)
            write_atomic(key_file, self._key.encode(), durable=True)

    def issue(self, form: dict[str, str], issuer: str) -> dict[str, Any]:
        """Answer a token request. Raises AuthError."""
        grant = form.get("grant_type", "password")
        if grant == "password":
            is_user = _same(form.get("username"), self.user.name)
            user = self.user if is_user & _same(form.get("password"), self._password) else None
        elif grant == "refresh_token":
            user = self.check(form.get("refresh_token", ""), "Refresh")
        elif grant == "client_credentials":
            is_client = _same(form.get("client_id"), CLIENT_ID)
            is_service = is_client & _same(form.get("client_secret"), self.client_secret)
            user = self.service if is_service else None
        else:
            raise AuthError("unsupported_grant_type", f"Unsupported grant_type: {grant}")
        if user is None:
            raise AuthError("invalid_grant", "Invalid user credentials")
        return {
            "access_token": self._token(user, "Bearer", self._lifetime, issuer),
            "expires_in": self._lifetime,
            "refresh_token": self._token(user, "Refresh", _REFRESH_SECONDS, issuer),
            "refresh_expires_in": _REFRESH_SECONDS,
            "token_type": "Bearer",
            "scope": "openid",
        }

    def worker_token(self, user: User) -> str:
        """Return a long-lived token: renewed tokens of the session do not reach the worker."""
        return self._token(user, "Bearer", _WORKER_SECONDS, "embedded-hps")

    def check(self, token: str, kind: str = "Bearer") -> User:
        """Return the user of a token. Raises AuthError."""
        try:
            claims = jwt.decode(
                token, self._key, algorithms=["HS256"], options={"require": ["exp"]}
            )
        except jwt.PyJWTError as error:
            raise AuthError("invalid_grant", f"Invalid token: {error}") from None
        name = claims.get("preferred_username")
        if claims.get("typ") != kind or name not in {self.user.name, self.service.name}:
            raise AuthError("invalid_grant", "Invalid token")
        return User(name)

    def _token(self, user: User, kind: str, seconds: float, issuer: str) -> str:
        issued = int(time.time())
        claims = {
            "sub": user.id,
            "preferred_username": user.name,
            "typ": kind,
            "iss": issuer,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(
            claims | {"iat": issued, "exp": issued + int(seconds)}, self._key, algorithm="HS256"
        )


def _same(given: str | None, expected: str) -> bool:
    return hmac.compare_digest((given or "").encode(), expected.encode())
