"""One system call fails in the middle of a command: nothing is lost, and a second run completes."""

from __future__ import annotations

import os
import random
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import call
from tests.support.fault_cases import (
    OFFLINE_BUNDLE,
    check_old_or_new,
    make_other,
    make_update,
    manifest_digest,
    run_quietly,
)
from tests.support.index_server import IndexServer
from tests.support.programs import require
from tests.support.signing_cases import allowing, keys, public

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.fault_cases import Update

__all__ = ["keys"]

pytestmark = pytest.mark.slow

CALLS = {
    "write": ("write,pwrite64,copy_file_range,sendfile", ("ENOSPC", "EIO", "EINTR"), (2, 9, 40)),
    "flush": ("fsync,fdatasync,syncfs", ("EIO", "ENOSPC"), (1, 2, 4)),
    "rename": ("rename,renameat,renameat2", ("EIO", "ENOSPC"), (1, 2, 7)),
    "link": ("link,linkat,symlink,symlinkat", ("EIO", "ENOSPC"), (1, 3)),
    "lock": ("flock", ("ENOLCK", "EINTR"), (1, 2)),
    "folder": ("mkdir,mkdirat", ("ENOSPC", "EIO"), (1, 3)),
}
FAULTS = [
    pytest.param(calls, error, number, id=f"{name} {error} {number}")
    for name, (calls, errors, numbers) in CALLS.items()
    for error in errors
    for number in numbers
]


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Update]:
    folder = tmp_path_factory.mktemp("update")
    with pytest.MonkeyPatch.context() as patch, IndexServer(folder / "packages") as index:
        patch.setenv("HOME", str(folder))
        yield make_update(folder, folder / "packages", index.url)


