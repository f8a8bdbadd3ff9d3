from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import run_command_line
from offline_bundle.runner.hps_server import EmbeddedHps
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, render_checksums
from tests.support.bundles import BundleScript, make_bundle, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click


PASSWORD = "a-secret-of-this-test"


BODY = """
import json, pathlib, alpha
file = pathlib.Path("input_parameters.json")
n = json.loads(file.read_text())["n"] if file.exists() else 1
print("job with", n)
if n == 2:
    raise SystemExit("two is not a number of mine")
pathlib.Path("plot.txt").write_text(str(n))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_bundle(
        tmp_path_factory.mktemp("bundles") / "bundle", {"eval": BundleScript(body=BODY)}
    )
    manifest = read_manifest(folder)
    manifest["files"]["SHA256SUMS"] = {}
    document = json.dumps(manifest).encode()
    (folder / "bundle.json").write_bytes(document)
    (folder / "SHA256SUMS").write_bytes(render_checksums(Manifest.from_json(document), document))
    return folder


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[EmbeddedHps]:
    data = tmp_path_factory.mktemp("hps")
    with EmbeddedHps(data=data, password=PASSWORD, slots=2, bundle=bundle) as hps:
        yield hps


@pytest.fixture
def script(bundle: Path, hps: EmbeddedHps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundled script, in a directory of the user's, who has set up the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPS_URL", hps.url)
    monkeypatch.setenv("HPS_PASSWORD", PASSWORD)
    return Path(shutil.copy(bundle / "scripts" / "eval.py", tmp_path / "eval.py"))


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")
