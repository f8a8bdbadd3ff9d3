from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.bundle import policy
from offline_bundle.wheelhouse.runtime.bundle.policy import trusted_manifest
from offline_bundle.wheelhouse.runtime.errors import SignatureError
from tests.support.bundles import make_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def system_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of the site's policy, in a folder that this user can write as root writes /etc."""
    path = tmp_path / "etc" / "policy.json"
    monkeypatch.setattr(policy, "POLICY_PATH", str(path))
    monkeypatch.setattr(policy, "root_users", lambda: {0, os.getuid()})
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def write_policy(path: Path, **entries: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({name.replace("_", "-"): value for name, value in entries.items()}))
    return path


def kind_of_refusal(bundle: Path) -> str:
    with pytest.raises(SignatureError) as caught:
        trusted_manifest(str(bundle))
    assert caught.value.exit_code == 6
    return caught.value.kind