@pytest.fixture(scope="module")
def other(update: Update, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of a bundle with another script."""
    folder = tmp_path_factory.mktemp("other")
    with IndexServer(update.folder / "packages") as index:
        return make_other(folder, index.url)


def injected(fault: tuple[str, str, int], command: Sequence[str | Path]) -> list[str | Path]:
    calls, error, number = fault
    strace = [require("strace"), "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null"]
    strace += ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when={number}"]
    return [*strace, *command]


@pytest.mark.parametrize(("calls", "error", "number"), FAULTS)
def test_an_update_is_old_or_new(
    update: Update, tmp_path: Path, calls: str, error: str, number: int
) -> None:
    """By build, and by unpack with and without offline-bundle."""
    fault = (calls, error, number)
    archive = update.folder / "new.tar"
    commands = {
        "build": update.build,
        "unpack": lambda bundle: [*OFFLINE_BUNDLE, "unpack", archive, "-o", bundle],
        "unpack.py": lambda bundle: [
            sys.executable, "-B", f"{archive}.unpack.py", archive, "-o", bundle,
        ],
    }  # fmt: skip
    for name, command in commands.items():
        bundle = update.copy_of_old(tmp_path / name)
        run_quietly(injected(fault, command(bundle)))
        check_old_or_new(bundle, update.old, update.new)
        again = run_quietly(command(bundle))
        assert again.returncode == 0, again.stderr
        assert manifest_digest(bundle) == manifest_digest(update.new)
        assert call("verify", bundle).code == 0


@pytest.mark.parametrize(("calls", "error", "number"), FAULTS)
def test_an_archive_is_whole_or_absent(
    update: Update, tmp_path: Path, calls: str, error: str, number: int
) -> None:
    archive = tmp_path / "out.tar"
    command = [*OFFLINE_BUNDLE, "pack", update.new, "-o", archive]
    run_quietly(injected((calls, error, number), command))
    if archive.exists():
        assert call("verify", archive).code == 0
    else:
        again = run_quietly(command)
        assert again.returncode == 0, again.stderr
        assert call("verify", archive).code == 0
    assert call("verify", update.new).code == 0


@pytest.mark.parametrize(("calls", "error", "number"), FAULTS)
def test_a_prune_leaves_a_sound_bundle(
    update: Update, tmp_path: Path, calls: str, error: str, number: int
) -> None:
    bundle = tmp_path / "bundle"
    assert call("unpack", update.folder / "new.tar", "-o", bundle).code == 0
    command = [*OFFLINE_BUNDLE, "prune", bundle, "--drop-script", "job", "--grace", "0s"]
    for _ in range(2):  # first out of the manifest, then out of the folder
        run_quietly(injected((calls, error, number), command))
        done = call("verify", bundle, "--allow-pending")
        assert done.code == 0, done.text
    run_quietly(command)
    assert call("verify", bundle).code == 0


@pytest.mark.parametrize(("calls", "error", "number"), FAULTS)
def test_a_bundle_that_is_signed_anew_has_the_old_or_the_new_signature(  # noqa: PLR0917 -- fixtures
    update: Update, keys: Path, tmp_path: Path, calls: str, error: str, number: int
) -> None:
    bundle = update.copy_of_old(tmp_path / "bundle")
    names = ("alice", "mallory")
    allowed = allowing(tmp_path, *(f"{name} {public(keys / name)}" for name in names))
    command = [*OFFLINE_BUNDLE, "sign", bundle]
    assert run_quietly([*command, keys / "alice"]).returncode == 0
    run_quietly(injected((calls, error, number), [*command, keys / "mallory"]))
    assert call("verify", bundle, "--allowed-signers", allowed).code == 0
    again = run_quietly([*command, keys / "mallory"])
    assert again.returncode == 0, again.stderr
    check = ["verify", bundle, "--allowed-signers", allowed, "--signer", "mallory"]
    assert call(*check).code == 0


@pytest.mark.parametrize(("calls", "error", "number"), FAULTS)
def test_a_merge_is_old_or_new(  # noqa: PLR0917 -- fixtures
    update: Update, other: Path, tmp_path: Path, calls: str, error: str, number: int
) -> None:
    expected, bundle = update.copy_of_old(tmp_path / "expected"), tmp_path / "bundle"
    command = [*OFFLINE_BUNDLE, "unpack", other, "-o"]
    assert run_quietly([*command, expected]).returncode == 0
    assert manifest_digest(expected) != manifest_digest(update.copy_of_old(bundle))
    run_quietly(injected((calls, error, number), [*command, bundle]))
    check_old_or_new(bundle, update.old, expected)
    again = run_quietly([*command, bundle])
    assert again.returncode == 0, again.stderr
    assert manifest_digest(bundle) == manifest_digest(expected)
    assert call("verify", bundle).code == 0


@pytest.mark.parametrize(("calls", "error", "number"), FAULTS)
def test_an_environment_is_made_by_the_next_start(
    update: Update, tmp_path: Path, calls: str, error: str, number: int
) -> None:
    script = update.folder / "job.py"
    launcher = [sys.executable, "-B", "-S", update.new / "run.py"]
    cache = {"OFFLINE_BUNDLE_CACHE": str(tmp_path / "cache")}
    run_quietly(injected((calls, error, number), [*launcher, "--prepare", script]), **cache)
    for note in tmp_path.glob("cache/environments/*.failed"):
        os.utime(note, (0, 0))  # a full disk is remembered for a minute
    for _ in range(2):
        done = run_quietly([*launcher, script], **cache)
        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert call("verify", update.new).code == 0


def test_faults_at_random_places(update: Update, tmp_path: Path) -> None:
    """Forty more updates, each with one fault of any kind."""
    generator = random.Random(16)
    for number in range(40):
        name = generator.choice(sorted(CALLS))
        calls, errors, _ = CALLS[name]
        fault = (calls, generator.choice(errors), int(generator.expovariate(1 / 60)) + 1)
        bundle = update.copy_of_old(tmp_path / str(number))
        command = [*OFFLINE_BUNDLE, "unpack", update.folder / "new.tar", "-o", bundle]
        run_quietly(injected(fault, command))
        check_old_or_new(bundle, update.old, update.new)
        assert run_quietly(command).returncode == 0, fault
        assert manifest_digest(bundle) == manifest_digest(update.new)
