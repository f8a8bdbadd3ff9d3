"""The commands of docs/how-to/formats.md, as they are written, with the uv that the page names.

Nodes have no network: their only proxy does not answer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.howto_cases import HEADER, HOW_TO, commands, place, run
from tests.support.node_uv import make_real_uv_wheel, uv_of
from tests.support.programs import require

__all__ = ["place"]

PAGE = HOW_TO / "formats.md"
TEXT = PAGE.read_text(encoding="utf-8")
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(place: Path) -> Path:
    """The folder of the bundle on the page, BUNDLE in its tables."""
    header = HEADER.format('"numpy"').replace("# dep", f'# requires-python = "=={HERE}.*"\n# dep')
    (place / "eval.py").write_text(f"{header}import numpy\nprint('numpy', numpy.VERSION)\n")
    return place.parent / "shared" / "uvcache"


def build(name: str, place: Path) -> None:
    [line] = [line for line in commands(PAGE.name) if f"--format {name}" in line]
    run(line, place)


def on_a_node(line: str, bundle: Path, place: Path, *programs: Path) -> str:
    """Run a line of the page without a network or an index; return its output."""
    for name in ("shared", "scratch"):
        line = re.sub(rf"(?<![\w}}]){re.escape(f'/{name}/')}", f"{place.parent}/{name}/", line)
    line = line.replace("BUNDLE", str(bundle)).replace("python3.12", f"python{HERE}")
    path = os.pathsep.join([*map(str, programs), str(Path(sys.executable).parent), os.defpath])
    variables = {name: os.environ[name] for name in os.environ if not name.startswith("UV_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=place,
        env={**variables, "PATH": path, "ALL_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def table_commands() -> dict[str, list[str]]:
    """The commands of the first table, by column."""
    [row] = re.findall(r"^\| command \| (.*) \|$", TEXT, re.MULTILINE)
    cells = [re.findall(r"`([^`]+)`", cell) for cell in row.split(" | ")]
    return dict(zip(["launcher", "uv", "cache", "venv", "image"], cells, strict=True))


@pytest.mark.registry
def test_cache(bundle: Path, place: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("UV_DEFAULT_INDEX")
        program = uv_of("0.7.19", place.parent / "uv")
    make_real_uv_wheel(packages, "0.7.19", program)
    build("cache", place)
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", str(program))
    export, folder, start = (
        line.partition("   ")[0]
        for line in re.findall(r"^    ((?:export|python3|uv) .*)$", TEXT, re.MULTILINE)
    )
    assert start == "uv run eval.py"
    (place.parent / "scratch").mkdir()
    on_a_node(folder, bundle, place, program.parent)
    assert on_a_node(f"{export}\n{start}", bundle, place, program.parent) == "numpy 1.0\n"
    [line] = table_commands()["cache"]
    assert on_a_node(line, bundle, place, program.parent) == "numpy 1.0\n"
    copied = re.findall(r"`(cp -r [^`]+)`", TEXT)[0].replace("uv-cache", "copy")
    start = f"{copied}\nUV_CACHE_DIR=/scratch/copy uv run eval.py"
    assert on_a_node(start, bundle, place, program.parent) == "numpy 1.0\n"


def test_index_and_venv(bundle: Path, place: Path) -> None:
    build("venv", place)
    found = table_commands()
    lines = [*found["launcher"], *found["uv"], found["venv"][0]]
    for line in lines:
        assert on_a_node(line, bundle, place) == "numpy 1.0\n"
    shim = found["venv"][1]
    assert on_a_node(shim, bundle, place, bundle / "envs" / "bin") == "numpy 1.0\n"
    [line] = re.findall(r"^  `(PYTHONPATH=BUNDLE/.*)`", TEXT, re.MULTILINE)
    [packages] = bundle.glob("envs/eval/*/*/lib/*/site-packages")
    line = line.replace("TARGET/…", str(packages.relative_to(bundle / "envs/eval").parents[2]))
    assert on_a_node(line, bundle, place) == "numpy 1.0\n"


def test_image(bundle: Path, place: Path) -> None:
    require("mksquashfs")
    build("image", place)
    [line] = table_commands()["image"]
    assert on_a_node(line, bundle, place) == "numpy 1.0\n"
    [image] = bundle.glob("images/*.squashfs")
    assert image.name in run(f"offline-bundle show {bundle}", place).stdout
