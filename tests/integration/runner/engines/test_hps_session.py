from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests

from offline_bundle.runner.engines.hps.connection.session import connect
from offline_bundle.runner.hps_server import EmbeddedHps
from offline_bundle.wheelhouse.runtime.errors import BundleError
from tests.support.jobs import server_of

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.hps_session_cases import hps, refusal, secure_hps

__all__ = ["hps", "secure_hps"]


def test_sign_in(hps: EmbeddedHps) -> None:
    with connect(server_of(hps, url=hps.url + "/")) as session:
        assert session.client.username == hps.username
        assert session.jms.get_projects(as_objects=False) == []


def test_an_untrusted_certificate_is_named_as_such(secure_hps: EmbeddedHps) -> None:
    error = refusal(server_of(secure_hps, ca_file=None))
    assert error.exit_code == 2
    assert "is not trusted: unable to get local issuer certificate" in error.message
    assert "--ca-file" in str(error.hint)


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
