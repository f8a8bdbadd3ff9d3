from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import require

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, passphrase in {"alice": "", "mallory": "", "sealed": "right"}.items():
        make_key(folder / name, passphrase)
    return folder


def make_key(path: Path, passphrase: str = "") -> None:
    require("ssh-keygen")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name, "-f", path],
        check=True,
    )


def public(key: Path) -> str:
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


def allowing(folder: Path, *lines: str) -> Path:
    path = folder / "allowed_signers"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
