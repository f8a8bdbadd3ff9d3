"""Bundles with an image on a node: mounted for all jobs, or unpacked, or refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.builder.cli.progress import build_progress
from offline_bundle.builder.model import BuildRequest
from offline_bundle.builder.pipeline import build
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.disk.files import open_regular
from offline_bundle.wheelhouse.runtime.launcher.prepare import image as image_module
from offline_bundle.wheelhouse.runtime.launcher.prepare.image import image_identity, mount_checked
from offline_bundle.wheelhouse.signing import sign
from tests.support.clusters import require_root
from tests.support.distributions import make_wheel
from tests.support.index_server import IndexServer
from tests.support.machine import require_fuse
from tests.support.node import PYTHON, site
from tests.support.programs import find, require
from tests.support.signing_cases import allowing, make_key, public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

SCRIPT = f"""\
# /// script
# requires-python = "=={PYTHON}.*"
# dependencies = ["leaf"]
# ///
import leaf, os, sys, time
print("started", os.path.realpath(leaf.__file__), flush=True)
for path in sys.argv[1:]:
    while os.path.exists(path):
        time.sleep(0.02)
import later
print(later.VERSION)
"""
MOUNTED, UNPACKED = "mounted", "unpacked"
# As on most machines, every user may open /dev/fuse; arguments: folder, python, bundle, script.
AS_ANOTHER_USER = """\
set -e
mknod "$1/fuse" c 10 229 && chmod 666 "$1/fuse" && mount --bind "$1/fuse" /dev/fuse
chown 65534:65534 "$1"
exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -ec '
    "$2" "$3/run.py" "$4"
    grep -c "$1" /proc/mounts
    for _ in $(seq 150); do grep -q "$1" /proc/mounts || exit 0; sleep 0.2; done
    exit 9' sh "$@"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a script, and a bundle of it with an image."""
    require("mksquashfs")
    folder, packages = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("packages")
    programs = "[console_scripts]\nleaf = leaf:say\n"
    files = {"leaf.py": "def say():\n    print('leaf here')\n", "later.py": "VERSION = '1.0'\n"}
    make_wheel(packages, "leaf", entry_points=programs, files=files)
    (folder / "job.py").write_text(SCRIPT)
    with IndexServer(packages) as index, build_progress(is_quiet=True) as progress:
        options = ResolveOptions(default_index=index.url)
        request = BuildRequest(
            scripts=(folder / "job.py",),
            output=folder / "bundle",
            options=options,
            formats=("image",),
        )
        build(request, find_uv(), progress)
    return folder


class Node:
    """A node with a cache of its own; *programs* are the only ones on PATH."""

    def __init__(self, folder: Path, built: Path) -> None:
        self.cache = folder / "my cache"
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.bundle = folder / "my bundle"
        self.built = built
        shutil.copytree(built / "bundle", self.bundle)
        [self.image] = self.bundle.glob("images/*")
        self.variables = {
            "HOME": str(folder / "home"),
            "OFFLINE_BUNDLE_CACHE": str(self.cache),
            "PATH": str(self.programs),
        }

    def provide(self, *names: str) -> None:
        for name in names:
            path = find(name)
            if path:
                (self.programs / name).symlink_to(path)

    def write_program(self, name: str, text: str) -> None:
        (self.programs / name).unlink(missing_ok=True)
        (self.programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.programs / name).chmod(0o755)

    def command(self, *words: str | Path) -> list[str]:
        script = self.built / "job.py"
        options = [word for word in words if str(word).startswith("-")]
        arguments = [word for word in words if word not in options]
        return [
            *(sys.executable, str(self.bundle / "run.py")),
            *map(str, [*options, script, *arguments]),
        ]

    def run(self, *words: str | Path, expect: int = 0, **variables: str) -> tuple[str, str]:
        done = subprocess.run(
            self.command(*words),
            env=self.variables | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout, done.stderr

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start a job, and return it when it has imported something from the image."""
        job = subprocess.Popen(
            self.command(*words), env=self.variables, stdout=-1, stderr=-1, text=True
        )
        assert job.stdout
        assert job.stdout.readline().startswith("started")
        return job

    def mounts(self) -> list[str]:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
        points = (line.split(" ")[1].replace("\\040", " ") for line in lines)
        return [point for point in points if point.startswith(str(self.cache))]

    def homes(self) -> dict[str, Path]:
        homes = (path.parent for path in self.cache.glob("environments/*/complete.json"))
        return {MOUNTED if (home / MOUNTED).is_symlink() else UNPACKED: home for home in homes}

    def servers(self) -> list[int]:
        """Return the processes of squashfuse that serve this node's mounts."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = os.fsdecode(entry.read_bytes()).split("\0")
            except OSError:
                continue
            if "squashfuse" in words[0] and words[-2].startswith(str(self.cache)):
                found.append(int(entry.parent.name))
        return found


@pytest.fixture
def node(tmp_path: Path, built: Path) -> Iterator[Node]:
    node = Node(tmp_path, built)
    yield node
    for point in node.mounts():
        subprocess.run(["umount", "-l", point], check=False)


@pytest.fixture
def fuse(node: Node) -> Node:
    """Return a node that can mount."""
    require_fuse()
    node.provide("squashfuse_ll", "fusermount3", "umount")
    return node


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_jobs_share_a_mount_until_the_last_one_ended(fuse: Node, tmp_path: Path) -> None:
    flag = tmp_path / "wait"
    flag.touch()
    jobs = [fuse.start(flag), fuse.start(flag)]
    assert len(fuse.mounts()) == len(fuse.servers()) == 1
    assert list(fuse.homes()) == [MOUNTED]
    flag.unlink()
    for job in jobs:
        output, errors = job.communicate(timeout=30)
        assert (job.returncode, output, errors) == (0, "1.0\n", "")
    wait_for(lambda: not fuse.mounts())
    assert fuse.run()[0].endswith("1.0\n")
    assert len(fuse.mounts()) == 1


def test_stale_mount_is_replaced(fuse: Node) -> None:
    fuse.run()
    [server] = fuse.servers()
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: not fuse.servers())
    assert fuse.mounts()
    output, errors = fuse.run()
    assert output.endswith("1.0\n")
    assert errors == ""
    assert list(fuse.homes()) == [MOUNTED]


