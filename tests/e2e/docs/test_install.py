"""README's own install line, and what README and the tutorial use next, without the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import shell_blocks, type_in
from tests.support.readme_cases import README, TEXT

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.registry, pytest.mark.slow]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands that `uv tool install .` installs from a clone."""
    folder = tmp_path_factory.mktemp("install")
    clone = folder / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().splitlines():
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name, follow_symlinks=False)
    [line] = re.findall(r"^    (uv tool install \.)", TEXT, re.MULTILINE)
    done = type_in(
        [line], clone, UV_TOOL_DIR=str(folder / "tools"), UV_TOOL_BIN_DIR=str(folder / "bin")
    )
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def path_of(programs: Path) -> str:
    """PATH with the installed commands, and without those of the test's own environment."""
    own = str(Path(sys.executable).parent)
    others = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != own]
    return os.pathsep.join([str(programs), *others])


def test_first_example_and_jobs_run_after_the_install(programs: Path, tmp_path: Path) -> None:
    assert {path.name for path in programs.iterdir()} == {"build-offline-bundle", "offline-bundle"}
    [header] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "eval.py").write_text(
        header + "import numpy\nopen('sum.txt', 'w').write(str(numpy.arange(4).sum()))\n"
    )
    [example] = shell_blocks(README)
    blocks = [
        example.replace("/shared/bundle", "shared/bundle"),
        "offline-bundle submit eval.py --bundle shared/bundle --embedded -j 2 --output sum.txt "
        "--download results",
        "offline-bundle doctor --side build",
        "offline-bundle help > manual.txt",
    ]
    done = type_in(blocks, tmp_path, PATH=path_of(programs))
    assert done.returncode == 0, done.stdout + done.stderr
    sums = [path.read_text() for path in tmp_path.glob("results/*/sum.txt")]
    assert sums == ["6", "6"]
    assert "offline-bundle embedded-hps" in (tmp_path / "manual.txt").read_text()
