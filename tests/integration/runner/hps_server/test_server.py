from __future__ import annotations

import http.client
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
import requests
from ansys.hps.client import Client, ClientError
from ansys.hps.client.jms import File, Job, Project, ProjectApi

from offline_bundle.runner.hps_server import EmbeddedHps, connection
from offline_bundle.runner.hps_server.auth import Accounts, AuthError
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from tests.support.bundles import BundleScript, make_bundle
from tests.support.hps import SOFTWARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.hps import Hps


def ask(hps: Hps, method: str, path: str, **options: Any) -> requests.Response:  # noqa: ANN401 - those of requests
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, f"{hps.server.url}{path}", timeout=10, **options)


UPLOAD = "/hps/dt/api/v1/data/slow/file HTTP/1.1"
SLOW_REQUESTS = {
    "nothing": b"",
    "half a head": b"GET /hps HTTP/1.1\r\nHost: x\r\nX: ",
    "half a body": b"POST /hps/dt/api/v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    "no token": f"PUT {UPLOAD}\r\nHost: x\r\nContent-Length: 9\r\n\r\na".encode(),
    "WebSocket": b"GET /hps/monitor/ws/topics HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n",
}


def is_open(client: socket.socket) -> bool:
    """Return whether the server keeps a connection; wait for nothing."""
    client.setblocking(False)  # noqa: FBT003 - it takes no keywords
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


