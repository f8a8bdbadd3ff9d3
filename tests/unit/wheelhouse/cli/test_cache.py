"""`offline-bundle cache`: what is in the cache, and what of it is removed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.cli import cli, run_command_line
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.launcher.cache import command
from offline_bundle.wheelhouse.runtime.launcher.prepare.contents import checksums
from tests.support.launcher_cases import needs_posix

if TYPE_CHECKING:
    from pathlib import Path

DAY = 24 * 3600


def write(path: Path, content: bytes, *, days: float = 0) -> Path:
    """Write a file that was used some *days* ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def make_environment(cache: Path, name: str, *, days: float = 0, interpreter: str = "/py") -> Path:
    home = cache / "environments" / name
    module = write(home / "env/lib/alpha.py", b"VERSION = 1\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(module.read_bytes()).digest())
    row = f"alpha.py,sha256={digest.decode().rstrip('=')},12\nalpha-1.dist-info/RECORD,,\n"
    record = write(home / "env/lib/alpha-1.dist-info/RECORD", row.encode())
    compiled = write(home / "env/lib/__pycache__/alpha.pyc", b"code")
    contents = {
        "records": {
            record.relative_to(home).as_posix(): hashlib.sha256(record.read_bytes()).hexdigest()
        },
        "files": {compiled.relative_to(home).as_posix(): checksums(b"code")},
    }
    write(home / "contents.json", json.dumps(contents).encode())
    facts = {"interpreter": interpreter, "lock": "locks/e.toml", "script": "e.py", "size": 1}
    write(home / "complete.json", json.dumps(facts).encode(), days=days)
    write(cache / "environments" / f"{name}.lock", b"")
    return home


def make_interpreter(cache: Path, name: str, *, days: float = 0) -> Path:
    folder = cache / "python" / name
    write(folder / "python/bin/python3", b"ELF")
    files = {"python/bin/python3": checksums(b"ELF")}
    write(folder / "complete.json", json.dumps({"files": files}).encode(), days=days)
    return folder


def make_download(cache: Path, content: bytes, *, days: float = 0) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    return write(cache / "downloads/sha256" / digest[:2] / digest, content, days=days)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(folder))
    return folder


def run(*words: str, code: int = 0) -> None:
    assert run_command_line(cli, ["cache", *words], "offline-bundle") == code


