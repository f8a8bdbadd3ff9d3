from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests

from offline_bundle.runner.engines.hps.client_errors import ServerUnreachableError
from offline_bundle.runner.engines.hps.server import Server
from offline_bundle.runner.engines.hps.session import connect
from offline_bundle.runner.hps_server import EmbeddedHps
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from tests.support.jobs import embedded, server_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHps]:
    yield from embedded(tmp_path_factory.mktemp("hps"))


@pytest.fixture(scope="module")
def secure_hps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHps]:
    yield from embedded(tmp_path_factory.mktemp("secure"), tls=True)


def refusal(server: Server) -> BundleError:
    with pytest.raises(BundleError) as raised, connect(server):
        pass
    assert raised.value.hint
    assert server.password not in f"{raised.value} {raised.value.hint}"
    return raised.value


@pytest.mark.parametrize("url", ["localhost:8443/hps", "ftp://localhost/hps", "https:///hps", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is not the URL of a server"):
        Server(url=url, password="s3cret")


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as raised:
        Server(url="https://me:s3cret@localhost/hps", password="s3cret")
    assert "s3cret" not in str(raised.value)


def test_a_password_is_never_part_of_what_is_printed() -> None:
    assert "s3cret" not in repr(Server(password="s3cret"))


def test_sign_in(hps: EmbeddedHps) -> None:
    with connect(server_of(hps, url=hps.url + "/")) as session:
        assert session.client.username == hps.username
        assert session.jms.get_projects(as_objects=False) == []


def test_a_wrong_password_is_named_as_such(hps: EmbeddedHps) -> None:
    error = refusal(server_of(hps, password="wrong-one"))
    assert error.exit_code == 2
    assert "does not accept this username" in error.message
    assert "HPS_PASSWORD" in str(error.hint)


def test_a_wrong_path_is_named_as_such(hps: EmbeddedHps) -> None:
    error = refusal(server_of(hps, url=hps.url.replace("/hps", "/rep")))
    assert error.exit_code == 2
    assert f"{hps.url.replace('/hps', '/rep')} is not an HPS server: 404" in error.message


def test_a_server_that_is_not_there_is_named_as_such() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/hps"
        error = refusal(Server(url=url, password="s3cret"))
    assert error.exit_code == 1
    assert error.message == f"{url} cannot be reached: Connection refused"


def test_a_name_that_is_not_there_is_named_as_such() -> None:
    error = refusal(Server(url="https://hps.invalid/hps", password="s3cret"))
    assert error.exit_code == 1
    assert "https://hps.invalid/hps cannot be reached" in error.message


def test_an_untrusted_certificate_is_named_as_such(secure_hps: EmbeddedHps) -> None:
    error = refusal(server_of(secure_hps, ca_file=None))
    assert error.exit_code == 2
    assert "is not trusted: unable to get local issuer certificate" in error.message
    assert "--ca-file" in str(error.hint)


def test_a_foreign_authority_is_not_enough(secure_hps: EmbeddedHps, tmp_path: Path) -> None:
    import trustme

    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    assert "is not trusted" in refusal(server_of(secure_hps, ca_file=other)).message
    with pytest.raises(InputError, match="is not a file"):
        server_of(secure_hps, ca_file=tmp_path / "none.pem")


def test_tls_where_there_is_none_is_named_as_such(hps: EmbeddedHps) -> None:
    error = refusal(server_of(hps, url=hps.url.replace("http:", "https:")))
    assert error.exit_code == 2
    assert "no TLS connection" in error.message


def test_no_tls_where_there_is_one_is_named_as_such(secure_hps: EmbeddedHps) -> None:
    error = refusal(server_of(secure_hps, url=secure_hps.url.replace("https:", "http:")))
    assert "cannot be reached" in error.message


@pytest.mark.parametrize("way", ["ca_file", "is_insecure"])
def test_files_move_as_verified_as_the_rest_whatever_the_environment_says(
    secure_hps: EmbeddedHps, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trustme

    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    before = dict(os.environ)
    server = (
        server_of(secure_hps)
        if way == "ca_file"
        else server_of(secure_hps, ca_file=None, is_insecure=True)
    )
    with connect(server) as session:
        assert session.client.data_transfer_api.status(wait=True).ready
        assert session.client.data_transfer_client.binary_config.insecure is server.is_insecure
        process = session.client.data_transfer_client.binary._process
    process.wait(timeout=10)
    assert dict(os.environ) == before


def test_a_home_with_a_space_does_not_stop_the_file_transfer(
    hps: EmbeddedHps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with connect(server_of(hps)) as session:
        assert session.client.data_transfer_api.status(wait=True).ready
    assert list(home.iterdir()) == []


def test_an_expired_session_is_renewed(hps: EmbeddedHps) -> None:
    notices: list[str] = []
    with connect(server_of(hps), notice=notices.append) as session:
        first = session.client
        first.session.headers["Authorization"] = "Bearer expired"
        first.refresh_token = "expired too"
        assert (
            session.retry_until_available(lambda: session.jms.get_projects(as_objects=False)) == []
        )
        assert session.client is not first
    assert notices == []


def test_tokens_that_last_for_seconds_are_enough(tmp_path: Path) -> None:
    with EmbeddedHps(data=tmp_path, lifetime=2) as hps, connect(server_of(hps)) as session:
        assert session.client.data_transfer_api.status(wait=True).ready
        token = session.client.access_token
        time.sleep(2.5)
        assert (
            session.retry_until_available(lambda: session.jms.get_projects(as_objects=False)) == []
        )
        assert session.client.access_token != token
        assert (
            session.client.data_transfer_client.binary_config.token == session.client.access_token
        )


def test_a_restart_of_the_server_is_ridden_out_and_said_once(tmp_path: Path) -> None:
    notices: list[str] = []
    first = EmbeddedHps(data=tmp_path)
    first.start()
    second = EmbeddedHps(
        data=tmp_path, port=first.port, username=first.username, password=first.password
    )
    try:
        with connect(server_of(first), notice=notices.append) as session:
            first.stop()
            starting = threading.Timer(3.0, second.start)
            starting.start()
            assert (
                session.retry_until_available(lambda: session.jms.get_projects(as_objects=False))
                == []
            )
            starting.join()
    finally:
        second.stop()
    assert len(notices) == 2
    assert "no connection to " in notices[0]
    assert notices[1] == f"the connection to {first.url} is back"


def test_patience_ends(hps: EmbeddedHps) -> None:
    def lose() -> None:
        raise requests.ConnectionError("[Errno 104] Connection reset by peer")

    notices: list[str] = []
    with (
        connect(server_of(hps), notice=notices.append, retry_timeout=0.2) as session,
        pytest.raises(
            ServerUnreachableError, match="could not be reached for 0 s: Connection reset by peer"
        ),
    ):
        session.retry_until_available(lose)
    assert len(notices) == 1


def test_what_the_server_refuses_is_said_in_its_words(hps: EmbeddedHps) -> None:
    with connect(server_of(hps)) as session, pytest.raises(BundleError, match="404"):
        session.retry_until_available(lambda: session.project("nowhere").get_jobs())


@pytest.mark.slow
def test_a_worker_that_does_not_start_is_named_as_such(hps: EmbeddedHps, own_home: Path) -> None:
    build = requests.get(f"{hps.url}/dt/api/v1/", timeout=5).json()["build_info"]
    worker = own_home / f".ansys/hps/data-transfer/binaries/worker/hpsdata-{build['version_hash']}"
    worker.parent.mkdir(parents=True)
    worker.write_text("#!/bin/sh\nexec sleep 20\n")
    with (
        connect(server_of(hps)) as session,
        pytest.raises(BundleError, match="file transfer does not start"),
    ):
        session.retry_until_available(lambda: session.client.data_transfer_api)
