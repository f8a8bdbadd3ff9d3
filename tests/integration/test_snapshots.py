"""Output of successful commands, compared with tests/snapshots/."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import cli, run_command_line
from tests.support.distributions import make_wheel
from tests.support.reviewed import LINUX, MAC, WINDOWS, Shelf
from tests.support.snapshots import check_snapshot

if TYPE_CHECKING:
    from tests.support.index_server import IndexServer

COMMANDS = {
    "show": [["show", "new"], ["show", "old"], ["show", "new", "--json"]],
    "verify": [
        ["verify", "new"],
        ["verify", "new", "-v"],
        ["verify", "new", "-q"],
        ["verify", "new", "--json"],
        ["verify", "interrupted", "--allow-pending"],
    ],
    "diff": [["diff", "old", "new"], ["diff", "new", "new"], ["diff", "old", "new", "--json"]],
    "prune": [
        ["prune", "new", "--dry-run", "--drop-script", "study", "--grace", "0"],
        ["prune", "new", "--drop-target", WINDOWS],
        ["prune", "new", "--grace", "0"],
        ["prune", "new"],
        ["prune", "new", "--json"],
    ],
}


@pytest.fixture
def _bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put two bundles, and one with an interrupted update, into the working directory."""
    monkeypatch.chdir(tmp_path)
    old, new = Shelf(), Shelf()
    numpy = old.wheel("numpy", "1.0", size=4_000_000)
    old.write(tmp_path / "old", old.manifest({"eval": {LINUX: [numpy]}}))
    numpy, scipy = new.wheel("numpy", "2.0", size=5_000_000), new.wheel("scipy", size=2_500_000)
    scripts = {
        "eval": {LINUX: [numpy], WINDOWS: [numpy]},
        "study": {LINUX: [numpy, scipy], MAC: [numpy, scipy]},
    }
    manifest = new.manifest(scripts, uv=["x86_64-manylinux_2_17"])
    for name in ("new", "interrupted"):
        new.write(tmp_path / name, manifest)
    journal = json.loads((tmp_path / "interrupted" / "bundle.json").read_text())
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    journal["files"]["uv.toml"] = {"sha256": empty, "size": 0}
    (tmp_path / "interrupted" / ".writer" / "pending.json").write_text(json.dumps(journal))
    (tmp_path / "interrupted" / "uv.toml").touch()


@pytest.mark.usefixtures("_bundles")
@pytest.mark.parametrize("command", COMMANDS)
def test_output_matches_the_snapshot(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    blocks = []
    for words in COMMANDS[command]:
        code = run_command_line(cli, words, "offline-bundle")
        output = capfd.readouterr()
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", output.out + output.err)
        # The totals change with the layout of the report and the SBOM.
        text = re.sub(r'(?m)^ "(size|old_size|new_size|to_carry)": \d+', r' "\1": 0', text)
        blocks.append(f"$ offline-bundle {' '.join(words)}\n{text}exit {code}\n")
    check_snapshot(f"{command}.txt", "\n".join(blocks))


def test_build_output_matches_the_snapshot(
    tmp_path: Path,
    index: IndexServer,
    packages: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    make_wheel(packages, "leaf")
    Path("job.py").write_text('# /// script\n# dependencies = ["leaf"]\n# ///\n')
    options = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28", "--no-uv"]
    options += ["--no-bytecode"]  # whether this machine has that Python is not compared
    blocks = []
    for extra in ([], ["-v"], ["-q"], ["--json"], ["--check"]):
        words = ["build", "job.py", "-o", "bundle", *options, *extra]
        code = run_command_line(cli, words, "offline-bundle")
        output = capfd.readouterr()
        text = output.out + output.err
        for pattern, replacement in {
            r"\d+\.\d s\b": "TIME",
            r"\d+ files, [\d.]+ [KM]iB": "FILES, SIZE",
            r"1 file, [\d.]+ (B|KiB)": "1 file, SIZE",
            r"\d+ files fetched \([\d.]+ (B|KiB)\)|1 file fetched \([\d.]+ (B|KiB)\)": "FETCHED",
            r'"(files|size|fetched_size|seconds)": [\d.]+': r'"\1": 0',
            r"(leaf-1.0-py3-none-any.whl) +[\d.]+ (B|KiB)": r"\1  SIZE",
            r"\b[0-9a-f]{64}\b": "SHA256",
        }.items():
            text = re.sub(pattern, replacement, text)
        blocks.append(f"$ offline-bundle {' '.join(words)}\n{text}exit {code}\n")
    check_snapshot("build.txt", "\n".join(blocks).replace(index.url, "INDEX"))
