"""Logins that other programs keep: uv's own store (`uv auth login`), and keyrings.

They are asked as uv asks them, so that the files of an index are fetched by the same account as its pages. Both are
processes of their own and slow; `Credentials` asks only once a server has asked.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offline_bundle.builder.fetch.credentials import Login

# A keyring that waits for its owner to unlock it must not hold a build for ever.
_SECONDS = 60.0


class StoredLogins:
    """Asks uv's store and, where uv is told to (`keyring-provider = "subprocess"`), the `keyring` program."""

    def __init__(self, uv: str, *, asks_keyring: bool) -> None:
        """*uv* is the executable."""
        self._uv = uv
        self._asks_keyring = asks_keyring

    def __call__(self, url: str, user: str | None) -> Login | None:
        """The login for *url*, of *user* where that is given; None where nobody knows one."""
        login = self._of_uv(url, user)
        if login is None and self._asks_keyring:
            login = _of_keyring(url, user)
        return login

    def _of_uv(self, url: str, user: str | None) -> Login | None:
        """`uv auth token` would have to be told the user; its helper for other programs gives the whole header."""
        parts = urlsplit(url)
        asked = parts._replace(netloc=f"{user}@{parts.netloc}").geturl() if user else url
        helper = [
            self._uv,
            "auth",
            "helper",
            "--preview-features",
            "auth-helper",
            "--protocol",
            "bazel",
            "get",
        ]
        answer = _run(helper, json.dumps({"uri": asked}))
        try:
            [header] = json.loads(answer or "")["headers"]["Authorization"]
            scheme, _, text = header.partition(" ")
            found, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (ValueError, KeyError, TypeError, binascii.Error):
            return None
        return (found, password) if scheme == "Basic" and user in {None, found} else None


def keyring_path() -> str:
    """PATH for uv, so that it finds the `keyring` that is installed with us where there is no other."""
    path = os.environ.get("PATH", os.defpath)
    return (
        path
        if shutil.which("keyring")
        else os.pathsep.join([path, str(Path(sys.executable).parent)])
    )


def _of_keyring(url: str, user: str | None) -> Login | None:
    """In uv's order: the whole URL, the host, the host with its scheme."""
    program = shutil.which("keyring", path=keyring_path())
    parts = urlsplit(url)
    for service in (url, parts.netloc, f"{parts.scheme}://{parts.netloc}") if program else ():
        how = ["get", service, user] if user else ["--mode", "creds", "get", service]
        lines = (_run([str(program), *how], "") or "").splitlines()
        if user and len(lines) == 1:
            return user, lines[0]
        if not user and len(lines) == 2:
            return lines[0], lines[1]
    return None


def _run(command: Sequence[str], sent: str) -> str | None:
    """What *command* says; None where it fails or does not answer. What it says goes nowhere else."""
    try:
        done = subprocess.run(
            command,
            input=sent,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
