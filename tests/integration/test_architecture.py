"""Rules that import-linter cannot hold: see the contracts in pyproject.toml for the layers."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.architecture_cases import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_no_file_names_a_registry_host_or_a_folder_of_a_machine() -> None:
    """The files must work behind any index, and on any machine: uv and pip have their defaults."""
    words = ["pypi" + ".org", "python" + "hosted", "/ro" + "ot/", "/wo" + "rk/"]
    faults = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked_files()
        for word in words
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert faults == []