@pytest.mark.slow
def test_stale_mount_that_a_job_uses_is_left_and_others_unpack(fuse: Node, tmp_path: Path) -> None:
    flag = tmp_path / "wait"
    flag.touch()
    with fuse.start(flag) as job:
        [server] = fuse.servers()
        os.kill(server, signal.SIGKILL)
        output, errors = fuse.run()
        assert output.endswith("1.0\n")
        assert "does not answer, and jobs use it: unpacking it instead" in errors
        job.kill()


@pytest.mark.slow
def test_mount_that_hangs_is_given_up(fuse: Node) -> None:
    fuse.run()
    [server] = fuse.servers()
    os.kill(server, signal.SIGSTOP)
    try:
        output, errors = fuse.run()
        assert output.endswith("1.0\n")
        assert errors == ""
    finally:
        os.kill(server, signal.SIGKILL)


@pytest.mark.slow
def test_squashfuse_that_hangs_is_given_up(fuse: Node) -> None:
    fuse.write_program("squashfuse_ll", "exec /bin/sleep 60")
    output, errors = fuse.run()
    assert output.endswith("1.0\n")
    assert "squashfuse_ll did not mount" in errors
    assert "unpacking it instead" in errors
    assert list(fuse.homes()) == [UNPACKED]


def test_squashfuse_that_fails_is_reported(fuse: Node) -> None:
    fuse.write_program("squashfuse_ll", "echo 'fuse: device is busy'; exit 1")
    output, errors = fuse.run()
    assert output.endswith("1.0\n")
    assert "fuse: device is busy: unpacking it instead" in errors
    assert list(fuse.homes()) == [UNPACKED]


def test_jobs_of_a_scheduler_unpack(fuse: Node) -> None:
    _, errors = fuse.run(SLURM_JOB_ID="7")
    assert "SLURM_JOB_ID is set" in errors
    assert not fuse.mounts()
    assert list(fuse.homes()) == [UNPACKED]


def test_prepared_environment_stays_usable(fuse: Node) -> None:
    fuse.run()
    folder = Path(fuse.run("--prepare", "-q")[0].strip())
    assert not str(folder).startswith(str(fuse.homes()[MOUNTED]))
    done = subprocess.run([folder / "bin" / "leaf"], capture_output=True, text=True, check=True)
    assert done.stdout == "leaf here\n"


@pytest.mark.parametrize("programs", [("unsquashfs",), ()])
def test_without_fuse_the_image_is_unpacked_once(node: Node, programs: tuple[str, ...]) -> None:
    for program in programs:
        require(program)
    node.provide(*programs)
    output, errors = node.run()
    assert output.endswith("1.0\n")
    assert "The image is unpacked, not mounted: " in errors
    assert "Unpacking the environment of job.py once for this node ...\n" in errors
    home = node.homes()[UNPACKED]
    before = (home / "complete.json").stat().st_ino
    assert node.run()[1] == ""
    assert (home / "complete.json").stat().st_ino == before


@pytest.mark.parametrize("name", ["later.py", "later.*.pyc"])
def test_an_unpacked_image_of_another_boot_is_checked(node: Node, name: str) -> None:
    """The image has the checksums of its files: an unpacked one is not flushed either."""
    node.run()
    home = node.homes()[UNPACKED]
    marker = home / "complete.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"boot": "another"}))
    assert "was made before this node started" in node.run()[1]
    assert "boot" not in json.loads(marker.read_text())
    [damaged] = home.glob(f"image/**/{name}")
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"boot": "another"}))
    assert "making the environment again" in node.run()[1]
    [mended] = home.glob(f"image/**/{name}")
    assert mended.read_bytes().strip(b"\0")


