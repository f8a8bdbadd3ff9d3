from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from offline_bundle.runner.engines.hps.connection.password import find_password
from offline_bundle.wheelhouse.runtime.errors import InputError

URL = "https://hps.example:8443/hps"


def keyring(monkeypatch: pytest.MonkeyPatch, passwords: dict[tuple[str, str], str]) -> None:
    def get_password(service: str, user: str) -> str | None:
        return passwords.get((service, user))

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=get_password))


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)


def test_what_is_given_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring(monkeypatch, {(f"offline-bundle {URL}", "me"): "kept"})
    assert find_password(URL, "me", "given") == "given"


def test_the_keyring_comes_before_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring(monkeypatch, {(f"offline-bundle {URL}", "repuser"): "kept"})
    assert find_password(f"{URL}/", "repuser", None) == "kept"


def test_the_examples_user_has_its_well_known_password() -> None:
    assert find_password(URL, "repuser", None) == "repuser"


def test_somebody_at_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring(monkeypatch, {})
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "typed")
    assert find_password(URL, "me", None) == "typed"
    assert asked == [f"password of me on {URL}: "]


def test_nobody_at_a_terminal_is_told_how_to_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(InputError, match="no password for me") as raised:
        find_password(URL, "me", None)
    assert "HPS_PASSWORD" in str(raised.value.hint)
    assert "keyring set" in str(raised.value.hint)
