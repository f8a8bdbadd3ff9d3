"""Find the password for an HPS server; it is never shown.

Sources in this order: the option `-p` or `HPS_PASSWORD`; the keyring, if the optional package
`keyring` is installed, as service `offline-bundle URL` and the user's name; for the user `repuser`
of the HPS documentation its well-known password; a prompt on a terminal.
"""

from __future__ import annotations

import getpass
import importlib
import sys

from offline_bundle.wheelhouse.runtime.errors import InputError

_EXAMPLE_USER = "repuser"
_SERVICE = "offline-bundle {url}"


def find_password(url: str, username: str, given: str | None) -> str:
    """Return the password. Raises `InputError` if there is none."""
    if given:
        return given
    well_known = _EXAMPLE_USER if username == _EXAMPLE_USER else None
    return _from_keyring(url, username) or well_known or _from_prompt(url, username)


def _from_keyring(url: str, username: str) -> str | None:
    try:
        keyring = importlib.import_module("keyring")
        password: str | None = keyring.get_password(_SERVICE.format(url=url.rstrip("/")), username)
    except Exception:  # noqa: BLE001 - not installed, locked, no desktop: a keyring is a convenience
        return None
    return password


def _from_prompt(url: str, username: str) -> str:
    if not sys.stdin.isatty():
        service = _SERVICE.format(url=url.rstrip("/"))
        raise InputError(
            f"no password for {username} on {url}",
            hint="set the environment variable HPS_PASSWORD, or store it in the keyring: "
            f"keyring set '{service}' {username}",
        )
    try:
        return getpass.getpass(f"password of {username} on {url}: ")
    except EOFError:
        hint = "type one, or set the environment variable HPS_PASSWORD"
        raise InputError(f"no password for {username} on {url}", hint=hint) from None
