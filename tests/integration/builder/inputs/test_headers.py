"""A collection of script headers as different as we can think of, each built for real and run with
the network cut.

The first lines of each file in `headers/` say what is expected: `# expect: EXIT WORDS`, with alternatives of
which one must be in the message, and `# flags:` of the build. A few run by default; `make test-all` runs them all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.support.command_line import call
from tests.support.machine import require_network_namespace

HEADERS = Path(__file__).parents[3] / "data" / "headers"
_CHEAP = ("empty_block", "nothing_needed", "only_a_python")


def _expectation(path: Path) -> tuple[set[int], re.Pattern[str] | None]:
    first = path.read_bytes().splitlines()[0].decode()
    match = re.fullmatch(r"# expect: (\d(?:\|\d)*) ?(.*)", first)
    assert match, f"{path} says nothing of what to expect"
    return {int(code) for code in match[1].split("|")}, re.compile(match[2]) if match[2] else None


def _needs_an_index(path: Path) -> bool:
    return not (
        path.stem in _CHEAP or (path.stem.startswith("broken_") and 2 in _expectation(path)[0])
    )


def _cases() -> list[object]:
    slow = (pytest.mark.slow, pytest.mark.registry)
    return [
        pytest.param(path, id=path.stem, marks=slow if _needs_an_index(path) else ())
        for path in sorted(HEADERS.glob("*.py"))
    ]


def test_the_collection_is_large_and_of_both_kinds() -> None:
    paths = list(HEADERS.glob("*.py"))
    assert len(paths) >= 60
    assert 20 <= sum(path.stem.startswith("broken_") for path in paths) <= len(paths) / 2


@pytest.mark.parametrize("path", _cases())
def test_every_header_builds_and_runs_offline_or_its_fault_is_named(
    path: Path, tmp_path: Path
) -> None:
    codes, words = _expectation(path)
    script = tmp_path / path.name
    shutil.copy(path, script)
    shutil.copytree(HEADERS / "neighbour", tmp_path / "neighbour")
    flags = re.findall(r"^# flags: (.*)$", path.read_text("utf-8", "replace"), re.MULTILINE)
    built = call(
        "build", script, "-o", tmp_path / "bundle", "--no-uv", "--json", *" ".join(flags).split()
    )
    assert built.code in codes, built.out + built.err
    assert "Traceback" not in built.err
    if built.code:
        message = json.loads(built.out)["error"]["message"]
        assert path.name in message
        assert words, f"{path} does not say which words name its fault"
        assert words.search(message), message
        assert not (tmp_path / "bundle" / "bundle.json").exists()
        return
    verified = call("verify", tmp_path / "bundle")
    assert verified.code == 0, verified.text
    require_network_namespace()
    words = [
        sys.executable,
        "-m",
        "offline_bundle",
        "run",
        str(script),
        "--bundle",
        str(tmp_path / "bundle"),
        "--sealed",
    ]
    variables = {**os.environ, "OFFLINE_BUNDLE_UV": find_uv_bin()}
    ran = subprocess.run(
        words, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
