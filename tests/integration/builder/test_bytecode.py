"""Bytecode in a bundle: built, kept, reproduced, left out, pruned, merged and compiled anew."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import run_command_line
from offline_bundle.wheelhouse.cli.verify import verify_command
from offline_bundle.wheelhouse.derived.bytecode import compile_wheels
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import BundleError, FetchError, IntegrityError
from offline_bundle.wheelhouse.runtime.launcher.trusted_bundle import TrustedBundle
from offline_bundle.wheelhouse.store.prune import prune
from offline_bundle.wheelhouse.store.recompile import recompile
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from offline_bundle.wheelhouse.store.writer import BundleWriter
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.distributions import make_wheel
from tests.support.pipeline_cases import CP, HERE, Factory, digests, factory, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.index_server import IndexServer

__all__ = ["factory"]

LEAF = f"bytecode/{CP}/leaf-1.0-py3-none-any.whl.tar.gz"
TWIG = f"bytecode/{CP}/twig-1.0-py3-none-any.whl.tar.gz"


@pytest.fixture(autouse=True)
def wheels(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(packages, "leaf")
    make_wheel(packages, "twig")
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("builder.bytecode", "wheelhouse.store.recompile"):
        monkeypatch.setattr(f"offline_bundle.{module}.find_compiler", lambda _: None)


def bytecode(factory: Factory) -> set[str]:
    raise_for_problems(verify(factory.bundle))
    return {path for path in digests(factory.bundle) if path.startswith("bytecode/")}


def test_build_adds_one_file_per_wheel_that_scripts_and_platforms_share(factory: Factory) -> None:
    platforms = ("x86_64-manylinux_2_28", "x86_64-pc-windows-msvc")
    scripts = (factory.script("leaf"), factory.script("leaf", "twig", name="two"))
    assert factory.build(*scripts, platforms=platforms).notes == ()
    assert bytecode(factory) == {LEAF, TWIG}


def test_rebuild_changes_and_compiles_nothing(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory.build(factory.script("leaf"))
    before = snapshot(factory.bundle)
    with monkeypatch.context() as patch:
        patch.delattr("offline_bundle.builder.bytecode.compile_wheels")
        assert not factory.build(factory.script("leaf")).changed
    assert snapshot(factory.bundle) == before
    (factory.bundle / LEAF).unlink()
    assert factory.build(factory.script("leaf")).changed
    assert digests(factory.bundle) == {path: digest for path, (digest, _, _) in before.items()}


def test_wheels_are_compiled_while_others_are_fetched(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled_before: list[Path] = []

    def compile_rest(interpreter: str, wheels: dict[str, Path], folder: Path) -> dict[str, Path]:
        compiled_before.extend(folder.iterdir())
        return compile_wheels(interpreter, wheels, folder)

    monkeypatch.setattr("offline_bundle.builder.bytecode.compile_wheels", compile_rest)
    factory.build(factory.script("leaf", "twig"))
    assert len(compiled_before) == 2
    assert bytecode(factory) == {LEAF, TWIG}


def test_compilation_that_fails_early_is_repeated(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreters = iter([shutil.which("false"), sys.executable])
    monkeypatch.setattr(
        "offline_bundle.builder.bytecode.find_compiler", lambda _: next(interpreters)
    )
    factory.build(factory.script("leaf"))
    assert bytecode(factory) == {LEAF}


def test_compiled_files_are_kept_between_bundles(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory.build(factory.script("leaf"))
    [kept] = (tmp_path / "cache/bytecode").iterdir()
    modified = kept.stat().st_mtime_ns
    factory.build(factory.script("leaf"), output=tmp_path / "other")
    assert kept.stat().st_mtime_ns == modified
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "another-cache"))
    factory.build(factory.script("leaf"), output=tmp_path / "third")
    assert digests(tmp_path / "third") == digests(tmp_path / "other") == digests(factory.bundle)


def test_no_bytecode_leaves_it_out_and_removes_it(factory: Factory) -> None:
    script = factory.script("leaf")
    factory.build(script, with_bytecode=False)
    assert bytecode(factory) == set()
    assert factory.build(script).changed
    assert bytecode(factory) == {LEAF}
    assert factory.build(script, with_bytecode=False).changed
    assert bytecode(factory) == set()


@pytest.mark.usefixtures("no_compiler")
def test_missing_python_is_noted_once(factory: Factory) -> None:
    platforms = ("x86_64-manylinux_2_28", "windows")
    report = factory.build(factory.script("leaf", "twig"), platforms=platforms)
    assert report.notes == (
        (
            f"no bytecode for Python {HERE}, which is not on this machine: "
            "jobs compile what they import"
        ),
    )
    assert bytecode(factory) == set()


def clone(factory: Factory) -> Path:
    folder = factory.folder / "checkout"
    folder.mkdir()
    shutil.copyfile(factory.bundle / "bundle.json", folder / "bundle.json")
    return folder


@pytest.mark.parametrize("with_bytecode", [True, False])
def test_locked_build_reproduces_what_the_manifest_has(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_bytecode: bool
) -> None:
    script = factory.script("leaf")
    factory.build(script, with_bytecode=with_bytecode)
    folder = clone(factory)
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "another-cache"))
    factory.build(script, output=folder, is_locked=True)
    assert digests(folder) == digests(factory.bundle)
    assert (LEAF in digests(folder)) == with_bytecode
    assert not factory.build(script, output=folder, is_locked=True).changed


def test_locked_build_repairs_corrupt_bytecode(factory: Factory) -> None:
    script = factory.script("leaf")
    factory.build(script)
    before = digests(factory.bundle)
    path = factory.bundle / LEAF
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"!")
    assert factory.build(script, is_locked=True).changed
    assert digests(factory.bundle) == before


def test_locked_build_keeps_bytecode_of_another_rule(factory: Factory) -> None:
    script = factory.script("leaf")
    factory.build(script)
    replace_bytecode(factory, b"modules that an earlier version compiled, too")
    before = digests(factory.bundle)
    assert not factory.build(script, is_locked=True).changed
    assert digests(factory.bundle) == before


@pytest.mark.usefixtures("no_compiler")
def test_locked_build_without_the_python_keeps_or_fails(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = factory.script("leaf")
    with monkeypatch.context() as patch:
        patch.setattr("offline_bundle.builder.bytecode.find_compiler", lambda _: sys.executable)
        factory.build(script)
    assert not factory.build(script, is_locked=True).changed
    folder = clone(factory)
    text = factory.fails(FetchError, script, output=folder, is_locked=True)
    assert f"Python {HERE} to compile it is not on this machine" in text
    assert LEAF in text
    assert "--no-bytecode" in text
    assert factory.build(script, output=folder, is_locked=True, with_bytecode=False).changed


def test_locked_build_with_other_bytes_fails(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = factory.script("leaf")
    factory.build(script)
    folder = clone(factory)
    other = tmp_path / "other.tar.gz"
    other.write_bytes(b"other")

    def compile_differently(_: str, sources: dict[str, Path], __: Path) -> dict[str, Path]:
        return dict.fromkeys(sources, other)

    monkeypatch.setattr("offline_bundle.builder.bytecode.compile_wheels", compile_differently)
    text = factory.fails(IntegrityError, script, output=folder, is_locked=True)
    assert f"bytecode has other bytes now\n{LEAF}" in text.replace("  ", "")


def test_prune_removes_bytecode_with_its_wheel(factory: Factory) -> None:
    factory.build(factory.script("leaf"), factory.script("twig", name="two"))
    assert bytecode(factory) == {LEAF, TWIG}
    prune(factory.bundle, drop_scripts=["two"], grace=timedelta())
    assert bytecode(factory) == {LEAF}
    assert not (factory.bundle / "wheels/twig-1.0-py3-none-any.whl").exists()


def test_merge_and_difference_carry_bytecode(
    factory: Factory, index: IndexServer, tmp_path: Path
) -> None:
    factory.build(factory.script("leaf"))
    (tmp_path / "other").mkdir()
    other = Factory(tmp_path / "other", index)
    other.build(other.script("leaf", "twig", name="two"))
    pack(other.bundle, tmp_path / "other.tar")
    unpack([tmp_path / "other.tar"], factory.bundle)
    assert bytecode(factory) == {LEAF, TWIG}
    assert not factory.build(
        factory.script("leaf"), other.script("leaf", "twig", name="two")
    ).changed


# --- verify --recompile ------------------------------------------------------------------------


def replace_bytecode(factory: Factory, content: bytes) -> None:
    """Give the bundle other bytecode that its manifest confirms, as a hostile builder could."""
    from dataclasses import replace

    manifest = factory.manifest
    entry = replace(manifest.files[LEAF], sha256=sha256_of(content), size=len(content))
    with BundleWriter(factory.bundle) as writer:
        writer.commit(replace(manifest, files={**manifest.files, LEAF: entry}), {LEAF: content})


def test_recompile_accepts_what_the_wheels_compile_to(
    factory: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    factory.build(factory.script("leaf", "twig"))
    arguments = [str(factory.bundle), "--recompile"]
    assert run_command_line(verify_command, arguments, "verify") == 0
    assert "2 bytecode files compiled anew, with the same result." in capsys.readouterr().err
    assert run_command_line(verify_command, [*arguments, "--json"], "verify") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recompiled"] == {"compared": 2, "different": [], "unchecked": {}}


def test_recompile_names_bytecode_of_other_code(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    factory.build(factory.script("leaf", "twig"))
    hostile = make_wheel(tmp_path / "hostile", "leaf", files={"leaf.py": "print('hostile')\n"})
    [compiled] = compile_wheels(sys.executable, {"0": hostile}, tmp_path / "out").values()
    replace_bytecode(factory, compiled.read_bytes())
    raise_for_problems(verify(factory.bundle))
    arguments = [str(factory.bundle), "--recompile"]
    assert run_command_line(verify_command, arguments, "verify") == 5
    message = capsys.readouterr().err
    assert "bytecode differs from what its wheels compile to" in message
    assert LEAF in message
    assert TWIG not in message
    assert run_command_line(verify_command, [*arguments, "--json"], "verify") == 5
    assert LEAF in json.loads(capsys.readouterr().out)["error"]["message"]


def test_recompile_compares_what_the_manifest_has(factory: Factory, tmp_path: Path) -> None:
    """Another user may replace a wheel and its bytecode after they were verified."""
    factory.build(factory.script("leaf"))
    hostile = make_wheel(tmp_path / "hostile", "leaf", files={"leaf.py": "print('hostile')\n"})
    [compiled] = compile_wheels(sys.executable, {"0": hostile}, tmp_path / "out").values()
    for path, other in ((f"wheels/{hostile.name}", hostile), (LEAF, compiled)):
        whole = (factory.bundle / path).read_bytes()
        shutil.copyfile(other, factory.bundle / path)
        with pytest.raises(IntegrityError, match="does not match its digest"):
            recompile(factory.bundle, factory.manifest)
        (factory.bundle / path).write_bytes(whole)


def test_recompile_without_space_for_copies_says_so(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory.build(factory.script("leaf"))

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TrustedBundle, "copy", fill)
    with pytest.raises(BundleError, match=r"leaf.*cannot be copied: No space left") as raised:
        recompile(factory.bundle, factory.manifest)
    assert "TMPDIR" in (raised.value.hint or "")


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_recompile_names_unreadable_bytecode(
    factory: Factory, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    factory.build(factory.script("leaf"))
    replace_bytecode(factory, content)
    assert run_command_line(verify_command, [str(factory.bundle), "--recompile"], "verify") == 5
    assert LEAF in capsys.readouterr().err


def test_recompile_notes_a_missing_python(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    factory.build(factory.script("leaf"))
    monkeypatch.setattr("offline_bundle.wheelhouse.store.recompile.find_compiler", lambda _: None)
    assert run_command_line(verify_command, [str(factory.bundle), "--recompile"], "verify") == 0
    assert f"Python {HERE} is not on this machine" in capsys.readouterr().err


def test_recompile_needs_a_folder(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    factory.build(factory.script("leaf"))
    pack(factory.bundle, tmp_path / "b.tar")
    assert run_command_line(verify_command, [str(tmp_path / "b.tar"), "--recompile"], "verify") == 2
    assert "--recompile needs a folder" in capsys.readouterr().err
