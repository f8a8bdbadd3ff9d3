"""Fixtures of the embedded HPS."""

from __future__ import annotations

import pytest

from tests.support.hps import connect, hps, module_home

__all__ = ["connect", "hps", "module_home"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The upstream client leaves sockets and temporary directories to the garbage collector."""
    for item in items:
        if "hps_server" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(
                pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
            )
