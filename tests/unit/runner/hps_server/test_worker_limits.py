"""The data transfer worker: a request without the key, or with a lying size, is not read."""

from __future__ import annotations

import argparse
import http.client
import threading
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.hps_server.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setenv("ANSYS_DT_AUTH__API_KEY__VALUE", "key")
    options = argparse.Namespace(host="127.0.0.1", port=0, dt_url="http://127.0.0.1:1", token="")
    with Worker(options) as worker:
        thread = threading.Thread(target=worker.serve_forever, args=(0.02,))
        thread.start()
        yield worker
        worker.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("key", "length", "status"),
    [
        ("", "1000000000000", 401),
        ("other", "-1", 401),
        ("key", "1000000000000", 413),
        ("key", "9" * 5000, 413),
        ("key", "-1", 413),
        ("key", "1e3", 413),
    ],
)
def test_no_body_is_waited_for(worker: Worker, key: str, length: str, status: int) -> None:
    connection = http.client.HTTPConnection(*worker.server_address[:2], timeout=30)
    connection.putrequest("POST", "/api/v1/copy")
    connection.putheader("X-API-Key", key)
    connection.putheader("Content-Length", length)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == status
    answer.read()
    connection.close()
