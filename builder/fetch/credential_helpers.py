"""Credentials stored by other programs: uv's own store (`uv auth login`), and keyrings.

They are queried as uv does, so that files and pages of an index are fetched with the same account.
Both are slow child processes; `Credentials` queries them only after a server asks for credentials.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from offline_bundle.builder.fetch.credentials import Login
from offline_bundle.wheelhouse.runtime.processes import absolute_path, find_program

# A keyring that waits for its owner to unlock it must not block a build for ever.
_TIMEOUT_SECONDS = 60.0
_UV_HELPER = "auth helper --preview-features auth-helper --protocol bazel get"


class StoredLogins:
    """Looks up logins in uv's store and, with `keyring-provider = "subprocess"`, in keyrings."""

    def __init__(self, uv: str, *, use_keyring: bool) -> None:
        """*uv* is the executable."""
        self._uv = uv
        self._use_keyring = use_keyring

    def __call__(self, url: str, user: str | None) -> Login | None:
        """Return the login for *url*, of *user* where that is given; None where none is stored."""
        login = self._from_uv(url, user)
        if login is None and self._use_keyring:
            login = _from_keyring(url, user)
        return login

    def _from_uv(self, url: str, user: str | None) -> Login | None:
        """Query uv's helper for other programs: `uv auth token` would need the user name."""
        parts = urlsplit(url)
        uri = parts._replace(netloc=f"{user}@{parts.netloc}").geturl() if user else url
        output = _run([self._uv, *_UV_HELPER.split()], json.dumps({"uri": uri}))
        try:
            [header] = json.loads(output or "")["headers"]["Authorization"]
            scheme, _, text = header.partition(" ")
            name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (ValueError, KeyError, TypeError, binascii.Error):
            return None
        return (name, password) if scheme == "Basic" and user in {None, name} else None


def keyring_path() -> str:
    """Return a PATH for uv with the `keyring` of this environment, where there is no other."""
    path = absolute_path()
    if find_program("keyring"):
        return path
    return os.pathsep.join(filter(None, [path, str(Path(sys.executable).parent)]))


def _from_keyring(url: str, user: str | None) -> Login | None:
    """Query in uv's order: the URL, the host, the host with its scheme."""
    program = shutil.which("keyring", path=keyring_path())
    parts = urlsplit(url)
    for service in (url, parts.netloc, f"{parts.scheme}://{parts.netloc}") if program else ():
        arguments = ["get", service, user] if user else ["--mode", "creds", "get", service]
        lines = (_run([str(program), *arguments], "") or "").splitlines()
        if user and len(lines) == 1:
            return user, lines[0]
        if not user and len(lines) == 2:
            return lines[0], lines[1]
    return None


def _run(command: Sequence[str], stdin: str) -> str | None:
    """Return the output of *command*; None where it fails or times out. It is never printed."""
    try:
        process = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return None
    return process.stdout if process.returncode == 0 else None
