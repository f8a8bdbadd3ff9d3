from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from offline_bundle.builder.inputs.scripts import notes_for_uv, read_script
from offline_bundle.builder.resolve.uv_process import find_uv
from tests.support.scripts_cases import HEADER, write


@pytest.mark.parametrize(
    ("prefix", "what"),
    [
        ("\ufeff", "a byte order mark"),
        ('"""Has a `# /// script` block."""\n', "within a line"),
        ("#!/bin/x\n", None),
    ],
)
def test_metadata_that_uv_overlooks_is_told(prefix: str, what: str | None, tmp_path: Path) -> None:
    script = read_script(write(tmp_path, "eval.py", prefix + HEADER))
    notes = notes_for_uv([script])
    assert [what in note for note in notes if what] == [True] * bool(what)
    command = [find_uv(), "export", "--script", script.path, "--frozen", "--offline", "--no-config"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert ("does not contain a PEP 723 metadata tag" in said) is bool(notes)


def test_reading_imports_nothing_heavy() -> None:
    code = "import sys, offline_bundle.builder.inputs.scripts; print(*sys.modules)"
    root = Path(__file__).parents[4]
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root
    ).stdout
    assert not {"click", "rich", "requests", "email", "urllib.request"} & set(loaded.split())
