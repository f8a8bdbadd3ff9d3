"""Environments made in advance; what a node makes of them: tests/test_forms.py."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.inputs.targets import host_platform
from offline_bundle.wheelhouse.runtime.errors import FetchError, InputError
from offline_bundle.wheelhouse.signing import sign
from offline_bundle.wheelhouse.store.prune import prune
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.distributions import make_wheel
from tests.support.pipeline_cases import HERE, TARGET, Factory, digests, factory, snapshot
from tests.support.programs import require
from tests.support.signing_cases import allowing, make_key, public

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.builder.model import BuildReport
    from tests.support.index_server import IndexServer

__all__ = ["factory"]

FORMATS = ("venv",)


@pytest.fixture(autouse=True)
def wheels(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(packages, "leaf", entry_points="[console_scripts]\nleaf = leaf:main\n")
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "node"))


def build(factory: Factory, *scripts: Path, **changes: object) -> BuildReport:
    report = factory.build(*scripts, **{"formats": FORMATS, **changes})  # type: ignore[arg-type]
    raise_for_problems(verify(factory.bundle))
    return report


def environment(factory: Factory, name: str = "job", target: str = TARGET) -> Path:
    found = factory.manifest.scripts[name].locks[target].environment
    assert found
    return factory.bundle / found


def run(bundle: Path, script: Path, *, expect: int = 0) -> str:
    command = [sys.executable, str(bundle / "run.py"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stdout if not expect else done.stderr


def test_it_holds_packages_and_bytecode_and_no_link(factory: Factory) -> None:
    build(factory, factory.script("leaf"))
    place = environment(factory)
    assert not [path for path in place.rglob("*") if path.is_symlink()]
    [compiled] = place.glob(f"lib/python{HERE}/site-packages/__pycache__/leaf.*.pyc")
    magic, flags = compiled.read_bytes()[:4], compiled.read_bytes()[4]
    assert magic == importlib.util.MAGIC_NUMBER
    assert flags == 0b01  # by hash, and not to be checked (PEP 552)
    assert [path.name for path in (place / "bin").iterdir()] == ["leaf"]
    assert (place / "bin" / "leaf").stat().st_mode & 0o111


def test_tests_of_packages_are_not_compiled(factory: Factory, packages: Path) -> None:
    files = {"twig/__init__.py": "", "twig/tests/test_twig.py": ""}
    make_wheel(packages, "twig", files=files)
    output = factory.folder / "tests" / "bundle"
    factory.build(factory.script("twig"), output=output, formats=FORMATS)
    compiled = {path.name.partition(".")[0] for path in output.glob("envs/**/twig/**/*.pyc")}
    assert compiled == {"__init__"}


def test_the_same_inputs_give_the_same_bytes_elsewhere(
    factory: Factory, index: IndexServer, tmp_path: Path
) -> None:
    build(factory, factory.script("leaf"))
    (tmp_path / "other").mkdir()
    other = Factory(tmp_path / "other", index)
    build(other, other.script("leaf"))
    assert digests(other.bundle) == digests(factory.bundle)


def test_the_locks_alone_bring_it_back(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    script = factory.script("leaf")
    build(factory, script)
    place = factory.folder / "checkout"
    place.mkdir()
    shutil.copyfile(factory.bundle / "bundle.json", place / "bundle.json")
    factory.build(script, output=place, is_locked=True)
    assert digests(place) == digests(factory.bundle)
    (place / "envs/bin/uv").unlink()
    factory.build(script, output=place, is_locked=True)
    assert digests(place) == digests(factory.bundle)
    (place / "envs/bin/uv").write_text("another")
    monkeypatch.setattr(
        "offline_bundle.builder.formats.environment.find_interpreter", lambda _: None
    )
    assert f"no Python {HERE} is here" in factory.fails(
        InputError, script, output=place, is_locked=True
    )


def test_building_again_changes_nothing_and_needs_no_flag(factory: Factory) -> None:
    build(factory, factory.script("leaf"))
    before = snapshot(factory.bundle)
    assert not build(factory, factory.script("leaf"), formats=()).changed
    assert snapshot(factory.bundle) == before


@pytest.mark.slow
def test_another_lock_is_another_folder_and_jobs_keep_the_old_one_until_pruning(
    factory: Factory, packages: Path
) -> None:
    script = factory.script("leaf", body="import leaf; print(leaf.VERSION)")
    build(factory, script)
    old = environment(factory)
    make_wheel(packages, "leaf", "2.0")
    build(factory, script, formats=())
    assert environment(factory) != old
    assert old.is_dir()
    assert run(factory.bundle, script) == "2.0\n"
    prune(factory.bundle, grace=timedelta())
    assert not old.exists()
    assert run(factory.bundle, script) == "2.0\n"
    raise_for_problems(verify(factory.bundle))


@pytest.mark.slow
def test_it_moves_with_the_bundle_through_an_archive(factory: Factory, tmp_path: Path) -> None:
    script = factory.script("leaf", body="import leaf; print(leaf.VERSION, leaf.__file__)")
    build(factory, script)
    pack(factory.bundle, tmp_path / "bundle.tar")
    unpack([tmp_path / "bundle.tar"], tmp_path / "carried")
    shutil.rmtree(factory.bundle)
    assert run(tmp_path / "carried", script).startswith("1.0 ")
    shutil.move(tmp_path / "carried", tmp_path / "moved")
    assert run(tmp_path / "moved", script).startswith("1.0 ")


def test_other_platforms_get_theirs_here(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "native", tag=f"cp{HERE.replace('.', '')}-none-manylinux_2_17_aarch64")
    build(factory, factory.script("native"), platforms=("aarch64-manylinux_2_28",))
    place = environment(factory, target=f"cp{HERE.replace('.', '')}-aarch64-manylinux_2_28")
    assert list(place.glob("lib/*/site-packages/__pycache__/native.*.pyc"))


def test_what_cannot_be_made_here_is_named(factory: Factory) -> None:
    script = factory.script("leaf")
    report = build(factory, script, platforms=(host_platform(), "x86_64-pc-windows-msvc"))
    assert any("windows" in note and "no ready environment" in note for note in report.notes)
    assert environment(factory)
    text = factory.fails(
        InputError,
        script,
        formats=FORMATS,
        platforms=("x86_64-pc-windows-msvc",),
        output=factory.folder / "other",
    )
    assert "no environment can be made here" in text
    assert "free-threaded Pythons leave out --format venv" in text


def test_a_python_that_is_not_here(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "offline_bundle.builder.formats.environment.find_interpreter", lambda _: None
    )
    assert f"no Python {HERE} is here" in factory.fails(
        InputError, factory.script("leaf"), formats=FORMATS
    )


def test_names_that_a_file_system_cannot_hold(factory: Factory, packages: Path) -> None:
    wheel = make_wheel(packages, "odd")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("odd_data/README", "1")
        archive.writestr("odd_data/readme", "2")
    text = factory.fails(FetchError, factory.script("odd"), formats=FORMATS)
    assert "collides with" in text


def test_a_site_with_a_policy_reads_it_through(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = factory.script("leaf", body="print('ran')")
    build(factory, script)
    make_key(tmp_path / "alice")
    allowing(tmp_path, f"alice {public(tmp_path / 'alice')}")
    sign(factory.bundle, str(tmp_path / "alice"))
    (tmp_path / "policy.json").write_text(
        json.dumps({"allowed-signers": "allowed_signers", "signer": "alice"})
    )
    monkeypatch.setenv("OFFLINE_BUNDLE_POLICY", str(tmp_path / "policy.json"))
    [module] = environment(factory).glob("lib/*/site-packages/leaf.py")
    right = module.read_bytes()
    module.write_text("raise SystemExit('not what was signed')\n")
    assert "leaf.py" in run(factory.bundle, script, expect=5)
    module.write_bytes(right)
    assert run(factory.bundle, script) == "ran\n"


def test_a_folder_that_is_gone(factory: Factory) -> None:
    script = factory.script("leaf")
    build(factory, script)
    shutil.rmtree(environment(factory))
    assert "is missing" in run(factory.bundle, script, expect=5)


@pytest.mark.slow
def test_a_bundle_that_is_mounted_noexec_is_noted(factory: Factory) -> None:
    require("mount", "umount")
    script = factory.script("leaf", body="import leaf")
    factory.bundle.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "noexec,mode=0755", "tmpfs", str(factory.bundle)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        build(factory, script)
        command = [sys.executable, str(factory.bundle / "run.py"), str(script)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        subprocess.run(["umount", "--lazy", factory.bundle], check=True)
    assert "compiled modules cannot be loaded from it" in done.stderr
    assert "copy the bundle to another one" in done.stderr
