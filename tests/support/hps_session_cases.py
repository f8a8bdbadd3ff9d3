from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.engines.hps.connection.session import connect
from offline_bundle.wheelhouse.runtime.errors import BundleError
from tests.support.jobs import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offline_bundle.runner.engines.hps.connection.server import Server
    from offline_bundle.runner.hps_server import EmbeddedHps


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
