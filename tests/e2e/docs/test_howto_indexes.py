"""The commands and settings of docs/how-to/private-indexes.md, as they are written.

The hosts of the page are replaced by servers on loopback, with TLS and a password.
"""

from __future__ import annotations

import re
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.support.distributions import make_wheel
from tests.support.howto_cases import HEADER, HOW_TO, commands, place, run
from tests.support.index_server import IndexServer
from tests.support.nginx import make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["place"]

PAGE = HOW_TO / "private-indexes.md"
TEXT = PAGE.read_text(encoding="utf-8")
PASSWORD = "s3cr3t-word"

pytestmark = pytest.mark.slow


@pytest.fixture
def corp(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexServer]:
    """The private index of the page, and a script that needs its package."""
    make_wheel(tmp_path / "corp", "solver")
    certificates = make_certificates(tmp_path / "certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    write_script(place)
    with IndexServer(
        tmp_path / "corp", username="ci", password=PASSWORD, certificate=certificates.server
    ) as server:
        yield server


def write_script(folder: Path, settings: str = "") -> None:
    header = HEADER.format('"solver", "numpy"')
    (folder / "eval.py").write_text(header.replace("# ///\n", f"{settings}# ///\n"))


def local(text: str, corp: IndexServer) -> str:
    """Replace the host and the password of the page."""
    host = corp.base.partition("//")[2]
    return text.replace("pypi.corp.example", host).replace("PASSWORD@", f"{PASSWORD}@")


def row(beginning: str) -> list[str]:
    """The code of the table row that begins so."""
    [line] = re.findall(rf"^\| {beginning}[^|]* \| (.*) \|$", TEXT, re.MULTILINE)
    return re.findall(r"`([^`]+)`", line)


def build_line() -> str:
    [line] = [line for line in commands(PAGE.name) if "--index corp=" in line]
    return line


def is_built(place: Path) -> bool:
    wheels = {path.name.split("-")[0] for path in (place.parent / "shared").rglob("*.whl")}
    return {"solver", "numpy"} <= wheels


def test_variables(place: Path, corp: IndexServer) -> None:
    [variables, _] = row("variables")
    run(f"{variables.replace('…', PASSWORD)} {local(build_line(), corp)}", place)
    assert is_built(place)


def test_url(place: Path, corp: IndexServer) -> None:
    variable = row("in the URL")[0]
    line = build_line().partition(" --index")[0]
    run(f"{local(variable, corp)} {line}", place)
    assert is_built(place)


def test_netrc(place: Path, corp: IndexServer) -> None:
    entry = row("netrc")[0].replace("pypi.corp.example", "127.0.0.1").replace("…", PASSWORD)
    (place.parent / "home" / ".netrc").write_text(f"{entry}\n")
    run(local(build_line(), corp), place)
    assert is_built(place)


def test_store_of_uv(place: Path, corp: IndexServer) -> None:
    login = local(row("uv's own")[0], corp)
    run(f"echo {PASSWORD} | {login}", place)
    run(local(build_line(), corp), place)
    assert is_built(place)


def test_keyring(place: Path, corp: IndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    store, provider, url = (local(text, corp) for text in row("a keyring"))
    run(f"echo {PASSWORD} | {store}", place)
    line = re.sub(r"(?<=--index corp=)\S+", url, build_line())
    run(f"{provider} {line}", place)
    assert is_built(place)


def test_settings_in_the_script(
    place: Path, corp: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_CORP_USERNAME", "ci")
    monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", PASSWORD)
    blocks = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        write_script(place, local(block, corp))
        run(f"build-offline-bundle eval.py -o bundle-{number}", place)
        assert list((place / f"bundle-{number}").glob("wheels/solver-*.whl"))


def test_unverified_host(place: Path, corp: IndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("UV_INDEX_CORP_USERNAME", "ci")
    monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", PASSWORD)
    option = row("a host that")[0].replace("pypi.corp.example", "127.0.0.1")
    run(f"{local(build_line(), corp)} {option}", place)
    assert is_built(place)


def test_pages_and_folders_of_files(place: Path, packages: Path) -> None:
    """The page is the listing of Python's own web server; a bundle is an index too."""
    (place / "eval.py").write_text(HEADER.format('"numpy"'))
    make_wheel(place.parent / "shared" / "wheels", "numpy", "2.0")
    folder, page = (line for line in commands(PAGE.name) if "--find-links" in line)
    run(folder, place)
    handler = partial(SimpleHTTPRequestHandler, directory=str(packages))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        run(page.replace("https://files.corp.example/wheels/", url), place)
        server.shutdown()
    [option] = re.findall(r"`(--default-index file://[^`]+)`", TEXT)
    option = option.replace("/shared/", f"{place.parent}/shared/")
    run(f"build-offline-bundle eval.py -o again --no-uv {option}", place)
    assert [path.name for path in place.glob("again/wheels/*.whl")] == [
        "numpy-2.0-py3-none-any.whl"
    ]


def test_configuration_of_pip(
    place: Path, index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (place / "eval.py").write_text(
        f'# /// script\n# requires-python = "=={here}.*"\n# dependencies = ["numpy"]\n# ///\n'
    )
    [line] = [line for line in commands(PAGE.name) if "pip-tools" in line]
    run(line, place)
    assert list((place.parent / "shared").rglob("numpy-*.whl"))
