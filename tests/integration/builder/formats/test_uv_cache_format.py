"""Filling a cache for the nodes' uv, against an index on loopback; what a node makes of it:
tests/test_forms.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.inputs.targets import host_platform
from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here
from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.errors import (
    FetchError,
    InputError,
    IntegrityError,
    OutOfDateError,
)
from offline_bundle.wheelhouse.store.prune import prune
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.distributions import make_source_tree, make_wheel
from tests.support.pipeline_cases import HERE, TARGET, Factory, factory, make_uv_wheel, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.builder.model import BuildReport
    from tests.support.index_server import IndexServer

__all__ = ["factory"]

pytestmark = pytest.mark.skipif(
    not host_platform().startswith("x86_64-manylinux"),
    reason="the uv wheel made here is for x86_64 Linux",
)
VERSION = uv_version_here()


@pytest.fixture(autouse=True)
def wheels(packages: Path) -> None:
    """A uv of our version: its program is never started, the one beside us is."""
    make_uv_wheel(packages, VERSION)
    make_wheel(packages, "leaf")
    make_wheel(packages, "tree", requires=["leaf"])


def build(factory: Factory, *scripts: Path, **changes: object) -> BuildReport:
    report = factory.build(*scripts, uv_version=VERSION, **{"formats": ("cache",), **changes})  # type: ignore[arg-type]
    raise_for_problems(verify(factory.bundle))
    return report


def run(bundle: Path, folder: Path, script: Path, *, expect: int = 0) -> str:
    """`uv run SCRIPT` on a writable copy of the cache, with an address for every index that nobody
    answers.
    """
    cache = folder / "cache"
    subprocess.run(["cp", "-r", bundle / "cache", cache], check=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "UV_CACHE_DIR": str(cache),
        "UV_OFFLINE": "1",
    }
    command = [find_uv(), "run", "--python", sys.executable, str(script)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, done.stderr
    subprocess.run(["rm", "-r", cache], check=True)
    return done.stdout if not expect else done.stderr


def test_it_has_what_is_locked_and_no_link(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    script = factory.script("tree", body="import leaf; print(leaf.VERSION)")
    build(factory, script)
    make_wheel(packages, "leaf", "2.0")  # published after the build
    assert factory.manifest.scripts["job"].locks[TARGET].cache == VERSION
    assert not [path for path in (factory.bundle / "cache").rglob("*") if path.is_symlink()]
    assert {path.name.partition("-")[0] for path in (factory.bundle / "cache").iterdir()} == {
        "archive",
        "simple",
        "wheels",
    }
    assert run(factory.bundle, tmp_path, script) == "1.0\n"


def test_nothing_is_downloaded_for_it(factory: Factory, index: IndexServer) -> None:
    factory.build(factory.script("tree"), uv_version=VERSION)
    del index.requests[:]
    build(factory, factory.script("tree"))
    assert not [request.path for request in index.requests if request.path.endswith(".whl")]


def test_building_again_changes_nothing_and_needs_no_flag(factory: Factory) -> None:
    script = factory.script("tree")
    build(factory, script)
    before = snapshot(factory.bundle)
    assert not build(factory, script, formats=()).changed
    assert snapshot(factory.bundle) == before


def test_what_is_added_later_joins_it_and_rewrites_no_archive(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    first = factory.script("tree", name="first", body="import leaf; print(leaf.VERSION)")
    build(factory, first)
    before = snapshot(factory.bundle)
    make_wheel(packages, "leaf", "2.0")
    second = factory.script("leaf>=2", name="second", body="import leaf; print(leaf.VERSION)")
    build(factory, second, formats=())
    after = snapshot(factory.bundle)
    kept = [path for path in before if path.startswith("cache/") and "/simple-" not in path]
    assert kept
    assert all(before[path] == after[path] for path in kept)
    assert run(factory.bundle, tmp_path, second) == "2.0\n"
    assert run(factory.bundle, tmp_path, first) in {
        "1.0\n",
        "2.0\n",
    }  # uv takes the newest there is; the launcher 1.0


@pytest.mark.slow
def test_targets_of_other_machines_and_pythons(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "native", tag="cp313-cp313-win_amd64")
    make_wheel(
        packages,
        "native",
        tag=f"cp{HERE.replace('.', '')}-cp{HERE.replace('.', '')}-manylinux_2_17_x86_64",
    )
    text = "# /// script\n# dependencies = ['native']\n# ///\n"
    script = factory.folder / "wide.py"
    script.write_text(text)
    name = f"uv-{VERSION}.data/scripts/uv.exe"
    make_wheel(packages, "uv", VERSION, tag="py3-none-win_amd64", files={name: "MZ"})
    build(factory, script, python_versions=("3.13",), platforms=("x86_64-pc-windows-msvc",))
    make_wheel(packages, "native", tag="cp313-cp313t-manylinux_2_17_x86_64")
    build(factory, script, python_versions=(HERE, "3.13t"))
    locks = factory.manifest.scripts["wide"].locks
    assert {lock.cache for lock in locks.values()} == {VERSION}
    assert len(locks) == 3
    assert len(list(factory.bundle.glob("cache/archive-*/*/*/WHEEL"))) == 3


def test_programs_inside_packages_stay_programs(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    wheel = make_wheel(packages, "solver", files={"solver_bin/readme": "no program"})
    with zipfile.ZipFile(wheel, "a") as archive:
        entry = zipfile.ZipInfo("solver_bin/solve")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, "#!/bin/sh\necho solved\n")
    body = "import os, solver\nos.system(os.path.join(os.path.dirname(solver.__file__), 'solver_bin/solve'))"
    script = factory.script("solver", body=body)
    build(factory, script)
    pack(factory.bundle, tmp_path / "bundle.tar")
    unpack([tmp_path / "bundle.tar"], tmp_path / "carried")
    assert run(tmp_path / "carried", tmp_path, script) == "solved\n"


def test_an_index_of_the_scripts_own_answers_under_its_own_address(
    factory: Factory, index: IndexServer, tmp_path: Path
) -> None:
    tool = f'[[tool.uv.index]]\nname = "own"\nurl = "{index.url}"\nexplicit = true\n'
    tool += '[tool.uv.sources]\nleaf = { index = "own" }'
    script = factory.script("leaf", tool=tool, body="import leaf; print(leaf.VERSION)")
    build(factory, script)
    assert run(factory.bundle, tmp_path, script) == "1.0\n"


def test_a_script_that_uv_would_not_take_from_a_cache_is_left_out_and_named(
    factory: Factory, tmp_path: Path
) -> None:
    make_source_tree(tmp_path / "own", "own")
    script = factory.script("own", tool='[tool.uv.sources]\nown = { path = "own" }')
    alone = factory.fails(InputError, script, uv_version=VERSION, formats=("cache",))
    assert "cannot take any of the scripts" in alone
    assert "job.py for" in alone
    report = build(factory, script, factory.script("leaf", name="other"))
    assert factory.manifest.scripts["job"].locks[TARGET].cache is None
    assert any("left out of the cache" in note for note in report.notes)


def test_it_needs_to_know_the_nodes_uv(factory: Factory) -> None:
    assert "--uv-version" in factory.fails(InputError, factory.script("leaf"), formats=("cache",))


def test_a_uv_that_cannot_be_had_for_this_machine(factory: Factory, packages: Path) -> None:
    make_wheel(
        packages,
        "uv",
        "0.0.7",
        tag="py3-none-win_amd64",
        files={"uv-0.0.7.data/scripts/uv.exe": "MZ"},
    )
    text = factory.fails(
        FetchError,
        factory.script("leaf"),
        formats=("cache",),
        uv_version="0.0.7",
        platforms=("x86_64-pc-windows-msvc",),
    )
    assert "no uv 0.0.7 for this machine" in text


def test_locks_alone_do_not_bring_it_back_and_say_so(factory: Factory) -> None:
    script = factory.script("leaf")
    factory.build(script, uv_version=VERSION)
    without = factory.manifest.to_json()
    build(factory, script, is_locked=True)
    place = factory.folder / "checkout"
    place.mkdir()
    shutil.copyfile(factory.bundle / "bundle.json", place / "bundle.json")
    text = factory.fails(OutOfDateError, script, output=place, is_locked=True)
    assert re.search(r"the uv cache cannot be made again .* \d+ of its files are missing", text)
    assert "keep cache/ beside bundle.json" in text
    (place / "bundle.json").write_bytes(without)
    factory.build(script, output=place, is_locked=True)
    factory.build(script, output=place, is_locked=True, formats=("cache",))
    raise_for_problems(verify(place))


def test_a_uv_that_is_not_the_bundles_is_not_started(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    """Not one that somebody put into the bundle, nor one that an index gives for the locked one."""
    evil = f"#!/bin/sh\ntouch {tmp_path}/ran\n"
    make_uv_wheel(packages, "0.0.5")
    script = factory.script("leaf")
    factory.build(script, uv_version="0.0.5")
    (factory.bundle / factory.manifest.uv["x86_64-manylinux_2_17"].path).write_text(evil)
    assert "does not match bundle.json" in factory.fails(IntegrityError, script, formats=("cache",))
    make_wheel(
        packages, "uv", "0.0.5", tag="py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64",
        files={"uv-0.0.5.data/scripts/uv": evil},
    )  # fmt: skip
    text = factory.fails(IntegrityError, script, formats=("cache",), is_locked=True)
    assert f"{factory.manifest.uv['x86_64-manylinux_2_17'].path}: sha256" in text
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_two_bundles_become_one_and_say_whom_their_cache_serves(
    factory: Factory, index: IndexServer, packages: Path, tmp_path: Path
) -> None:
    build(factory, factory.script("leaf<2", name="old"))
    make_wheel(packages, "leaf", "2.0")
    (tmp_path / "other").mkdir()
    other = Factory(tmp_path / "other", index)
    new = other.script("leaf>=2", name="new", body="import leaf; print(leaf.VERSION)")
    build(other, new)
    pack(other.bundle, tmp_path / "other.tar")
    unpack([tmp_path / "other.tar"], factory.bundle)
    raise_for_problems(verify(factory.bundle))
    served = {
        name: script.locks[TARGET].cache
        for name, script in read_manifest(factory.bundle).scripts.items()
    }
    assert served == {
        "old": VERSION,
        "new": None,
    }  # one page lists leaf, and it is the one of the bundle in place
    build(factory, new, formats=())
    assert {script.locks[TARGET].cache for script in factory.manifest.scripts.values()} == {VERSION}
    assert run(factory.bundle, tmp_path, new) == "2.0\n"


@pytest.mark.slow
def test_it_goes_with_the_last_script_that_it_serves(factory: Factory, tmp_path: Path) -> None:
    from datetime import timedelta

    make_source_tree(tmp_path / "own", "own")
    build(
        factory,
        factory.script("leaf"),
        factory.script("own", name="own", tool='[tool.uv.sources]\nown = { path = "own" }'),
    )
    prune(factory.bundle, grace=timedelta())
    assert (factory.bundle / "cache").is_dir()
    prune(factory.bundle, drop_scripts=["job"], grace=timedelta())
    assert not (factory.bundle / "cache").exists()
    raise_for_problems(verify(factory.bundle))
