"""Shared by the unit and integration tests: The documentation site: built, opened in a browser from
a folder, without a network.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gather() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gather", ROOT / "docs" / "gather.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(gather: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pages") / "docs"
    gather.gather(folder)
    return folder


@pytest.fixture(scope="module")
def site(pages: Path) -> Path:
    """Build the site as `make docs` does, in folders of this test."""
    settings = pages.parent / "mkdocs.yml"
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings.write_text(text.replace("docs_dir: build/docs", "docs_dir: docs"), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pages.parent / "site"
