"""An HPS server whose documents have other types, fields and numbers than those of HPS."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.runner.engines.hps import engine
from offline_bundle.runner.engines.hps.connection import session
from offline_bundle.wheelhouse.runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD: list[Any] = [[{}], [None], ["text"], {"id": 1}, 7, None, [[]]]


@pytest.mark.parametrize("answer", ODD, ids=repr)
def test_an_odd_answer_is_an_error_of_the_server(
    answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def connect(server: object, **_: object) -> Iterator[object]:
        yield SimpleNamespace(
            server=server, retry_until_available=lambda _: answer, client=None, jms=None
        )

    monkeypatch.setattr(session, "connect", connect)
    options = {
        "url": "https://hps.example/hps", "username": "u", "password": "p", "token": None,
        "client_id": None, "client_secret": None, "ca_file": None, "insecure": False,
    }  # fmt: skip
    with (
        pytest.raises(BundleError, match=r"https://hps\.example/hps: the answer is not as expect"),
        engine.open_engine(options, lambda _: None) as opened,
    ):
        opened.list_projects()
