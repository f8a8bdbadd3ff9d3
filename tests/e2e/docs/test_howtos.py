"""The commands of how-to pages, as they are written, with an index on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from tests.support.howto_cases import HEADER, HOW_TO, ROOT, commands, place, run
from tests.support.interpreters import python_mirror
from tests.support.pages import shell_blocks, type_in
from tests.support.signing_cases import allowing, make_key, public

if TYPE_CHECKING:
    from pathlib import Path

if TYPE_CHECKING:
    from tests.support.index_server import IndexServer

__all__ = ["place"]

pytestmark = pytest.mark.slow


def test_inputs(place: Path) -> None:
    """Each command starts from fresh files, as it is an alternative to the others."""
    lines = commands("inputs.md")
    assert len(lines) > 6
    for line in lines:
        has_own_header = "--" not in line or any(
            f" --{it} " in line for it in ("bundle", "include")
        )
        write_inputs(place, has_header=has_own_header)
        if " run " in line:
            continue  # runs a real notebook: test_headers_from_files.py
        run(line, place)
        assert "uv add" not in line or "matplotlib" in (place / "eval.py").read_text()


def write_inputs(place: Path, *, has_header: bool) -> None:
    shutil.rmtree(place / "DIR", ignore_errors=True)
    header = HEADER.format('"numpy"') if has_header else ""
    (place / "studies" / "deep").mkdir(parents=True, exist_ok=True)
    for name in ("eval.py", "fit.py", "studies/one.py", "studies/deep/two.py"):
        (place / name).write_text(f"{header}import numpy\n")
    (place / "requirements.txt").write_text("numpy\n")
    (place / "pyproject.toml").write_text(
        '[project]\nname = "study"\nversion = "1"\ndependencies = ["numpy"]\n'
        '[dependency-groups]\nplots = ["matplotlib"]\n'
    )
    compile_lock = [find_uv(), "pip", "compile", "requirements.txt", "-o", "pylock.toml"]
    subprocess.run(
        [*compile_lock, "--format", "pylock.toml"], cwd=place, check=True, capture_output=True
    )
    for data in (place / "models" / "a.bin", place.parent / "home" / "nltk_data" / "words"):
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_bytes(b"data")
    cell = '{"cell_type": "code", "source": "# /// script\\n# dependencies = []\\n# ///"}'
    (place / "study.ipynb").write_text(f'{{"cells": [{cell}]}}')


def test_conda(place: Path) -> None:
    script = HEADER.format("") + "print('ran')\n"
    (place / "eval.py").write_text(script)
    (place / "environment.yml").write_text("dependencies:\n  - python=3.12\n  - numpy\n")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"  # that of python3 on PATH
    run(f"build-offline-bundle eval.py -o bundle --python-version {here}", place)
    starts, conversion = shell_blocks(HOW_TO / "conda.md")
    assert run(starts, place).stdout == "ran\nran\n"
    assert "uv add --script SCRIPT numpy" in run(conversion, place).stderr


def test_apptainer(place: Path) -> None:
    (place / "eval.py").write_text(HEADER.format('"numpy"'))
    [block] = shell_blocks(HOW_TO / "apptainer.md")
    run(block, place)
    # what the runscript of the first recipe does
    (place / "eval.py").write_text(HEADER.format("") + "print('ran')\n")
    run("build-offline-bundle eval.py -o /shared/bundle", place)
    start = 'exec python3 "$OFFLINE_BUNDLE/run.py" "$@"'
    assert start in (HOW_TO / "apptainer.md").read_text(encoding="utf-8")
    line = f"export OFFLINE_BUNDLE={place.parent}/shared/bundle; set -- -q eval.py; {start}"
    assert run(line, place).stdout == "ran\n"


def test_readme(place: Path) -> None:
    """All commands but the install (test_install.py) and those of a site: its HPS, its schedulers."""
    script = "import numpy\nopen('plot.png', 'w').close()\n"
    (place / "eval.py").write_text(HEADER.format('"numpy"') + script)
    make_key(place.parent / "home" / ".ssh" / "id_ed25519")
    allowing(place, f"me {public(place.parent / 'home' / '.ssh' / 'id_ed25519')}").rename(
        place / "FILE"
    )
    advisories = ROOT / "tests" / "data" / "advisories"
    shutil.make_archive(str(place / "advisories"), "zip", advisories)
    at_a_site = ("uv tool install", "hps.example", "--engine s", "embedded-hps", "jobs PROJECT")
    lines = [
        line for line in commands("../../README.md") if not any(name in line for name in at_a_site)
    ]
    assert len(lines) > 15
    for line in lines:
        if " diff " in line:
            for name in ("OLD", "NEW"):
                shutil.copytree(place.parent / "shared" / "bundle", place / name)
        run(line, place)


def test_targets(place: Path) -> None:
    (place / "eval.py").write_text(HEADER.format('"numpy"'))
    shutil.copy(ROOT / "runner" / "standalone" / "probe.py", place)
    mirror = python_mirror()  # in place of the releases of python-build-standalone
    downloads = mirror.write_list(place.parent / "list.json", mirror.folder.as_uri())
    for line in commands("targets.md"):
        if "--with-python" in line:
            this_python = f'# requires-python = "=={sys.version_info[0]}.{sys.version_info[1]}.*"\n'
            (place / "eval.py").write_text(f"# /// script\n{this_python}# ///\n")
            shutil.rmtree(place / "DIR", ignore_errors=True)
            run(f"UV_PYTHON_DOWNLOADS_JSON_URL={downloads} {line} --no-uv", place)
        else:
            run(line, place)
    assert (place / "DIR" / "bundle.json").is_file()


def test_transfer(place: Path) -> None:
    make_key(place.parent / "home" / ".ssh" / "release")
    allowing(place, f"me {public(place.parent / 'home' / '.ssh' / 'release')}")
    for name in ("eval.py", "new.py"):
        (place / name).write_text(HEADER.format('"numpy"' if name == "eval.py" else ""))
    run("build-offline-bundle eval.py -o bundle", place)
    for line in commands("transfer.md"):
        if line.startswith("offline-bundle verify"):
            for path in (place / "out").iterdir():
                shutil.copy(path, place.parent / "media")
            (place / "sent").mkdir()
            shutil.copy(place / "bundle" / "bundle.json", place / "sent")
        run(line, place.parent / "media" if line.startswith("python3") else place)
    assert (place / "out" / "update.tar").stat().st_size < 1024 * 1024


def test_review(place: Path, index: IndexServer) -> None:
    """The single commands, without attestations (test_attestations.py) and the procedure
    (test_review_docs.py).
    """
    index.vulnerabilities = {}
    for name in ("eval", "old"):
        (place / f"{name}.py").write_text(HEADER.format('"numpy"'))
    (place / "rules.toml").write_text('denied-packages = ["pycrypto"]\n')
    (place / "exceptions.toml").touch()
    shutil.make_archive(str(place / "advisories"), "zip", ROOT / "tests" / "data" / "advisories")
    target = "--python-version 3.10 --python-platform x86_64-manylinux_2_28"
    run(f"build-offline-bundle eval.py old.py -o bundle {target}", place)
    run("build-offline-bundle eval.py -o bundle --python-version 3.12", place)
    run("offline-bundle pack bundle -o bundle.tar", place)
    shutil.copytree(place / "bundle", place / "DIR")
    shutil.copytree(place / "bundle", place / "last")
    lines = [line for line in commands("review.md") if "attestations" not in line]
    recompile, diff, *others, _, prune = lines
    run(recompile, place / "bundle")
    shutil.copy(place / "bundle" / "bundle.json", place)
    run(diff, place)
    for line in others:
        run(line, place)
    assert "would be removed" in run(prune, place).stderr


def test_a_notebook_of_juv(tmp_path: Path) -> None:
    """Everything from the real index: juv, numpy and the kernel."""
    text = (HOW_TO / "inputs.md").read_text(encoding="utf-8")
    lines = text.partition("    uvx juv ")[2].partition("\n\n")[0].splitlines()
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "study.ipynb").write_text(json.dumps(notebook))
    variables = {"HOME": str(tmp_path / "home"), "OFFLINE_BUNDLE_CACHE": str(tmp_path / "cache")}
    done = type_in([f"uvx juv {lines[0]}", *map(str.strip, lines[1:])], tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study-executed.ipynb").is_file()
