"""A power cut right after a commit: the image of a file system is copied at that moment.

The copy has what the kernel has written to the device. What is only in its memory is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import call
from tests.support.fault_cases import (
    OFFLINE_BUNDLE,
    check_old_or_new,
    make_update,
    manifest_digest,
    run_quietly,
)
from tests.support.index_server import IndexServer
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.fault_cases import Update

pytestmark = pytest.mark.slow

COMMANDS = ("build", "unpack", "unpack.py")


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Update]:
    folder = tmp_path_factory.mktemp("update")
    with pytest.MonkeyPatch.context() as patch, IndexServer(folder / "packages") as index:
        patch.setenv("HOME", str(folder))
        yield make_update(folder, folder / "packages", index.url)


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """Mount *image*; skip the test where this machine has no loop devices for this user."""
    folder = image.with_suffix(".mounted")
    folder.mkdir(exist_ok=True)
    command = [require("mount"), "-o", "loop,noatime", image, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([require("umount"), folder], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(96 << 20)
    subprocess.run([require("mkfs.ext4"), "-q", image], check=True)
    return image


def command_of(name: str, update: Update, bundle: Path) -> Sequence[str | Path]:
    archive = update.folder / "new.tar"
    return {
        "build": update.build(bundle),
        "unpack": [*OFFLINE_BUNDLE, "unpack", archive, "-o", bundle],
        "unpack.py": [sys.executable, "-B", f"{archive}.unpack.py", archive, "-o", bundle],
    }[name]


def after_power_cut(
    image: Path, update: Update, command: Sequence[str | Path], *, starts_empty: bool
) -> Path:
    """Run *command* on the mounted image, and return a copy of that as of the command's end."""
    with mounted(image) as disk:
        if not starts_empty:
            update.copy_of_old(disk / "bundle")
        os.sync()
        done = run_quietly(command)
        assert done.returncode == 0, done.stderr
        # the journal may reach the disk at any moment; a flush of any file writes all of it
        other = os.open(disk / "other", os.O_WRONLY | os.O_CREAT)
        os.fsync(other)
        os.close(other)
        return image.parent / shutil.copyfile(image, image.with_name("copy.img")).name


@pytest.mark.parametrize("starts_empty", [True, False], ids=["new bundle", "update"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_committed_bundle_is_whole(
    update: Update, image: Path, name: str, *, starts_empty: bool
) -> None:
    bundle = image.with_suffix(".mounted") / "bundle"
    command = command_of(name, update, bundle)
    copy = after_power_cut(image, update, command, starts_empty=starts_empty)
    with mounted(copy) as disk:
        if not starts_empty:
            check_old_or_new(disk / "bundle", update.old, update.new)
        elif (disk / "bundle" / "bundle.json").exists():
            assert call("verify", disk / "bundle", "--allow-pending").code == 0
        again = run_quietly(command_of(name, update, disk / "bundle"))
        assert again.returncode == 0, again.stderr
        assert call("verify", disk / "bundle").code == 0
        if name != "build":  # which counts generations from the bundle in place
            assert manifest_digest(disk / "bundle") == manifest_digest(update.new)


def test_without_flushes_a_power_cut_leaves_empty_files(update: Update, image: Path) -> None:
    """The test above can fail: the same command, with flushes that do nothing."""
    calls = "fsync,fdatasync,syncfs"
    strace = [require("strace"), "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null"]
    strace += ["-e", f"trace={calls}", "-e", f"inject={calls}:retval=0"]
    bundle = image.with_suffix(".mounted") / "bundle"
    command = [*strace, *command_of("unpack", update, bundle)]
    copy = after_power_cut(image, update, command, starts_empty=False)
    with mounted(copy) as disk:
        assert call("verify", disk / "bundle", "--allow-pending").code == 5


def test_an_environment_is_whole_or_made_again(update: Update, image: Path) -> None:
    launcher = [sys.executable, "-B", "-S", update.new / "run.py"]
    script = update.folder / "job.py"
    with mounted(image) as disk:
        cache = {"OFFLINE_BUNDLE_CACHE": str(disk / "cache")}
        assert run_quietly([*launcher, "--prepare", script], **cache).returncode == 0
        other = os.open(disk / "other", os.O_WRONLY | os.O_CREAT)
        os.fsync(other)
        os.close(other)
        copy = image.parent / shutil.copyfile(image, image.with_name("copy.img")).name
    # environments contain absolute paths: the copy takes the place of the image
    copy.replace(image)
    boot = image.with_name("boot_id")
    boot.write_text("another\n")
    for _ in range(2):
        with mounted(image):
            done = run_quietly([*in_another_boot(boot), *launcher, script], **cache)
            assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert done.stderr == "", "a whole environment is not made again"


def in_another_boot(boot: Path) -> list[str | Path]:
    """Return a prefix of commands for which the kernel's boot has the identifier in *boot*."""
    run = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    return [require("unshare"), "--mount", "sh", "-c", run, boot]


def test_submitted_jobs_are_known(update: Update, image: Path) -> None:
    """The scheduler may have them: without its record, nobody could find their results."""
    words = ["--bundle", update.new, "--engine", "local", "-j", "3", "--download"]
    cache = {"OFFLINE_BUNDLE_CACHE": str(update.folder / "cache of jobs")}
    with mounted(image) as disk:
        submit = [*OFFLINE_BUNDLE, "submit", update.folder / "job.py", *words, disk / "out"]
        assert run_quietly(submit, **cache).returncode == 0
        copy = image.parent / shutil.copyfile(image, image.with_name("copy.img")).name
    copy.replace(image)
    with mounted(image) as disk:
        done = call("jobs", disk / "out", "--json")
        assert json.loads(done.out)["project"]["id"] == str(disk / "out"), done.err