def result(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    run(*words, "--json", code=code)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_lines_fit_a_terminal(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = hashlib.sha256(b"a wheel").hexdigest()
    home = make_environment(cache, "one")
    lock = "locks/a long name/pylock.cp312-x86_64-unknown-linux-musl-b30a7791f4b7e923.toml"
    facts = {"interpreter": "/py", "lock": lock, "script": "a long name.py", "size": 1}
    write(home / "complete.json", json.dumps(facts).encode())
    make_download(cache, b"a wheel")
    write(cache / "bytecode" / f"{digest}-cpython-312-cb0d0d0a-1.tar.gz", b"x")
    assert run_command_line(cli, ["cache", "list"], "offline-bundle") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 90
    assert lines[0].endswith("  a long name.py cp312-x86_64-unknown-linux-musl")
    assert lines[1].endswith(f"  {digest[:12]}")


def test_each_kind_is_listed_with_its_size_and_last_use(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_environment(cache, "aaaa", days=2)
    make_interpreter(cache, "bbbb")
    make_download(cache, b"wheel" * 5000)
    write(cache / "uv-cache-0123/archive-v0/x.py", b"")
    write(cache / "notes.txt", b"of the user")
    entries = result(capsys, "list")["entries"]
    assert [entry["kind"] for entry in entries] == [
        "environment", "interpreter", "download", "other", "uv-cache",
    ]  # fmt: skip
    assert entries[0]["detail"] == "e.py locks/e.toml"
    assert 1.9 * DAY < time.time() - entries[0]["used"] < 2.1 * DAY
    assert entries[2]["size"] >= 25_000
    sizes = result(capsys, "size")
    assert sizes["kinds"]["download"] == {"entries": 1, "size": entries[2]["size"]}
    assert sizes["size"] == sum(entry["size"] for entry in entries)
    run("size")
    assert "total" in capsys.readouterr().out


def test_an_empty_cache(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert result(capsys, "list") == {"cache": str(cache), "entries": []}
    for task in ("size", "list", "prune", "clear", "verify"):
        run(task)


def test_prune_removes_what_was_not_used_for_long(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = make_environment(cache, "aaaa", days=40), make_environment(cache, "bbbb", days=20)
    download, recent = make_download(cache, b"old", days=40), make_download(cache, b"new")
    document = result(capsys, "prune")
    assert {entry["path"] for entry in document["removed"]} == {str(old), str(download)}
    assert (new.exists(), recent.exists()) == (True, True)
    run("prune", "--days", "10")
    assert not new.exists()


def test_prune_removes_the_least_recently_used_beyond_a_size(cache: Path) -> None:
    downloads = [make_download(cache, bytes([n]) * 100_000, days=n) for n in range(4)]
    run("prune", "--max-size", "250K")
    assert [path.exists() for path in downloads] == [True, True, False, False]


def test_an_interpreter_stays_while_an_environment_uses_it(cache: Path) -> None:
    used, unused = (make_interpreter(cache, name, days=40) for name in ("used", "unused"))
    make_environment(cache, "aaaa", interpreter=str(used / "python/bin/python3"))
    run("prune")
    assert (used.exists(), unused.exists()) == (True, False)
    run("clear", "interpreter")
    assert used.exists()
    run("clear")
    assert not used.exists()


@needs_posix
@pytest.mark.parametrize("words", [("clear",), ("prune", "--days", "0"), ("verify", "--repair")])
def test_what_a_job_uses_stays(
    cache: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    home = make_environment(cache, "aaaa", days=40)
    (home / "env/lib/alpha.py").write_bytes(b"")
    with FileLock(cache / "environments/aaaa.lock", shared=True):
        assert result(capsys, "list")["entries"][0]["is_in_use"] is True
        run(*words, code=5 if words[0] == "verify" else 0)
        assert home.exists()
    run(*words)
    assert not home.exists()


def test_clear_of_kinds_leaves_the_others_and_foreign_files(cache: Path) -> None:
    home, download = make_environment(cache, "aaaa"), make_download(cache, b"x")
    foreign = write(cache / "notes.txt", b"of the user")
    run("clear", "download")
    assert (home.exists(), download.exists()) == (True, False)
    run("clear")
    assert (home.exists(), foreign.exists()) == (False, True)


def damaged(cache: Path, kind: str) -> tuple[Path, Path]:  # noqa: PLR0911 - one for each kind
    """Make an entry of *kind*, and damage it; return the damaged file and the entry."""
    if kind == "module":
        home = make_environment(cache, "aaaa")
        return write(home / "env/lib/alpha.py", b"VERSION = 2\n"), home
    if kind == "record":
        home = make_environment(cache, "aaaa")
        return write(home / "env/lib/alpha-1.dist-info/RECORD", b""), home
    if kind == "compiled":
        home = make_environment(cache, "aaaa")
        return write(home / "env/lib/__pycache__/alpha.pyc", b"eodc"), home
    if kind == "interpreter":
        folder = make_interpreter(cache, "bbbb")
        return write(folder / "python/bin/python3", b"EL"), folder
    if kind == "uv":
        program = write(cache / "uv-bin" / ("0" * 64) / "uv", b"cut")
        return program, program.parent
    if kind == "uv-cache":
        home = make_environment(cache, "aaaa")
        (cache / "uv/archive-v0").mkdir(parents=True)
        unpacked = (home / "env/lib").rename(cache / "uv/archive-v0/xyz")
        (home / "complete.json").unlink()
        return write(unpacked / "alpha.py", b""), cache / "uv"
    if kind == "download":
        download = make_download(cache, b"wheel")
        return write(download, b"wheal"), download
    if kind == "bytecode":
        whole = gzip.compress(b"x" * 1000)
        file = write(cache / "bytecode/x.tar.gz", whole[:-4])
        return file, file
    wheel = cache / "built/key/a-1-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a.py", "x" * 100)
    return write(wheel, wheel.read_bytes().replace(b"xxx", b"xyx", 1)), wheel.parent


@pytest.mark.parametrize(
    "kind",
    [
        *("module", "record", "compiled", "interpreter", "uv", "uv-cache"),
        *("download", "bytecode", "built-wheel"),
    ],
)
def test_verify_names_a_corrupt_entry_and_repair_removes_it(
    cache: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    make_download(cache, b"whole")
    file, entry = damaged(cache, kind)
    run("verify", code=5)
    output = capsys.readouterr().err
    assert str(file) in output
    assert "--repair" in output
    assert [found["path"] for found in result(capsys, "verify", code=5)["corrupt"]] == [str(entry)]
    assert entry.exists()
    run("verify", "--repair")
    assert not entry.exists()
    run("verify")
    assert "0 corrupt" in capsys.readouterr().out


def test_whole_entries_are_not_corrupt(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_environment(cache, "aaaa")
    make_interpreter(cache, "bbbb")
    make_download(cache, b"wheel")
    write(cache / "bytecode/x.tar.gz", gzip.compress(b"x"))
    write(cache / "environments/half/env/pyvenv.cfg", b"")  # a killed attempt
    old = make_environment(cache, "from-an-earlier-version")
    (old / "contents.json").unlink()
    assert result(capsys, "verify")["corrupt"] == []


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--repair"),
        ("verify", "--days", "3"),
        ("clear", "--max-size", "1G"),
        ("size", "download"),
        ("clear", "everything"),
        ("shrink",),
    ],
)
def test_options_of_another_task_are_refused(cache: Path, words: tuple[str, ...]) -> None:
    home = make_environment(cache, "aaaa", days=40)
    run(*words, code=2)
    assert home.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: TASK"),
        (("lsit",), "argument TASK: invalid choice: 'lsit'"),
        (("prune", "--days", "x"), "argument --days: invalid float value: 'x'"),
    ],
)
def test_run_py_reports_bad_usage_of_its_cache_command(
    words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        command.main(words)
    assert caught.value.message.startswith(message)
    assert "KIND" not in caught.value.message
    assert caught.value.hint == "see run.py --cache --help"
