"""Shared by the unit and integration tests: `show --key`: the same key for the same inputs,
wherever and whenever, and without a network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import Told, call

if TYPE_CHECKING:
    from pathlib import Path


def show(folder: Path, *arguments: str, **variables: str) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, text in variables.items():
            patch.setenv(name, text)
        return call("show", *arguments)


def key(folder: Path, *arguments: str, **variables: str) -> str:
    told = show(folder, "--key", *arguments, **variables)
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(r"[0-9a-f]{64}\n", told.out)
    return told.out.strip()