class TestAuthentication:
    def test_a_wrong_password(self, hps: Hps) -> None:
        with pytest.raises(ClientError, match="Invalid user credentials") as caught:
            Client(hps.server.url, hps.server.username, "wrong", verify=False)
        assert caught.value.response.status_code == 401

    @pytest.mark.parametrize("header", [None, "Bearer nonsense", "Basic abc"])
    @pytest.mark.parametrize(
        "path", ["/jms/api/v1/projects", "/rms/api/v1/evaluators", "/dt/api/v1/data/a/b"]
    )
    def test_nothing_without_a_token(self, hps: Hps, path: str, header: str | None) -> None:
        assert (
            ask(hps, "GET", path, headers={"Authorization": header} if header else {}).status_code
            == 401
        )

    def test_no_upload_without_a_token(self, hps: Hps) -> None:
        assert ask(hps, "PUT", "/dt/api/v1/data/a/b", data=b"x").status_code == 401
        assert not (hps.server.data / "storage" / "a").exists()

    @pytest.mark.parametrize(
        ("path", "is_authorized", "size", "status"),
        [
            ("/auth/realms/rep/protocol/openid-connect/token", False, 64 << 10, 401),
            ("/auth/realms/rep/protocol/openid-connect/token", False, (64 << 10) + 1, 413),
            ("/jms/api/v1/projects", False, 1 << 40, 401),
            ("/jms/api/v1/projects", True, (64 << 20) + 1, 413),
        ],
    )
    def test_bodies_are_limited(
        self, hps: Hps, path: str, *, is_authorized: bool, size: int, status: int
    ) -> None:
        """Without a token a large body is not read; with one, up to the limit."""
        connection = http.client.HTTPConnection("127.0.0.1", hps.server.port, timeout=20)
        connection.putrequest("POST", f"/hps{path}")
        connection.putheader("Content-Length", str(size))
        if is_authorized:
            connection.putheader("Authorization", f"Bearer {hps.client.access_token}")
        connection.endheaders()
        for _ in range(min(size, (64 << 20) + 1) // (1 << 16)):
            connection.send(bytes(1 << 16))
        if size < 1 << 40:
            connection.send(bytes(size % (1 << 16)))
        assert connection.getresponse().status == status
        connection.close()

    def test_a_refresh_token_is_no_access_token(self, hps: Hps) -> None:
        header = {"Authorization": f"Bearer {hps.client.refresh_token}"}
        assert ask(hps, "GET", "/jms/api/v1/projects", headers=header).status_code == 401

    def test_tokens_expire(self, tmp_path: Path) -> None:
        accounts = Accounts("me", "secret", tmp_path / "key", lifetime=-1)
        token = accounts.issue({"username": "me", "password": "secret"}, "here")["access_token"]
        with pytest.raises(AuthError, match="expired"):
            accounts.check(token)
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("left", ["", "0" * 63, "secret"])
    def test_a_key_that_a_full_disk_left_is_not_used(self, tmp_path: Path, left: str) -> None:
        (tmp_path / "key").write_text(left)
        accounts = Accounts("me", "secret", tmp_path / "key", lifetime=60)
        key = (tmp_path / "key").read_text()
        assert len(key) == 64
        assert key != left
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        again = Accounts("me", "secret", tmp_path / "key", lifetime=60)
        assert again.check(accounts.worker_token(accounts.user)) == accounts.user

    @pytest.mark.parametrize("start", SLOW_REQUESTS.values(), ids=SLOW_REQUESTS)
    def test_connections_without_a_user_end_first(
        self, hps: Hps, monkeypatch: pytest.MonkeyPatch, start: bytes
    ) -> None:
        monkeypatch.setattr(connection, "_MOST_CONNECTIONS", 20)
        address = ("127.0.0.1", hps.server.port)
        head = f"Host: x\r\nAuthorization: Bearer {hps.client.access_token}\r\n"
        with ExitStack() as stack:
            upload = stack.enter_context(socket.create_connection(address, timeout=10))
            upload.sendall(f"PUT {UPLOAD}\r\n{head}Content-Length: 2\r\n\r\na".encode())
            assert ask(hps, "GET", "/jms/api/v1/projects").status_code == 401
            others = []
            for _ in range(60):
                others.append(stack.enter_context(socket.create_connection(address, timeout=10)))
                others[-1].sendall(start)
            assert ask(hps, "GET", "/jms/api/v1/projects").status_code == 401
            upload.sendall(b"b")
            assert upload.recv(12) == b"HTTP/1.1 200"
            assert sum(map(is_open, others)) <= 20

    def test_a_session_outlives_its_token(
        self, tmp_path: Path, module_home: None, connect: Callable[[EmbeddedHps], Hps]
    ) -> None:
        del module_home
        with EmbeddedHps(tmp_path / "data", software={}, lifetime=2) as server:
            hps = connect(server)
            hps.client.initialize_data_transfer_client()
            time.sleep(2.1)
            project = hps.jms.create_project(Project(name="later"))
            api = ProjectApi(hps.client, project.id)
            file = api.create_files(
                [File(name="a", evaluation_path="a", src=io.BytesIO(b"later"))]
            )[0]
            assert file.size == 5


class TestFiles:
    @pytest.fixture
    def api(self, hps: Hps) -> ProjectApi:
        return ProjectApi(hps.client, hps.jms.create_project(Project(name="files")).id)

    def test_up_and_down(self, api: ProjectApi, tmp_path: Path) -> None:
        contents = {"empty": b"", "mock": b"Mock file", "large": os.urandom(3_000_000)}
        files = api.create_files(
            [
                File(name=name, evaluation_path=f"in/{name}", src=io.BytesIO(data))
                for name, data in contents.items()
            ]
        )
        assert {file.name: file.size for file in files} == {
            name: len(data) for name, data in contents.items()
        }
        assert files[1].hash == "ac2390bba2edaa01"
        for file in files:
            path = api.download_file(file, str(tmp_path))
            assert open(path, "rb").read() == contents[file.name]  # noqa: PTH123, SIM115
        assert not list(tmp_path.rglob("*.partial"))

    def test_a_missing_content(self, api: ProjectApi, tmp_path: Path) -> None:
        file = api.create_files([File(name="a", evaluation_path="a")])[0]
        file.size = 0
        assert api.download_file(file, str(tmp_path)) is None

    @pytest.mark.parametrize(
        "path", ["../../token.key", "a/../../hps.sqlite", "%2e%2e/%2e%2e/token.key", "."]
    )
    def test_paths_stay_in_the_storage(self, hps: Hps, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", hps.server.port, timeout=10)
        for method in ("GET", "PUT"):
            connection.request(
                method,
                f"/hps/dt/api/v1/data/{path}",
                b"x",
                {"Authorization": f"Bearer {hps.client.access_token}"},
            )
            answer = connection.getresponse()
            answer.read()
            assert answer.status in {404, 405}
        connection.close()

    def test_the_worker_wants_its_key(self, hps: Hps) -> None:
        worker = hps.client._dt_client.binary_config
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(f"{worker.url}/", timeout=5).status_code == 401
            answer = session.post(f"{worker.url}/storage:copy", json={"operations": []}, timeout=5)
            assert answer.status_code == 401

    def test_a_worker_whose_first_token_expired_uses_the_next(
        self, hps: Hps, tmp_path: Path
    ) -> None:
        """A busy machine starts the program later than its token lasts."""
        key = {"ANSYS_DT_AUTH__API_KEY__VALUE": "key"}
        (tmp_path / "input").write_text("content")
        source = {"path": str(tmp_path / "input"), "remote": "local"}
        step = {"src": source, "dst": {"path": "project/input", "remote": "any"}}
        with (
            running_worker(hps.server, "expired", key) as worker,
            requests.Session() as session,
        ):
            session.trust_env = False
            session.headers["X-API-Key"] = "key"
            for token, state in (("", "failed"), (hps.client.access_token, "succeeded")):
                session.headers["Authorization"] = f"Bearer {token}"
                copy = session.post(f"{worker}storage:copy", json={"operations": [step]}, timeout=9)
                query = {"ids": copy.json()["id"]}
                answer = session.get(f"{worker}operations", params=query, timeout=9).json()
                assert answer["operations"][0]["state"] == state, answer


@contextmanager
def running_worker(
    server: EmbeddedHps, token: str, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """Start the worker as the client does; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(__file__).parents[4] / "runner" / "hps_server" / "worker.py"
    options = ["--port", str(port), "--dt-url", f"{server.url}/dt/api/v1", "-t", token]
    with subprocess.Popen(
        [sys.executable, program, *options],
        stdout=subprocess.PIPE,
        env={**os.environ, **variables},
    ) as process:
        deadline = time.monotonic() + 20
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/api/v1/"
        process.terminate()


class TestWorkerWithoutKey:
    """Clients 0.10 make no key: they show their user's token, and renew it."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[EmbeddedHps]:
        with EmbeddedHps(tmp_path / "data", software={}) as server:
            yield server

    @pytest.fixture
    def accounts(self, server: EmbeddedHps) -> Accounts:
        return Accounts(server.username, server.password, server.data / "token.key", lifetime=60)

    @pytest.fixture
    def worker(self, server: EmbeddedHps, accounts: Accounts) -> Iterator[str]:
        token = accounts.issue({"username": server.username, "password": server.password}, "")[
            "access_token"
        ]
        with running_worker(server, token) as address:
            yield address

    def ask(self, worker: str, token: str) -> int:
        with requests.Session() as session:
            session.trust_env = False
            header = {"Authorization": f"Bearer {token}"} if token else {}
            return session.get(worker, headers=header, timeout=10).status_code

    def test_only_tokens_of_its_user_that_are_valid_now(
        self, worker: str, server: EmbeddedHps, accounts: Accounts
    ) -> None:
        answer = accounts.issue({"username": server.username, "password": server.password}, "")
        renewed = accounts.issue(
            {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}, ""
        )
        assert self.ask(worker, answer["access_token"]) == 200
        assert self.ask(worker, renewed["access_token"]) == 200
        expired = Accounts(server.username, server.password, server.data / "token.key", lifetime=-1)
        forged = Accounts(
            server.username, server.password, server.data / "another.key", lifetime=60
        )
        refused = [
            "",
            "nonsense",
            answer["refresh_token"],
            expired.issue({"username": server.username, "password": server.password}, "")[
                "access_token"
            ],
            forged.issue({"username": server.username, "password": server.password}, "")[
                "access_token"
            ],
            accounts.worker_token(accounts.service),
        ]
        assert [self.ask(worker, token) for token in refused] == [401] * len(refused)
        server.stop()
        assert self.ask(worker, renewed["access_token"]) == 503


class TestObjects:
    def test_copies_and_archives_keep_what_is_inside(self, hps: Hps, tmp_path: Path) -> None:
        submitted = hps.submit("pass", inputs={"data": b"content"}, jobs=2, state="inactive")
        copied = ProjectApi(hps.client, submitted.api.copy_project())
        archive = submitted.api.archive_project(str(tmp_path))
        restored = ProjectApi(hps.client, hps.jms.restore_project(archive).id)
        for api in (copied, restored):
            assert len(api.get_jobs()) == 2
            task = api.get_tasks()[0]
            assert task.job_id in {job.id for job in api.get_jobs()}
            file = api.get_files(id=task.input_file_ids, content=True)[0]
            assert file.content == b"content"
            assert file.id not in {file.id for file in submitted.files.values()}

    def test_counts_and_unknown_things(self, hps: Hps) -> None:
        submitted = hps.submit("pass", jobs=3, state="inactive")
        assert submitted.api.get_jobs(count=True) == 3
        with pytest.raises(ClientError) as caught:
            hps.jms.get_project("nothing")
        assert caught.value.response.status_code == 404
        header = {"Authorization": f"Bearer {hps.client.access_token}"}
        for path in (
            "/jms/api/v1/nonsense",
            "/nonsense",
            f"/jms/api/v1/projects/{submitted.project.id}/nonsense",
        ):
            assert ask(hps, "GET", path, headers=header).status_code == 404
        answer = ask(hps, "POST", "/jms/api/v1/projects", headers=header, data=b"{")
        assert answer.status_code == 400
        for path in ("/jms/api/v1/projects", "/rms/api/v1/evaluators"):
            for number in ("x", "9" * 5000, "\u0663", ""):
                answer = ask(hps, "GET", f"{path}?limit={number}", headers=header)
                assert answer.status_code == 400

    @pytest.mark.parametrize(
        "name",
        [b'"a\\ud800"', b'"a\xed\xa0\x80"', b"NaN", b"1e999", b"[" * 100_000],
        ids=["escaped surrogate", "encoded surrogate", "NaN", "infinite", "deeply nested"],
    )
    def test_text_that_no_response_can_hold_is_refused(self, hps: Hps, name: bytes) -> None:
        """A value that cannot be sent again is answered with 400: listing goes on working."""
        header = {"Authorization": f"Bearer {hps.client.access_token}"}
        body = b'{"projects": [{"name": %b}]}' % name
        answer = ask(hps, "POST", "/jms/api/v1/projects", headers=header, data=body)
        assert answer.status_code == 400
        assert answer.json()["description"].startswith("the body is not JSON: ")
        assert ask(hps, "GET", "/jms/api/v1/projects", headers=header).status_code == 200

    def test_replace(self, hps: Hps) -> None:
        for _ in range(2):
            hps.jms.create_project(Project(name="twice"), replace=True)
        assert len(hps.jms.get_projects(name="twice")) == 1

    def test_the_evaluator_is_listed(self, hps: Hps) -> None:
        header = {"Authorization": f"Bearer {hps.client.access_token}"}
        listed = ask(hps, "GET", "/rms/api/v1/evaluators", headers=header).json()["evaluators"]
        path = f"/rms/api/v1/evaluators/{listed[0]['id']}/configuration"
        configuration = ask(hps, "GET", path, headers=header).json()
        assert configuration["max_num_parallel_tasks"] == 2
        assert configuration["applications"][0]["name"] == "tool"

    def test_many_jobs_in_one_request(self, hps: Hps) -> None:
        submitted = hps.submit("pass", state="inactive")
        definition = submitted.api.get_job_definitions()[0]
        jobs = [
            Job(name=f"many {i}", eval_status="inactive", job_definition_id=definition.id)
            for i in range(1000)
        ]
        submitted.api.create_jobs(jobs, as_objects=False)
        assert submitted.states() == {"inactive": 1001}


class TestLife:
    def test_loopback_only(self, hps: Hps) -> None:
        with socket.socket() as other:
            other.bind(
                ("127.0.0.2", hps.server.port)
            )  # nobody has it: the server did not take every address

    def test_a_busy_port_and_a_busy_folder(self, hps: Hps, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="cannot listen on port"):
            EmbeddedHps(tmp_path, port=hps.server.port, software={}).start()
        with pytest.raises(InputError, match="another embedded HPS is using"):
            EmbeddedHps(hps.server.data, software={}).start()

    def test_the_folder_is_private(self, hps: Hps) -> None:
        assert hps.server.data.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize(
        ("mode", "owner", "fault"),
        [
            (0o777, None, "can be written by others"),
            (0o720, None, "can be written by others"),
            (0o700, 12345, "belongs to user 12345, not to you"),
        ],
    )
    def test_a_folder_that_others_can_change_is_refused(
        self, tmp_path: Path, mode: int, owner: int | None, fault: str
    ) -> None:
        """A key that another user put there would make their tokens valid."""
        data = tmp_path / "data"
        data.mkdir()
        data.chmod(mode)
        if owner is not None:
            if os.getuid():
                pytest.skip("only root can give a folder to another user")
            os.chown(data, owner, -1)
        with pytest.raises(InputError, match=fault) as raised:
            EmbeddedHps(data, software={}).start()
        assert raised.value.exit_code == 2
        assert "--data" in str(raised.value.hint)
        assert not list(data.iterdir())

    def test_others_cannot_enter_its_storage(self, tmp_path: Path) -> None:
        """Scripts of jobs are in it, perhaps with a mode by which others may change them."""
        data = tmp_path / "data"
        (data / "storage").mkdir(mode=0o755, parents=True)
        data.chmod(0o755)
        with EmbeddedHps(data, software={}):
            assert (data / "storage").stat().st_mode & 0o7777 == 0o700
        assert data.stat().st_mode & 0o7777 == 0o755  # it may have other files

    def test_tls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in (
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
        ):  # they would win over the client's `verify`
            monkeypatch.delenv(name, raising=False)
        with EmbeddedHps(tmp_path / "data", software={}, tls=True) as server:
            assert server.url.startswith("https://")
            Client(server.url, server.username, server.password, verify=str(server.ca_file))
            with pytest.raises(requests.exceptions.SSLError):
                Client(server.url, server.username, server.password, verify=True)
        assert (server.data / "server.pem").stat().st_mode & 0o777 == 0o600


def test_a_killed_server_leaves_no_process_and_its_jobs_are_taken_up(
    tmp_path: Path, module_home: None, connect: Callable[[EmbeddedHps], Hps]
) -> None:
    del module_home
    from tests.support.evaluator_cases import wait_for, wait_until_gone

    pids, go = tmp_path / "pids", tmp_path / "go"
    program = (
        "import json, sys, threading; from pathlib import Path; from "
        "offline_bundle.runner.hps_server import EmbeddedHps\n"
        "hps = EmbeddedHps(Path(sys.argv[1]), password='secret', slots=1, "
        "software=json.loads(sys.argv[2]))\n"
        "hps.start(); print(hps.port, flush=True); threading.Event().wait()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data"), json.dumps(SOFTWARE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        server = EmbeddedHps(
            tmp_path / "data", port=port, password="secret", slots=1, software=SOFTWARE
        )
        body = f'open({str(pids)!r}, "a").write(f"{{os.getpid()}} ")\nwhile not os.path.exists({str(go)!r}):'
        submitted = connect(server).submit(f"{body} time.sleep(0.02)", jobs=2)
        number = int(wait_for(pids))
        process.kill()
    wait_until_gone(number)
    go.touch()
    with server:
        assert submitted.wait() == {"evaluated": 2}
    assert len(pids.read_text().split()) == 3


@contextmanager
def embedded_command(
    folder: Path, *options: object
) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `embedded-hps` in *folder*; yield the process and the values that it prints at start."""
    command = [sys.executable, "-m", "offline_bundle", "embedded-hps", *map(str, options)]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().partition(":") for _ in range(5)]
            yield process, {name: value.strip() for name, _, value in lines}
        finally:
            process.terminate()


@pytest.mark.measured
def test_the_command_serves_what_it_says_how_to_try(tmp_path: Path) -> None:
    with embedded_command(tmp_path, "--data", "data dir", "--slots", "1") as (process, shown):
        assert shown["url"].startswith("https://127.0.0.1:")
        tried = shlex.split(shown["try it"])
        password = f"HPS_PASSWORD={shown['password']}"
        assert tried[:4] == [password, "offline-bundle", "submit", "SCRIPT.py"]
        asked = subprocess.run(
            [sys.executable, "-m", "offline_bundle", "jobs", *tried[4:]],
            env={**os.environ, "HPS_PASSWORD": shown["password"]},
            capture_output=True,
            text=True,
            check=False,
        )
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert asked.stdout == "no projects\n", asked.stderr
    assert process.returncode == 0
    assert "pending again" in errors


@pytest.mark.measured
def test_the_printed_submit_command_works_word_for_word(tmp_path: Path, own_home: Path) -> None:
    """A shell in another process runs the line after `try it:`; it exits 0 and leaves results."""
    del own_home
    script = BundleScript(body="import alpha\nprint('version', alpha.VERSION)\n")
    bundle = make_bundle(tmp_path / "a bundle", {"eval": script})
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("HPS_PASSWORD", None)
    options = ("--data", "data dir", "--slots", "4", "--bundle", bundle.name)
    with embedded_command(tmp_path, *options) as (_, shown):
        done = subprocess.run(
            ["sh", "-c", shown["try it"]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 done" in done.stdout
    consoles = sorted(folder.glob("eval-results/job-*/console_output.txt"))
    assert len(consoles) == 10
    assert all("version 1.0" in console.read_text() for console in consoles)
