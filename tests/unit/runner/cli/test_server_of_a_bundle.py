"""A server that a bundle's settings name: the user must name it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from offline_bundle.runner import submissions
from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.command_line import call, write_script

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:1/hps"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a command with a bundle that names a server and its certificates."""
    for name in ("HPS_URL", "OFFLINE_BUNDLE_URL", "OFFLINE_BUNDLE_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    (bundle / "own.pem").write_text("")
    text = f'url = "{URL}"\nca-file = "own.pem"\n'
    (bundle / "offline-bundle.toml").write_text(text)
    return ["submit", write_script(tmp_path), "--bundle", bundle]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Return the options of each engine that is opened."""
    opened: list[dict[str, object]] = []

    def open_engine(_name: str, options: dict[str, object], _notice: object) -> NoReturn:
        opened.append(options)
        raise InputError("seen")

    monkeypatch.setattr(submissions, "open_engine", open_engine)
    return opened


@pytest.mark.parametrize("option", [[], ["--password", "word"], ["--token", "word"]])
def test_it_is_not_asked_before_the_user_names_it(
    words: list[object], opened: list[dict[str, object]], option: list[str]
) -> None:
    done = call(*words, *option)
    assert done.code == 2
    assert f"offline-bundle.toml names the server {URL}, which a bundle" in done.err
    assert f"hint: if you trust the server, name it: -U {URL}" in done.err
    assert opened == []
    assert "seen" in call(*words, *option, "-U", URL).err
    assert opened[0]["url"] == URL


def test_certificates_of_a_bundle_are_not_for_a_server_of_the_user(
    words: list[object], opened: list[dict[str, object]]
) -> None:
    call(*words, "-U", URL)
    assert opened[0]["ca_file"] is None


def test_what_a_bundle_names_is_printed_escaped(words: list[object], tmp_path: Path) -> None:
    path = tmp_path / "bundle" / "offline-bundle.toml"
    path.write_text('url = "http://127.0.0.1:1/\\u001b]0;x"\n')
    done = call(*words)
    assert "127.0.0.1:1/\\x1b]0;x" in done.err
    assert "\x1b" not in done.err
