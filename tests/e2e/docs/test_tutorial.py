"""The tutorial's commands, as they are written, in a copy of a clone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import shell_blocks, type_in

ROOT = Path(__file__).parents[3]


@pytest.mark.registry
@pytest.mark.slow
def test_tutorial_commands_all_succeed(tmp_path: Path) -> None:
    """The clone's .venv is a link to this environment, so `make setup` has nothing to do."""
    clone = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().splitlines():
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    (clone / ".venv").symlink_to(Path(sys.executable).parents[1])
    (clone / ".venv" / ".ready").touch()
    blocks = shell_blocks(ROOT / "docs" / "tutorials" / "first-bundle.md")
    assert blocks[0].startswith("make setup")

    done = type_in(blocks, clone)

    assert done.returncode == 0, done.stdout + done.stderr
    walk = clone / "walk"
    texts = {
        path.read_text()
        for path in (*walk.glob("beam-jobs/*/*.txt"), *walk.glob("results/*/deflection.txt"))
    }
    assert "47.62 mm\n" in texts
    assert len(list(walk.glob("beam-jobs/*/deflection.txt"))) == 5
    assert len(list(walk.glob("results/*/deflection.txt"))) == 4
    assert json.loads((walk / "share/second/bundle.json").read_text()) == json.loads(
        (walk / "bundle/bundle.json").read_text()
    )
