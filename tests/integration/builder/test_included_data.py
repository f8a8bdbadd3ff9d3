"""`build --include`: data for scripts, from the build to a node."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.check import check
from offline_bundle.builder.model import BuildRequest
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError
from offline_bundle.wheelhouse.store.prune import prune
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from tests.support.command_line import call, read_bundle
from tests.support.pipeline_cases import Factory, Silence, factory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["factory"]

_SHOW = """import os, pathlib, subprocess
folder = pathlib.Path(os.environ["OFFLINE_BUNDLE_DATA"])
print((folder / "model/weights.bin").read_text(), (folder / "words.txt").read_text())
print(subprocess.run([folder / "model/bin/browser"], capture_output=True, text=True).stdout)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder as downloads of models and browsers have it: links and a program."""
    folder = tmp_path / "model"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/browser").write_text("#!/bin/sh\necho started\n")
    (folder / "bin/browser").chmod(0o755)
    (folder / "blobs").mkdir()
    (folder / "blobs/1").write_text("trained")
    (folder / "weights.bin").symlink_to("blobs/1")
    (folder / "itself").symlink_to(".")
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "same").symlink_to("../blobs")
    (tmp_path / "corpus.txt").write_text("words")
    return folder


def _include(model: Path) -> tuple[str, ...]:
    return (str(model), f"words.txt={model.parent / 'corpus.txt'}")


def _run(bundle: Path, folder: Path) -> str:
    """Start the script by the launcher, cold and then warm; return its output."""
    environment = {
        "OFFLINE_BUNDLE_CACHE": str(folder / "cache"),
        "OFFLINE_BUNDLE_UV": find_uv(),
        "PATH": os.defpath,
    }
    command = [sys.executable, bundle / "run.py"]
    outputs = [
        subprocess.run(
            [*command, *options, bundle / "scripts/job.py"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for options in (["-q"], [])
    ]
    assert outputs[0] == outputs[1]
    return outputs[0]


def test_a_script_finds_its_data_on_a_node(factory: Factory, model: Path, tmp_path: Path) -> None:
    script = factory.script(body=_SHOW)
    factory.build(script, include=_include(model))
    raise_for_problems(verify(factory.bundle))
    manifest = read_bundle(factory.bundle)
    assert manifest["scripts"]["job"]["data"] == ["model", "words.txt"]
    files = {path for path in manifest["files"] if path.startswith("data/")}
    assert files == {
        "data/model/bin/browser",
        "data/model/blobs/1",
        "data/model/one/same/1",
        "data/model/two/same/1",
        "data/model/weights.bin",
        "data/words.txt",
    }
    assert _run(factory.bundle, tmp_path) == "trained words\nstarted\n\n"
    archive, copy = tmp_path / "bundle.tar", tmp_path / "copy"
    assert call("pack", factory.bundle, "-o", archive, "-q").code == 0
    command = [sys.executable, f"{archive}.unpack.py", archive, "-o", copy]
    subprocess.run(command, check=True, capture_output=True)
    assert _run(copy, tmp_path / "node") == "trained words\nstarted\n\n"
    shown = call("show", copy)
    assert "words.txt" in shown.out
    (copy / "data/words.txt").write_text("other")
    assert "data/words.txt" in call("verify", copy).text


def test_data_stays_without_the_option_and_never_changes(factory: Factory, model: Path) -> None:
    script = factory.script()
    factory.build(script, include=_include(model))
    before = read_bundle(factory.bundle)
    assert not factory.build(script).changed
    assert not factory.build(script, include=_include(model)).changed
    assert read_bundle(factory.bundle) == before
    (model.parent / "corpus.txt").write_text("more words")
    assert (factory.bundle / "data/words.txt").read_text() == "words"
    text = factory.fails(IntegrityError, script, include=_include(model))
    assert "data/words.txt" in text
    assert "--include NAME=PATH" in text


def test_check_names_data_that_a_build_would_change(factory: Factory, model: Path) -> None:
    script = factory.script()
    factory.build(script, include=_include(model)[1:])

    def kinds(*include: str) -> dict[str, str | None]:
        request = BuildRequest((script,), factory.bundle, include=include)
        return {change.kind: change.name for change in check(request, find_uv(), Silence()).changes}

    assert kinds() == {}
    assert kinds(*_include(model)[1:]) == {}
    added = kinds(f"more={model.parent / 'corpus.txt'}")
    assert added == {"data-added": "data/more", "data-removed": "words.txt"}
    (model.parent / "corpus.txt").write_text("more words")
    assert kinds(*_include(model)[1:]) == {"data-changed": "data/words.txt"}


def test_corrupt_data_is_written_again_from_its_source(factory: Factory, model: Path) -> None:
    script = factory.script()
    factory.build(script, include=_include(model))
    path = factory.bundle / "data/words.txt"
    path.chmod(0o644)
    path.write_text("wrong")
    factory.build(script, include=_include(model), is_locked=True)
    assert path.read_text() == "words"
    raise_for_problems(verify(factory.bundle))


def test_prune_removes_data_that_no_script_needs(factory: Factory, model: Path) -> None:
    factory.build(factory.script(name="one"), include=(str(model),))
    factory.build(factory.script(name="two"), include=_include(model)[1:])
    report = prune(factory.bundle, drop_scripts=["one"], grace=timedelta(0))
    assert "data/model/weights.bin" in report.removed
    assert (factory.bundle / "data/words.txt").exists()
    assert not (factory.bundle / "data/model").exists()
    raise_for_problems(verify(factory.bundle))


def test_merging_keeps_the_data_of_both_and_refuses_other_bytes(
    factory: Factory, model: Path, tmp_path: Path
) -> None:
    factory.build(factory.script(name="one"), include=(str(model),))
    other = tmp_path / "other"
    factory.build(factory.script(name="two"), include=_include(model)[1:], output=other)
    archive = tmp_path / "other.tar"
    assert call("pack", other, "-o", archive, "-q").code == 0
    assert call("unpack", archive, "-o", factory.bundle).code == 0
    raise_for_problems(verify(factory.bundle))
    assert read_bundle(factory.bundle)["scripts"]["two"]["data"] == ["words.txt"]
    (model.parent / "corpus.txt").write_text("more words")
    changed = tmp_path / "changed"
    factory.build(factory.script(name="three"), include=_include(model)[1:], output=changed)
    second = tmp_path / "changed.tar"
    assert call("pack", changed, "-o", second, "-q").code == 0
    refused = call("unpack", second, "-o", factory.bundle)
    assert refused.code == 5
    assert "data/words.txt" in refused.err


@pytest.mark.parametrize(
    ("include", "problem"),
    [
        (("missing",), "--include missing: no such file"),
        (("empty",), "a folder without files"),
        (("a.txt", "a.txt=b.txt"), "two paths are named a.txt"),
        (("CON=a.txt",), "data/CON: unsafe path"),
        ((".=a.txt",), "unsafe path"),
        (("odd",), "unsafe path"),
        (("pipe",), "is not a regular file"),
        (("",), "--include : the path is empty"),
        (("model=",), "--include model=: the path is empty"),
        (("deep",), "File name too long"),
    ],
)
def test_paths_that_a_bundle_cannot_have_are_refused(
    factory: Factory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    include: tuple[str, ...],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt", "odd/a\nb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for _ in range(20):  # each folder can be made from the one above it only
        os.mkdir("d" * 250)  # noqa: PTH102
        os.chdir("d" * 250)
    os.chdir(tmp_path)
    (tmp_path / "deep").symlink_to("d" * 250)
    assert problem in factory.fails(InputError, factory.script(), include=include)


def test_the_key_of_a_bundle_contains_its_data(tmp_path: Path, model: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("# /// script\n# dependencies = []\n# ///\n")
    words = ("show", "--key", script, "--include", model)
    keys = [call(*words).out]
    (model / "blobs/1").write_text("trained more")
    keys.append(call(*words).out)
    assert len(set(keys)) == 2
