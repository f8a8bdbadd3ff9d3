"""The address of an HPS server and the account that signs in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from offline_bundle.wheelhouse.runtime.errors import InputError

DEFAULT_URL = "https://localhost:8443/hps"
DEFAULT_USERNAME = "repuser"
"""As in the examples of the HPS documentation."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """An HPS server and an account on it."""

    url: str = DEFAULT_URL
    username: str = DEFAULT_USERNAME
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    """An access token of the site's sign-in; then user and password are not used."""
    client_id: str = ""
    """A service account, which signs in with `client_secret`, without user and password."""
    client_secret: str = field(default="", repr=False)
    ca_file: Path | None = None
    """PEM certificates of the authorities to trust instead of the usual ones."""
    is_insecure: bool = False
    """True if the server's certificate is not verified."""

    def __post_init__(self) -> None:
        """Raise `InputError` for an invalid URL."""
        parts = urlsplit(self.url)
        if parts.username or parts.password:
            raise InputError(
                "the URL has a username or password in it",
                hint="give them as -u and HPS_PASSWORD, and the URL without",
            )
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InputError(
                f"{self.url} is not the URL of a server", hint=f"for example {DEFAULT_URL}"
            )
        if self.ca_file and not self.ca_file.is_file():
            raise InputError(
                f"{self.ca_file} is not a file", hint="--ca-file names a file of PEM certificates"
            )
        if bool(self.client_id) != bool(self.client_secret):
            raise InputError(
                "a client id and a client secret belong together",
                hint="give --client-id, and the secret as HPS_CLIENT_SECRET",
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def account(self) -> str:
        """The account in words, for messages: never a secret."""
        if self.token:
            return "this access token"
        if self.client_id:
            return f"this client id ({self.client_id}) and secret"
        return f"this username ({self.username}) and password"

    @property
    def verify(self) -> bool | str:
        """The value of `verify` for requests."""
        if self.is_insecure:
            return False
        return str(self.ca_file.absolute()) if self.ca_file else True