def test_broken_unsquashfs_is_reported_and_the_image_unpacked_without(node: Node) -> None:
    node.write_program("unsquashfs", "echo 'FATAL ERROR: broken'; exit 1")
    output, errors = node.run()
    assert output.endswith("1.0\n")
    assert "unsquashfs failed, unpacking without it: FATAL ERROR: broken" in errors


def test_unsquashfs_without_effect_is_not_relied_on(node: Node) -> None:
    node.write_program("unsquashfs", "exit 0")
    assert node.run()[0].endswith("1.0\n")


def test_unsquashfs_that_loses_a_module_completes_no_environment(node: Node) -> None:
    lose = 'PATH=/usr/bin:/bin find "$4" -name leaf.py -delete'
    node.write_program("unsquashfs", f'"{require("unsquashfs")}" "$@"; {lose}')
    _, errors = node.run(expect=1)
    assert "installed files are missing or truncated" in errors
    assert not node.homes()


def test_full_disk_is_named(node: Node) -> None:
    node.write_program("unsquashfs", "echo 'write failed: No space left on device'; exit 1")
    _, errors = node.run(expect=1)
    assert f"no space left in the cache {node.cache}" in errors
    assert not node.homes()


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
@pytest.mark.parametrize("way", [MOUNTED, UNPACKED])
def test_damaged_image_is_named_and_refused(
    request: pytest.FixtureRequest, node: Node, way: str, damage: str
) -> None:
    if way == MOUNTED:
        request.getfixturevalue("fuse")
    content = node.image.read_bytes()
    node.image.unlink()
    if damage != "missing":
        node.image.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"!")
    output, errors = node.run(expect=5)
    assert output == ""
    assert str(node.image) in errors
    assert not node.homes()
    assert not node.mounts()


def test_image_changed_after_its_check_is_checked_again(fuse: Node) -> None:
    fuse.run()
    wait_for(lambda: not fuse.mounts())
    status = fuse.image.stat()
    with fuse.image.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    os.utime(fuse.image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert str(fuse.image) in fuse.run(expect=5)[1]


def test_image_is_mounted_as_checked_and_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"content")
    checked: list[str] = []
    mounted: list[bytes] = []

    def mount(path: str, descriptor: int, home: str) -> None:
        assert (path, home) == (str(image), str(tmp_path))
        mounted.append(Path(f"/proc/self/fd/{descriptor}").read_bytes())

    def check(name: str, file: FileIO) -> None:
        checked.append(name)
        assert file.read() == b"content"
        image.unlink()
        image.write_bytes(b"another image")

    monkeypatch.setattr(image_module, "mount_image", mount)
    bundle = SimpleNamespace(
        path=lambda _: str(image), open=lambda _: open_regular(image), check=check
    )
    plan: Any = SimpleNamespace(image="image", bundle=bundle)
    request: Any = SimpleNamespace(log=lambda *_: None)
    with image.open("rb", buffering=0) as file:
        identity = image_identity(file)
    assert mount_checked(str(tmp_path), plan, request, None) == identity
    assert (checked, mounted) == (["image"], [b"content"]), "what was checked is mounted"
    with image.open("rb", buffering=0) as file:
        identity = image_identity(file)
    mount_checked(str(tmp_path), plan, request, identity)
    assert (checked, mounted[1:]) == (["image"], [b"another image"])


def test_site_policy_covers_the_image(node: Node, tmp_path: Path) -> None:
    make_key(tmp_path / "alice")
    allowing(tmp_path, f"alice {public(tmp_path / 'alice')}")
    sign(node.bundle, str(tmp_path / "alice"))
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"allowed-signers": "allowed_signers", "signer": "alice"}))
    node.provide("ssh-keygen")
    variables = {"OFFLINE_BUNDLE_POLICY": str(policy)}
    for _ in range(2):
        assert node.run(**variables)[0].endswith("1.0\n")
    shutil.rmtree(node.cache)
    node.image.write_bytes(node.image.read_bytes()[:-1] + b"!")
    assert node.image.name in node.run(expect=5, **variables)[1]


@pytest.mark.no_network
def test_another_user_starts_from_a_read_only_share(built: Path) -> None:
    with site() as (share, other):
        bundle = Path(shutil.copytree(built / "bundle", share / "moved"))
        script = shutil.copy(built / "job.py", share)
        for _ in range(2):
            done = other.run(other.python, bundle / "run.py", script)
            assert done.stdout.endswith("1.0\n")


@pytest.mark.slow
def test_another_user_mounts_through_fusermount(built: Path) -> None:
    require_fuse()
    require_root()
    require("fusermount3")
    with site() as (share, other):
        bundle = Path(shutil.copytree(built / "bundle", share / "bundle"))
        script = shutil.copy(built / "job.py", share)
        command = ["unshare", "--mount", "sh", "-c", AS_ANOTHER_USER, "sh", other.folder]
        done = subprocess.run(
            [*command, other.python, bundle, script],
            cwd=other.folder,
            env={"HOME": str(other.folder), "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    started, version, mounts = done.stdout.splitlines()
    assert "/image/" in started
    assert (version, mounts) == ("1.0", "1")
    assert "unpacked" not in done.stderr
