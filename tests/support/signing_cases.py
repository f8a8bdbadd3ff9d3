from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest_bytes
from offline_bundle.wheelhouse.runtime.bundle.signatures import read_signature
from offline_bundle.wheelhouse.signing import check_manifest_signature
from tests.support.programs import require

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.wheelhouse.runtime.bundle.signatures import Signer, SignerPolicy


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


def check_bundle_signature(bundle: Path, trust: SignerPolicy) -> Signer:
    return check_manifest_signature(read_manifest_bytes(bundle), read_signature(str(bundle)), trust)
