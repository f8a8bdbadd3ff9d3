"""A server that a bundle's settings name: it gets no secret that may be another server's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from offline_bundle.runner.cli import submit
from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.command_line import call, write_script

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:1/hps"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a command with a bundle that names a server and its certificates."""
    for name in ("HPS_URL", "OFFLINE_BUNDLE_URL", "HPS_PASSWORD", "HPS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    (bundle / "own.pem").write_text("")
    text = f'url = "{URL}"\nca-file = "own.pem"\n'
    (bundle / "offline-bundle.toml").write_text(text)
    return ["submit", write_script(tmp_path), "--bundle", bundle]


@pytest.mark.parametrize(
    ("variable", "option"),
    [
        ("HPS_PASSWORD", ""),
        ("HPS_TOKEN", ""),
        ("", "--password"),
        ("", "--token"),
    ],
)
def test_a_given_secret_is_not_sent(
    words: list[object], monkeypatch: pytest.MonkeyPatch, variable: str, option: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, "word")
    done = call(*words, *([option, "word"] if option else []))
    assert done.code == 2
    assert f"names the server {URL}: it does not get a given password or token" in done.err
    assert f"hint: add -U {URL} if you trust it" in done.err
    accepted = call(*words, "-U", URL, "--password", "word")
    assert "cannot be reached" in accepted.err


def test_certificates_of_a_bundle_are_for_its_own_server(
    words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[object] = []

    def open_engine(_name: str, options: dict[str, object], _notice: object) -> NoReturn:
        used.append(options["ca_file"])
        raise InputError("seen")

    monkeypatch.setattr(submit, "open_engine", open_engine)
    assert [call(*words).code, call(*words, "-U", URL).code] == [2, 2]
    assert used == [tmp_path / "bundle/own.pem", None]


def test_what_a_bundle_names_is_printed_escaped(words: list[object], tmp_path: Path) -> None:
    path = tmp_path / "bundle" / "offline-bundle.toml"
    path.write_text('url = "http://127.0.0.1:1/\\u001b]0;x"\n')
    done = call(*words, "--password", "word")
    assert "127.0.0.1:1/\\x1b]0;x" in done.err
    assert "\x1b" not in done.err
