from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import run_command_line
from tests.support.archives import put_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import click


def call(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return put_bundle(tmp_path / "bundle")
