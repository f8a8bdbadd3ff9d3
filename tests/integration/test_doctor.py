"""`doctor` on this machine: each check, as ok and as what it finds when something is missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import cli, run_command_line
from tests.support.bundles import make_bundle
from tests.support.distributions import make_wheel
from tests.support.programs import require

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.index_server import IndexServer


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_NO_CONFIG", "1")
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    certificates = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    for name in ("OFFLINE_BUNDLE", "HPS_URL", "OFFLINE_BUNDLE_URL", *certificates):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def findings(
    capsys: pytest.CaptureFixture[str], *options: str, code: int = 0
) -> dict[str, dict[str, str]]:
    assert run_command_line(cli, ["doctor", "--json", *options], "offline-bundle") == code
    return {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_build_side_with_and_without_an_index(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    packages: Path,
    index: IndexServer,
) -> None:
    from offline_bundle.builder.resolve.uv_process import uv_version_here

    require("ssh-keygen")
    make_wheel(packages, "uv", uv_version_here())
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    found = findings(capsys, "--side", "build")
    assert {subject: finding["state"] for subject, finding in found.items()} == dict.fromkeys(
        ("uv", "Python", "certificates", "index", "signing"), "ok"
    )
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PATH", "")
    found = findings(capsys, "--side", "build")
    assert found["index"]["state"] == "warning"
    assert "could not reach an index" in found["index"]["text"]
    assert "running scripts from bundles needs none" in found["index"]["cure"]
    assert found["signing"]["cure"]
    monkeypatch.setenv("SSL_CERT_FILE", "nosuch.pem")
    found = findings(capsys, "--side", "build", code=1)
    assert found["certificates"]["state"] == "problem"
    assert "nosuch.pem" in found["certificates"]["text"]


def test_cluster_side_names_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    bundle = make_bundle(place / "bundle")
    monkeypatch.setenv("OFFLINE_BUNDLE", str(bundle))
    monkeypatch.setenv("PATH", "")
    found = findings(capsys, "--side", "cluster")
    assert found["bundle"]["state"] == "ok"
    assert found["cache folder"]["text"].startswith(str(place / "cache"))
    assert (found["FUSE"]["state"], found["FUSE"]["text"]) == (
        "warning",
        "squashfuse is not on PATH",
    )
    assert found["Slurm"]["text"] == "not on this machine (no sinfo on PATH)"
    assert found["HPS"]["text"] == "no server is set (HPS_URL)"
    monkeypatch.setenv("OFFLINE_BUNDLE", str(place / "nosuch"))
    monkeypatch.setenv("HPS_URL", "https://127.0.0.1:9/hps")
    (place / "cache").chmod(0o777)
    found = findings(capsys, "--side", "cluster", code=1)
    assert found["bundle"]["state"] == "problem"
    assert "can be written by others" in found["cache folder"]["text"]
    assert "could not reach https://127.0.0.1:9/hps" in found["HPS"]["text"]
    assert all(finding["cure"] for finding in found.values() if finding["state"] != "ok")


def test_text_has_a_line_for_each_check_and_one_for_its_cure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPS_URL", "https://127.0.0.1:9/hps")
    assert run_command_line(cli, ["doctor", "--side", "cluster"], "offline-bundle") == 1
    lines = capsys.readouterr().out.splitlines()
    [number] = [n for n, line in enumerate(lines) if line.startswith("problem  HPS: ")]
    assert lines[number + 1].startswith("         check the URL")
