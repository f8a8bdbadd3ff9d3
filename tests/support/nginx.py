"""A real web server over a folder: nginx with a password, TLS, and certificates of its clients."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.support.programs import require

if TYPE_CHECKING:
    from pathlib import Path

USER, PASSWORD = "kate", "s3cr3t-word/with:all@of%it"

_CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  types {{ text/html html; }}
  server {{
    listen 127.0.0.1:{port}{tls};
    root {root};
    autoindex on;
    {lines}
  }}
}}
"""


@dataclass
class Nginx:
    """Serve *root*: http://127.0.0.1:PORT/ is a listing of it.

    With *has_password*, requests need USER and PASSWORD. With *certificate* (PEM, with its key) the
    server uses TLS, and with *client_authority* clients need a certificate of that authority.
    """

    folder: Path
    root: Path
    has_password: bool = True
    certificate: Path | None = None
    client_authority: Path | None = None

    def __enter__(self) -> Self:
        program = require("nginx")
        self.folder.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        scheme = "https" if self.certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}/"
        path = self.folder / "nginx.conf"
        path.write_text(self._configuration())
        self._process = subprocess.Popen(
            [program, "-c", path, "-p", self.folder], stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process.poll() is None, (self.folder / "error.log").read_text()
                time.sleep(0.02)
            else:
                return self
        raise AssertionError((self.folder / "error.log").read_text())

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def requests(self) -> list[str]:
        """The lines of the access log: host, user and what was asked for."""
        return (self.folder / "access.log").read_text().splitlines()

    def _configuration(self) -> str:
        lines = []
        if self.has_password:
            users = self.folder / "users"
            digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
            users.write_text(f"{USER}:{{SHA}}{digest}\n")
            lines += ['auth_basic "packages";', f"auth_basic_user_file {users};"]
        if self.certificate:
            lines += [
                f"ssl_certificate {self.certificate};",
                f"ssl_certificate_key {self.certificate};",
            ]
        if self.client_authority:
            lines += [f"ssl_client_certificate {self.client_authority};", "ssl_verify_client on;"]
        return _CONFIGURATION.format(
            folder=self.folder,
            root=self.root,
            port=self.port,
            tls=" ssl" if self.certificate else "",
            user="user root;" if os.geteuid() == 0 else "",
            lines="\n    ".join(lines),
        )


@dataclass(frozen=True)
class Certificates:
    """A test authority, a server's certificate for 127.0.0.1, and a client's: PEM with keys."""

    authority: Path
    server: Path
    client: Path


def make_certificates(folder: Path) -> Certificates:
    import trustme

    folder.mkdir(parents=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    for name, identity in (("server", "127.0.0.1"), ("client", "kate@example.invalid")):
        authority.issue_cert(identity).private_key_and_cert_chain_pem.write_to_path(
            str(folder / f"{name}.pem")
        )
    return Certificates(folder / "authority.pem", folder / "server.pem", folder / "client.pem")
