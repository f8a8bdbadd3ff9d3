from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import run_command_line
from offline_bundle.wheelhouse.cli.verify import verify_command
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    Manifest,
    render_checksums,
)
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError
from offline_bundle.wheelhouse.store.verify import (
    ChangedFile,
    VerifyReport,
    _Content,
    _inspect,
    raise_for_problems,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CONTENTS = {
    "run.py": b"print()\n",
    "scripts/eval.py": b"# script\n",
    "wheels/numpy-1.0-py3-none-any.whl": bytes(range(256)) * 40,
    "wheels/empty-1.0-py3-none-any.whl": b"",
    "simple/numpy/index.html": b"<html></html>",
}
WHEEL = "wheels/numpy-1.0-py3-none-any.whl"


def manifest_of(contents: Mapping[str, bytes]) -> Manifest:
    files = {
        path: BundledFile(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for path, content in contents.items()
    }
    files["SHA256SUMS"] = BundledFile(sha256=None, size=None)
    return Manifest(created_by="tests", timestamp="2026-01-01T00:00:00Z", files=files)


def put(folder: Path, path: str, content: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


def make_bundle(folder: Path, contents: Mapping[str, bytes] = CONTENTS) -> Path:
    for path, content in contents.items():
        put(folder, path, content)
    manifest = manifest_of(contents)
    put(folder, "bundle.json", manifest.to_json())
    put(folder, "SHA256SUMS", render_checksums(manifest, manifest.to_json()))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def names(report: VerifyReport) -> dict[str, list[str]]:
    """Everything the report finds fault with, by kind."""
    found = {
        "missing": list(report.missing),
        "changed": [change.path for change in report.changed],
        "extra": list(report.extra),
        "pending": list(report.pending),
    }
    assert report.ok is not any(found.values())
    return {kind: paths for kind, paths in found.items() if paths}


# A bundle in order


def test_verify_accepts_an_intact_bundle(bundle: Path) -> None:
    report = verify(bundle)
    assert names(report) == {}
    assert report.ok
    assert report.files == len(CONTENTS) + 1
    assert report.size == sum(map(len, CONTENTS.values()))
    raise_for_problems(report)


def test_signature_and_writer_folder_are_not_extra(bundle: Path) -> None:
    put(bundle, "bundle.json.sig", b"-----BEGIN SSH SIGNATURE-----")
    put(bundle, ".writer/lock", b"")
    put(bundle, ".writer/tmp/7", b"half a wheel")
    assert verify(bundle).ok


def test_verify_accepts_a_link_to_the_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle)
    assert verify(tmp_path / "current").ok


@pytest.mark.parametrize("workers", [None, 1, 2, 16])
def test_progress_adds_up_to_the_bytes_hashed(bundle: Path, workers: int | None) -> None:
    seen: list[int] = []
    assert verify(bundle, workers=workers, progress=seen.append).ok
    assert sum(seen) == sum(map(len, CONTENTS.values())) + (bundle / "SHA256SUMS").stat().st_size


def test_verify_accepts_an_empty_bundle(tmp_path: Path) -> None:
    assert verify(make_bundle(tmp_path, {})).ok


def test_empty_folder_is_not_a_problem(bundle: Path) -> None:
    (bundle / "simple/left-over").mkdir()
    assert verify(bundle).ok


# One fault at a time


@pytest.mark.parametrize("path", sorted([*CONTENTS, "SHA256SUMS"]))
def test_every_missing_file_is_named(bundle: Path, path: str) -> None:
    (bundle / path).unlink()
    assert names(verify(bundle)) == {"missing": [path]}


@pytest.mark.parametrize("path", sorted(set(CONTENTS) - {"wheels/empty-1.0-py3-none-any.whl"}))
def test_changed_bytes_of_the_same_size_are_named(bundle: Path, path: str) -> None:
    other = b"#" * len(CONTENTS[path])
    put(bundle, path, other)
    change = ChangedFile(
        path,
        f"sha256 {hashlib.sha256(CONTENTS[path]).hexdigest()}",
        f"sha256 {hashlib.sha256(other).hexdigest()}",
    )
    report = verify(bundle)
    assert names(report) == {"changed": [path]}
    assert report.changed == (change,)


@pytest.mark.parametrize("path", sorted([*CONTENTS, "SHA256SUMS"]))
def test_changed_size_is_named_without_hashing(bundle: Path, path: str) -> None:
    before = (bundle / path).stat().st_size
    everything = sum((bundle / name).stat().st_size for name in [*CONTENTS, "SHA256SUMS"])
    put(bundle, path, b"#" * (before + 7))
    hashed: list[int] = []
    report = verify(bundle, progress=hashed.append)
    assert report.changed == (ChangedFile(path, f"{before} bytes", f"{before + 7} bytes"),)
    assert sum(hashed) == everything - before


@pytest.mark.parametrize(
    "path", ["x", "wheels/evil-1.0-py3-none-any.whl", "wheels/a/b/c", ".hidden", "sub/.writer/x"]
)
def test_every_extra_file_is_named(bundle: Path, path: str) -> None:
    put(bundle, path, b"")
    assert names(verify(bundle)) == {"extra": [path]}


def test_checksums_with_other_content_are_changed(bundle: Path) -> None:
    lines = (bundle / "SHA256SUMS").read_bytes().splitlines(keepends=True)
    put(bundle, "SHA256SUMS", b"".join(reversed(lines)))
    assert names(verify(bundle)) == {"changed": ["SHA256SUMS"]}


def test_rewritten_manifest_makes_the_checksums_changed(bundle: Path) -> None:
    manifest = replace(manifest_of(CONTENTS), created_by="somebody else")
    put(bundle, "bundle.json", manifest.to_json())
    assert names(verify(bundle)) == {"changed": ["SHA256SUMS"]}


def test_checksums_missing_in_the_manifest_are_extra(tmp_path: Path) -> None:
    manifest = replace(manifest_of({}), files={})
    put(tmp_path, "bundle.json", manifest.to_json())
    assert verify(tmp_path).ok
    put(tmp_path, "SHA256SUMS", render_checksums(manifest, manifest.to_json()))
    assert names(verify(tmp_path)) == {"extra": ["SHA256SUMS"]}


def test_all_problems_are_reported_in_one_pass(bundle: Path) -> None:
    (bundle / "run.py").unlink()
    (bundle / "scripts/eval.py").unlink()
    put(bundle, WHEEL, b"other")
    put(bundle, "simple/numpy/index.html", b"<HTML></HTML>")
    put(bundle, "x", b"")
    put(bundle, "wheels/y", b"")
    report = verify(bundle)
    assert names(report) == {
        "missing": ["run.py", "scripts/eval.py"],
        "changed": ["simple/numpy/index.html", WHEEL],
        "extra": ["wheels/y", "x"],
    }
    with pytest.raises(IntegrityError, match="2 missing, 2 changed, 2 extra") as caught:
        raise_for_problems(report)
    assert caught.value.exit_code == 5
    assert caught.value.hint
    for path in ("run.py", "scripts/eval.py", "simple/numpy/index.html", WHEEL, "wheels/y", "x"):
        assert any(path in problem for problem in caught.value.problems)


def test_hostile_names_are_escaped(bundle: Path) -> None:
    put(bundle, "evil\x1b[2J\nname", b"")
    (bundle / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"")
    report = verify(bundle)
    assert len(report.extra) == 2
    text = "\n".join(report.problems)
    assert "\x1b" not in text
    assert "extra: evil\\x1b[2J\\nname" in text
    text.encode()


@pytest.mark.parametrize(
    "path", ["wheels/x.whl", "wheels/a-b.whl", "wheels/a b-1.0-py3-none-any.whl", "nul", "../x"]
)
def test_invalid_path_is_rejected_by_name(bundle: Path, path: str) -> None:
    document = json.loads((bundle / "bundle.json").read_bytes())
    document["files"][path] = {"sha256": "0" * 64, "size": 0}
    (bundle / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError) as caught:
        verify(bundle)
    assert path in str(caught.value)


# What is no file


def test_link_to_an_intact_copy_is_changed(bundle: Path, tmp_path: Path) -> None:
    (bundle / WHEEL).rename(tmp_path / "copy")
    (bundle / WHEEL).symlink_to(tmp_path / "copy")
    report = verify(bundle)
    assert report.changed == (ChangedFile(WHEEL, "a file", "a symbolic link"),)
    assert names(report) == {"changed": [WHEEL]}


def test_other_links_are_extra_and_not_followed(bundle: Path, tmp_path: Path) -> None:
    put(tmp_path, "outside/secret", b"")
    (bundle / "folder-link").symlink_to(tmp_path / "outside")
    (bundle / "wheels/loop").symlink_to(bundle)
    (bundle / "dangling").symlink_to("nowhere")
    assert names(verify(bundle)) == {"extra": ["dangling", "folder-link", "wheels/loop"]}


def test_link_in_place_of_a_folder_hides_its_files(bundle: Path, tmp_path: Path) -> None:
    (bundle / "scripts").rename(tmp_path / "scripts")
    (bundle / "scripts").symlink_to(tmp_path / "scripts")
    assert names(verify(bundle)) == {"missing": ["scripts/eval.py"], "extra": ["scripts"]}


def test_link_in_place_of_the_signature_is_extra(bundle: Path) -> None:
    (bundle / "bundle.json.sig").symlink_to("run.py")
    assert names(verify(bundle)) == {"extra": ["bundle.json.sig"]}


def test_link_in_place_of_the_writers_folder_is_extra(bundle: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/pending.json", manifest_of({**CONTENTS, "x": b"x"}).to_json())
    (bundle / ".writer").symlink_to(tmp_path / "elsewhere")
    put(bundle, "x", b"x")
    assert names(verify(bundle)) == {"extra": [".writer", "x"]}


def test_folder_in_place_of_a_file_is_a_change(bundle: Path) -> None:
    (bundle / "run.py").unlink()
    (bundle / "run.py").mkdir()
    put(bundle, "run.py/__main__.py", b"")
    report = verify(bundle)
    assert report.changed == (ChangedFile("run.py", "a file", "a folder"),)
    assert report.extra == ("run.py/__main__.py",)


def test_fifos_and_sockets_are_never_opened(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "run.py").unlink()
    os.mkfifo(bundle / "run.py")
    os.mkfifo(bundle / "fifo")
    monkeypatch.chdir(bundle)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        report = verify(bundle)
    assert report.changed == (ChangedFile("run.py", "a file", "a fifo, socket or device"),)
    assert report.extra == ("fifo", "socket")


def test_fifo_that_appears_while_verifying_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    content = _Content("0" * 64, 0)
    state = _inspect(tmp_path / "fifo", [content], bytearray(8), lambda _: None)
    assert state.matched is None
    assert state.actual == "not a regular file"


# What cannot be read


@contextlib.contextmanager
def nobody_in_particular(bundle: Path) -> Iterator[None]:
    """Root may read everything: change to another user for a while, who may enter *folder*."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (bundle, *bundle.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def refuse(monkeypatch: pytest.MonkeyPatch, function: str, path: str) -> None:
    """Make opening or listing *path* fail as for a user without permission, also for root."""
    real = getattr(os, function)

    def refusing(place: str | Path, *rest: int, **options: int | None) -> object:
        if str(place).endswith(path):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place, *rest, **options)

    monkeypatch.setattr(os, function, refusing)


def test_file_that_cannot_be_read_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "open", WHEEL)
    report = verify(bundle)
    assert report.changed == (ChangedFile(WHEEL, "a readable file", "Permission denied"),)
    assert names(report) == {"changed": [WHEEL]}


def test_folder_that_cannot_be_listed_is_named_once(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "scandir", "wheels")
    report = verify(bundle)
    assert report.changed == (ChangedFile("wheels", "a readable folder", "Permission denied"),)
    assert names(report) == {"changed": ["wheels"]}


def test_missing_permissions_are_reported(bundle: Path) -> None:
    (bundle / WHEEL).chmod(0)
    (bundle / "scripts").chmod(0)
    try:
        with nobody_in_particular(bundle):
            assert names(verify(bundle)) == {"changed": ["scripts", WHEEL]}
    finally:
        (bundle / "scripts").chmod(0o755)


def test_read_error_is_reported_as_changed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("offline_bundle.wheelhouse.store.verify._digest", fail)
    report = verify(bundle)
    assert {change.actual for change in report.changed} == {"Input/output error"}
    assert len(report.changed) == len(CONTENTS) + 1


# No bundle, no manifest


def test_folder_without_a_bundle_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        verify(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"format": 1, "files": {"../x": {}}}', b"[" * 10**5]
)
def test_invalid_manifest_is_rejected_before_files_are_read(
    bundle: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bundle, "bundle.json", content)
    monkeypatch.setattr("offline_bundle.wheelhouse.store.verify._read_tree", None)
    with pytest.raises(IntegrityError):
        verify(bundle)


# An update that was interrupted

NEW = {
    **CONTENTS,
    "scripts/eval.py": b"# changed script\n",
    "wheels/new-1.0-py3-none-any.whl": b"new",
}


def interrupt(bundle: Path, journal: Mapping[str, bytes] = NEW) -> None:
    put(bundle, ".writer/pending.json", manifest_of(journal).to_json())


def test_files_of_an_interrupted_update_are_pending(bundle: Path) -> None:
    interrupt(bundle)
    assert verify(bundle).ok  # nothing was renamed into place yet
    put(bundle, "wheels/new-1.0-py3-none-any.whl", b"new")
    report = verify(bundle)
    assert names(report) == {"pending": ["wheels/new-1.0-py3-none-any.whl"]}
    assert report.is_interrupted
    assert not report.ok
    with pytest.raises(IntegrityError, match="an update of the bundle was interrupted"):
        raise_for_problems(report)
    raise_for_problems(report, allow_pending=True)


def test_changed_files_are_changed_even_if_the_journal_names_them(bundle: Path) -> None:
    interrupt(bundle)
    put(bundle, "scripts/eval.py", b"# changed script\n")
    updated = manifest_of(NEW)
    put(bundle, "SHA256SUMS", render_checksums(updated, updated.to_json()))
    report = verify(bundle)
    assert names(report) == {"changed": ["SHA256SUMS", "scripts/eval.py"]}
    assert all(change.pending for change in report.changed)
    assert report.is_interrupted
    with pytest.raises(IntegrityError, match="2 changed"):
        raise_for_problems(report, allow_pending=True)
    put(bundle, "wheels/new-1.0-py3-none-any.whl", b"new")
    put(bundle, "bundle.json", updated.to_json())
    assert verify(bundle).ok


@pytest.mark.parametrize("options", [[], ["--allow-pending"]])
def test_planted_journal_does_not_hide_a_changed_launcher(
    bundle: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    planted = {**CONTENTS, "run.py": b"evil", "extra.py": b"extra"}
    interrupt(bundle, planted)
    put(bundle, "run.py", b"evil")
    put(bundle, "extra.py", b"extra")
    assert run_command_line(verify_command, [str(bundle), *options], "verify") == 5
    assert "changed: run.py" in capsys.readouterr().err
    (bundle / "run.py").write_bytes(CONTENTS["run.py"])
    code = run_command_line(verify_command, [str(bundle), *options, "--json"], "verify")
    assert code == (0 if options else 5)
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["pending"]) == (bool(options), ["extra.py"])


def test_files_that_an_update_had_yet_to_remove_are_pending(bundle: Path) -> None:
    shrunk = {path: content for path, content in CONTENTS.items() if path != WHEEL}
    interrupt(bundle, CONTENTS)  # the journal has what is to be removed, too
    updated = manifest_of(shrunk)
    put(bundle, "SHA256SUMS", render_checksums(updated, updated.to_json()))
    assert names(verify(bundle)) == {"changed": ["SHA256SUMS"]}
    assert verify(bundle).is_interrupted
    put(bundle, "bundle.json", updated.to_json())
    assert names(verify(bundle)) == {"pending": [WHEEL]}
    (bundle / WHEEL).unlink()
    assert verify(bundle).ok


def test_the_journal_explains_only_what_it_names_with_its_digest(bundle: Path) -> None:
    interrupt(bundle)
    put(bundle, "wheels/new-1.0-py3-none-any.whl", b"bad")
    put(bundle, "scripts/eval.py", b"# somebody's own\n")
    put(bundle, "wheels/evil-1.0-py3-none-any.whl", b"")
    (bundle / "run.py").unlink()
    assert names(verify(bundle)) == {
        "missing": ["run.py"],
        "changed": ["scripts/eval.py"],
        "extra": ["wheels/evil-1.0-py3-none-any.whl", "wheels/new-1.0-py3-none-any.whl"],
    }


def test_the_journal_does_not_explain_checksums_with_other_lines(bundle: Path) -> None:
    interrupt(bundle)
    updated = manifest_of(NEW)
    checksums = render_checksums(updated, updated.to_json()).replace(b"  run.py", b"  ran.py")
    put(bundle, "SHA256SUMS", checksums)
    assert names(verify(bundle)) == {"changed": ["SHA256SUMS"]}
    assert not verify(bundle).is_interrupted


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b"\xff", b'{"format": 2}'])
def test_invalid_journal_is_ignored(bundle: Path, content: bytes) -> None:
    put(bundle, ".writer/pending.json", content)
    assert verify(bundle).ok
    put(bundle, "wheels/new-1.0-py3-none-any.whl", b"new")
    assert names(verify(bundle)) == {"extra": ["wheels/new-1.0-py3-none-any.whl"]}


def test_the_journal_does_not_explain_missing_checksums(bundle: Path) -> None:
    interrupt(bundle)
    (bundle / "SHA256SUMS").unlink()
    assert names(verify(bundle)) == {"missing": ["SHA256SUMS"]}


def test_journal_that_is_a_fifo_is_ignored(bundle: Path) -> None:
    (bundle / ".writer").mkdir()
    os.mkfifo(bundle / ".writer/pending.json")
    assert verify(bundle).ok


# Many at once


def test_every_one_of_200_flipped_bits_is_found_and_named(bundle: Path) -> None:
    chance = random.Random(20261115)
    paths = [path for path in [*CONTENTS, "SHA256SUMS"] if (bundle / path).stat().st_size]
    for _ in range(200):
        path = chance.choice(paths)
        good = (bundle / path).read_bytes()
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        put(bundle, path, bytes(bad))
        assert names(verify(bundle)) == {"changed": [path]}
        put(bundle, path, good)
    assert verify(bundle).ok


def test_every_flipped_bit_of_the_manifest_is_noticed(bundle: Path) -> None:
    chance = random.Random(5)
    good = (bundle / "bundle.json").read_bytes()
    for _ in range(200):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        put(bundle, "bundle.json", bytes(bad))
        with pytest.raises(IntegrityError):
            raise_for_problems(verify(bundle))


def test_2000_files_are_all_verified(tmp_path: Path) -> None:
    chance = random.Random(7)
    contents = {
        f"simple/p{n % 50}/f{n}": chance.randbytes(chance.randrange(64)) + b"." for n in range(2000)
    }
    bundle = make_bundle(tmp_path, contents)
    bad = sorted(chance.sample(sorted(contents), 100))
    for path in bad:
        put(bundle, path, contents[path][:-1] + b"!")
    assert names(verify(bundle)) == {"changed": bad}


def test_interrupted_verification_stops_soon(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {f"f{n}": b"x" * 100 for n in range(500)})
    calls: list[int] = []

    def interrupt_at_once(count: int) -> None:
        calls.append(count)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(bundle, workers=2, progress=interrupt_at_once)
    assert len(calls) < 100
