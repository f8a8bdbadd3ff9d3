"""Index servers that sites run, with a password: released pypiserver and devpi.

They are installed into a separate environment, once per machine.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from offline_bundle.builder.resolve.uv_process import find_uv
from tests.support.command_line import call, indexes, read_bundle, versions, write_script
from tests.support.distributions import make_wheel, sha256_of
from tests.support.index_server import IndexServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.registry]

USER, PASSWORD = "kate", "s3cr3t-word"
_PLUGIN = f"""
from devpi_server.config import hookimpl

@hookimpl
def devpiserver_stage_get_principals_for_pkg_read(ixconfig):
    return [{USER!r}]
"""
SERVERS = ("pypiserver==2.4.1", "devpi-server==6.20.3")


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the servers' programs, in a cache that stays on the machine."""
    key = hashlib.sha256(" ".join(SERVERS).encode()).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"offline-bundle-tests-{os.getuid()}" / f"servers-{key}"
    if not (place / "complete").exists():
        for command in (
            ["venv", "--clear", place],
            ["pip", "install", "--python", place, *SERVERS],
        ):
            subprocess.run([find_uv(), *command], check=True, capture_output=True)
        (place / "complete").touch()
    return place / "bin"


@contextmanager
def running(command: list[object], port: int, log: Path) -> Iterator[str]:
    with (
        log.open("wb") as output,
        subprocess.Popen(list(map(str, command)), stdout=output, stderr=output) as process,
    ):
        try:
            for _ in range(600):
                try:
                    requests.get(f"http://127.0.0.1:{port}/", timeout=5)
                except requests.ConnectionError:
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.1)
                else:
                    break
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "wheels", "internal", "1.0+corp", requires=["helper"])
    make_wheel(tmp_path / "wheels", "helper")
    return tmp_path / "wheels"


@pytest.fixture
def pypiserver(tmp_path: Path, wheels: Path, programs: Path) -> Iterator[str]:
    """The URL of its simple index. Every action needs the password."""
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    (tmp_path / "users").write_text(f"{USER}:{{SHA}}{digest}\n")
    port = free_port()
    command = [
        programs / "pypi-server",
        "run",
        "--interface",
        "127.0.0.1",
        "--port",
        port,
        "--disable-fallback",
    ]
    command += ["--authenticate", "list,download,update", "--passwords", tmp_path / "users", wheels]
    with running(command, port, tmp_path / "pypiserver.log") as base:
        yield f"{base}/simple/"


@pytest.fixture
def devpi(
    tmp_path: Path, wheels: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of the simple index `kate/corp`.

    Everyone may read devpi's pages; a plugin decides about the files: here a distribution on its
    path.
    """
    wheel = make_wheel(
        tmp_path / "plugin",
        "readers",
        files={"readers.py": _PLUGIN},
        entry_points="[devpi_server]\nreaders = readers\n",
    )
    shutil.unpack_archive(wheel, tmp_path / "plugin", "zip")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "plugin"))
    port, state = free_port(), tmp_path / "devpi"
    root = secrets.token_hex(8)
    initial = [
        programs / "devpi-init",
        "--serverdir",
        state,
        "--no-root-pypi",
        "--root-passwd",
        root,
    ]
    subprocess.run(list(map(str, initial)), check=True, capture_output=True)
    command = [
        programs / "devpi-server",
        "--serverdir",
        state,
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    with running(command, port, tmp_path / "devpi.log") as base:
        json = {"Accept": "application/json"}
        requests.put(
            f"{base}/{USER}", json={"password": PASSWORD}, headers=json, timeout=30
        ).raise_for_status()
        done = requests.post(
            f"{base}/+login", json={"user": USER, "password": PASSWORD}, headers=json, timeout=30
        ).json()
        token = base64.b64encode(f"{USER}:{done['result']['password']}".encode()).decode()
        login = {"X-Devpi-Auth": token, **json}
        index = {"type": "stage", "bases": [], "volatile": True}
        requests.put(
            f"{base}/{USER}/corp", json=index, headers=login, timeout=30
        ).raise_for_status()
        for wheel in sorted(wheels.glob("*.whl")):
            name, version = wheel.name.split("-")[:2]
            form = {":action": "file_upload", "name": name, "version": version}
            with wheel.open("rb") as file:
                files = {"content": (wheel.name, file)}
                sent = requests.post(
                    f"{base}/{USER}/corp/", data=form, files=files, headers=login, timeout=30
                )
            sent.raise_for_status()
        yield f"{base}/{USER}/corp/+simple/"


@pytest.mark.parametrize("server", ["pypiserver", "devpi"])
def test_a_pinned_package_with_its_local_version(
    server: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    wheels: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside a public index that has the same name in a higher version."""
    url = request.getfixturevalue(server)
    make_wheel(tmp_path / "public", "internal", "99.0")
    make_wheel(tmp_path / "public", "helper", "99.0")
    tool = f'[[tool.uv.index]]\nname = "corp"\nurl = "{url}"\nexplicit = true\n'
    tool += '[tool.uv.sources]\ninternal = { index = "corp" }\nhelper = { index = "corp" }'
    script = write_script(tmp_path, "internal", tool=tool)
    with IndexServer(tmp_path / "public") as public:
        words = (
            "build",
            script,
            "-o",
            tmp_path / "bundle",
            "--no-uv",
            "--default-index",
            public.url,
        )
        refused = call(*words)
        assert refused.code == 4, refused.text
        assert url.removesuffix("+simple/").removesuffix("simple/") in refused.err
        assert "UV_INDEX_CORP_PASSWORD" in refused.err
        monkeypatch.setenv("UV_INDEX_CORP_USERNAME", USER)
        monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", PASSWORD)
        told = call(*words)
        assert told.code == 0, told.text
        assert not public.requests_for("*.whl")
    assert versions(tmp_path / "bundle") == {"internal": "1.0+corp", "helper": "1.0"}
    assert set(indexes(tmp_path / "bundle").values()) == {url.rstrip("/")}
    held = {path.name: sha256_of(path) for path in (tmp_path / "bundle/wheels").glob("*.whl")}
    assert held == {path.name: sha256_of(path) for path in wheels.glob("*.whl")}
    assert PASSWORD not in told.text
    assert PASSWORD not in str(read_bundle(tmp_path / "bundle"))


@pytest.mark.parametrize("server", ["pypiserver", "devpi"])
def test_by_pip(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue(server)
    monkeypatch.setenv("PIP_INDEX_URL", url.replace("//", f"//{USER}:{PASSWORD}@", 1))
    script = write_script(tmp_path, "internal")
    told = call("build", script, "-o", tmp_path / "bundle", "--no-uv", "--resolver", "pip-tools")
    assert told.code == 0, told.text
    assert versions(tmp_path / "bundle") == {"internal": "1.0+corp", "helper": "1.0"}
    assert PASSWORD not in str(read_bundle(tmp_path / "bundle"))
