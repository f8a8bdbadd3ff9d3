from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, read_manifest
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError
from offline_bundle.wheelhouse.runtime.names import MOST_ANCESTORS, PENDING
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.store.writer import BundleWriter
from tests.support.archives import digest_of, no_fsync, put_bundle, tree, wheel_path
from tests.support.writer_cases import NEW, OLD, is_whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["no_fsync"]


def test_commit_writes_all_files(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle")
    assert is_whole(bundle)
    assert os.access(bundle / "uv/x86_64-manylinux_2_17/uv", os.X_OK)
    assert sorted(path.name for path in (bundle / ".writer").iterdir()) == ["lock"]


def test_commit_of_the_same_steps_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (put_bundle(tmp_path / name) for name in ("first", "second"))
    assert tree(first) == tree(second)
    for bundle in (first, second):
        put_bundle(bundle, {"eval": NEW})
    assert tree(first) == tree(second)


def test_commit_without_changes_touches_nothing(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle")
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*") if path.is_file()}
    put_bundle(bundle)
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*") if path.is_file()} == before


def test_commit_keeps_an_equal_manifest_in_another_layout_and_its_signature(
    tmp_path: Path,
) -> None:
    bundle = put_bundle(tmp_path / "bundle")
    document = (
        json.dumps(json.loads((bundle / "bundle.json").read_bytes()), indent=1, sort_keys=True)
        + "\n"
    ).encode()
    with BundleWriter(bundle) as writer:
        writer.commit(read_manifest(bundle), {}, document=document, signature=b"of these bytes")
    before = tree(bundle)
    assert before["bundle.json"] == document
    put_bundle(bundle)
    assert tree(bundle) == before
    assert is_whole(bundle)
    put_bundle(bundle, {"eval": {"alpha": "2.0"}})
    assert read_manifest(bundle).generation == 2
    assert "bundle.json.sig" not in tree(bundle)


def test_commit_removes_obsolete_files_and_their_folders(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", {"eval": OLD})
    put_bundle(bundle, {"other": {"q1": "1.0"}})
    assert is_whole(bundle)
    assert not (bundle / "simple/p1").exists()
    assert not (bundle / "locks/eval").exists()


def test_commit_does_not_rewrite_present_files(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", {"eval": OLD})
    inode = (bundle / wheel_path("p14", "1.0")).stat().st_ino
    put_bundle(bundle, {"eval": {**OLD, "q": "1.0"}})
    assert (bundle / wheel_path("p14", "1.0")).stat().st_ino == inode


def test_commit_with_changes_increments_the_generation(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle")
    digests = [digest_of(bundle)]
    assert b"generation" not in (bundle / "bundle.json").read_bytes()
    assert read_manifest(bundle).generation == 1
    for version in ("2.0", "3.0"):
        put_bundle(bundle, {"eval": {"alpha": version}})
        put_bundle(bundle, {"eval": {"alpha": version}})
        digests.insert(0, digest_of(bundle))
    manifest = read_manifest(bundle)
    assert manifest.generation == 3
    assert manifest.ancestors == tuple(digests[1:])


def test_commit_limits_the_number_of_ancestors(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", {})
    with BundleWriter(bundle) as writer:
        for second in range(MOST_ANCESTORS + 10):
            assert writer.current is not None
            time_of_it = f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"
            writer.commit(replace(writer.current, timestamp=time_of_it), {})
    manifest = read_manifest(bundle)
    assert len(manifest.ancestors) == MOST_ANCESTORS
    assert manifest.generation == MOST_ANCESTORS + 10
    assert is_whole(bundle)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generation", 0),
        ("generation", "2"),
        ("generation", True),
        ("ancestors", ["x"]),
        ("ancestors", "x"),
    ],
)
def test_manifest_with_invalid_ancestors_is_rejected(
    tmp_path: Path, key: str, value: object
) -> None:
    import json

    document = json.loads((put_bundle(tmp_path / "bundle") / "bundle.json").read_bytes())
    with pytest.raises(IntegrityError, match=key):
        Manifest.from_json(json.dumps({**document, key: value}))


def test_writer_rejects_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not a bundle"):
        put_bundle(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_commit_does_not_overwrite_an_untracked_file(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle")
    (bundle / wheel_path("gamma", "1.0")).write_bytes(b"mine")
    with pytest.raises(IntegrityError, match="gamma"):
        put_bundle(bundle, {"eval": {"gamma": "1.0"}})
    assert (bundle / wheel_path("gamma", "1.0")).read_bytes() == b"mine"


@pytest.mark.parametrize("folder", ["wheels", ".writer", "simple"])
def test_commit_writes_nothing_through_a_link(tmp_path: Path, folder: str) -> None:
    bundle = put_bundle(tmp_path / "bundle")
    (bundle / folder).rename(tmp_path / "elsewhere")
    (bundle / folder).symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="link"):
        put_bundle(bundle, {"eval": {"gamma": "1.0"}})
    assert tree(tmp_path / "elsewhere") == before


def test_commit_rejects_a_damaged_bundle_and_names_it(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle")
    path = wheel_path("alpha", "1.0")
    (bundle / path).write_bytes(b"short")
    current = read_manifest(bundle)
    with BundleWriter(bundle) as writer, pytest.raises(IntegrityError) as caught:
        writer.commit(replace(current, timestamp="2027-01-01T00:00:00Z"), {})
    assert caught.value.problems == (path,)


def test_file_of_a_killed_writer_is_not_taken_for_the_previous_one(tmp_path: Path) -> None:
    """Same path, same size, other bytes, and a kill between: the size alone would have lied."""
    bundle = put_bundle(tmp_path / "bundle", text="one")
    one = digest_of(bundle)
    other = put_bundle(tmp_path / "other", text="two")
    (bundle / PENDING).write_bytes((other / "bundle.json").read_bytes())
    (bundle / "scripts/eval.py").write_bytes((other / "scripts/eval.py").read_bytes())
    assert verify(bundle).is_interrupted
    put_bundle(bundle, text="one")
    assert is_whole(bundle)
    assert digest_of(bundle) == one


def test_journals_of_two_killed_writers_both_count(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", text="one")
    for text in ("two", "six"):
        other = put_bundle(tmp_path / text, text=text)
        (bundle / PENDING).parent.mkdir(exist_ok=True)
        name = "pending.json" if text == "six" else "pending-0123456789abcdef.json"
        (bundle / ".writer" / name).write_bytes((other / "bundle.json").read_bytes())
        (bundle / "scripts/eval.py").write_bytes((other / "scripts/eval.py").read_bytes())
        assert verify(bundle).is_interrupted
    (bundle / "scripts/eval.py").write_bytes((tmp_path / "two/scripts/eval.py").read_bytes())
    (change,) = verify(bundle).changed
    assert (change.path, change.pending) == ("scripts/eval.py", True)
    put_bundle(bundle, text="ten")
    assert is_whole(bundle)


@pytest.mark.parametrize(
    "path", ["scripts", "locks/eval", "run.py/x", "link/keep", "x" * 256, "é" * 130, "x" * 255]
)
def test_a_planted_journal_of_paths_that_are_no_files_ends_no_update(
    tmp_path: Path, path: str
) -> None:
    """A journal is written by whoever may write in the folder."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/keep").write_text("")
    bundle = put_bundle(tmp_path / "bundle", text="one")
    (bundle / "link").symlink_to(tmp_path / "outside")
    journal = {
        **json.loads((bundle / "bundle.json").read_text()),
        **{name: {} for name in ("scripts", "targets", "uv", "pythons")},
        "files": {path: {"sha256": "0" * 64, "size": 1}},
    }
    (bundle / PENDING).write_text(json.dumps(journal))
    put_bundle(bundle, text="two")
    assert [path.name for path in (bundle / ".writer").iterdir()] == ["lock"]
    assert verify(bundle).problems == ("extra: link",)
    assert (tmp_path / "outside/keep").exists()


def test_readers_always_see_a_whole_manifest(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "bundle", text="0")
    stop = threading.Event()
    faults: list[object] = []

    def read() -> None:
        while not stop.is_set():
            manifest = read_manifest(bundle)
            text = (bundle / wheel_path("alpha", "1.0")).read_bytes()
            if len(text) != manifest.files[wheel_path("alpha", "1.0")].size:
                faults.append(manifest)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(10):
        put_bundle(bundle, text=f"{number}")
    stop.set()
    reader.join()
    assert not faults
