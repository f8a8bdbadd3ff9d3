from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import requests

from offline_bundle.runner.engines.hps.connection.client_errors import ServerUnreachableError
from offline_bundle.runner.engines.hps.connection.server import Server
from offline_bundle.runner.engines.hps.connection.session import connect
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from tests.support.jobs import server_of

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.runner.hps_server import EmbeddedHps
from tests.support.hps_session_cases import hps, refusal, secure_hps

__all__ = ["hps", "secure_hps"]


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
