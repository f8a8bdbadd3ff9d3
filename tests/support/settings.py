"""uv settings in each place where uv reads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def write_settings(
    text: str, place: str, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write the text of a `uv.toml` to *place*; the project is the folder `project` in *folder*."""
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(folder / "system"))
    paths = {
        "uv.toml": folder / "project/uv.toml",
        "pyproject.toml": folder / "project/pyproject.toml",
        "user": home / ".config/uv/uv.toml",
        "system": folder / "system/uv/uv.toml",
        "UV_CONFIG_FILE": folder / "own.toml",
    }
    if place not in paths:
        return
    if place == "pyproject.toml":
        text = f'[project]\nname = "p"\nversion = "0"\n{in_project(text)}'
    if place == "UV_CONFIG_FILE":
        monkeypatch.setenv(place, str(paths[place]))
    paths[place].parent.mkdir(parents=True, exist_ok=True)
    paths[place].write_text(text)


def in_project(text: str) -> str:
    """Return the text of a `uv.toml` as tables of a project or script."""
    text = re.sub(r"^(\[\[?)", r"\1tool.uv.", text, flags=re.MULTILINE)
    return text if text.startswith("[") else f"[tool.uv]\n{text}"
