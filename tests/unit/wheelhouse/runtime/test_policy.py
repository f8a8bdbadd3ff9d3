from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.bundle.policy import (
    may_be_in_force,
    policy_state,
    trusted_manifest,
)
from offline_bundle.wheelhouse.signing import check_trust
from tests.support.policy_cases import bundle, kind_of_refusal, system_policy, write_policy

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["bundle", "system_policy"]


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX's")


def test_without_a_policy_nothing_is_asked(bundle: Path) -> None:
    assert trusted_manifest(str(bundle)) == ((bundle / "bundle.json").read_bytes(), [])
    assert policy_state(str(bundle)) == []
    assert not may_be_in_force()
    assert check_trust(b"", None, None) == ()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"allowed-signers": 1}',
        '{"allowed-signers": "a", "all-must-sign": "yes"}',
        "\xff",
    ],
)
def test_a_policy_that_is_not_understood_lets_nothing_pass(
    bundle: Path, system_policy: Path, content: str
) -> None:
    system_policy.parent.mkdir()
    system_policy.write_text(content, encoding="latin-1")
    assert kind_of_refusal(bundle) == "policy"


def test_a_policy_that_names_what_is_not_there_lets_nothing_pass(
    bundle: Path, system_policy: Path
) -> None:
    write_policy(system_policy, allowed_signers="nowhere")
    assert kind_of_refusal(bundle) == "policy"


def test_a_variable_that_names_nothing_lets_nothing_pass(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLINE_BUNDLE_POLICY", "nowhere.json")
    assert kind_of_refusal(bundle) == "policy"
