"""Damage in the cache of a node: found when it matters, and healed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.bundles import BundleScript, make_bundle
from tests.support.launcher_cases import UV, Node, needs_posix, node, only

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["node"]

pytestmark = [needs_posix, pytest.mark.measured]

BODY = "import alpha\nprint('ran', alpha.VERSION)\n"


@pytest.fixture
def ready(node: Node) -> Node:
    """A node that ran a script once."""
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    assert node.run("-q", node.script()).stdout == "ran 1.0\n"
    return node


def prepare_again(node: Node) -> str:
    """Run the script in a new environment; return what the launcher printed."""
    shutil.rmtree(node.cache / "environments")
    done = node.run(node.script())
    assert (done.returncode, done.stdout) == (0, "ran 1.0\n"), done.stderr
    return done.stderr


@pytest.mark.parametrize("name", ["alpha.py", "METADATA", "RECORD", "WHEEL"])
def test_a_truncated_file_in_uv_s_cache_gives_no_broken_environment(ready: Node, name: str) -> None:
    """The lock's hashes are those of wheels: uv does not check what it unpacked earlier."""
    cached = only(ready.cache / "uv", f"archive-v0/**/{name}")
    whole = cached.read_bytes()
    cached.write_bytes(b"")
    output = prepare_again(ready)
    if name in {"alpha.py", "METADATA"}:  # uv may make the others itself
        assert "uv's cache is damaged: installing without it" in output
    installed = only(ready.cache / "environments", f"*/env/lib/**/{name}")
    assert installed.stat().st_size >= len(whole)
    assert "damaged" not in prepare_again(ready), "the damaged cache is gone"


def test_a_whole_uv_cache_is_used(ready: Node) -> None:
    assert "damaged" not in prepare_again(ready)
    installed = only(ready.cache / "environments", "*/env/lib/**/alpha.py")
    assert installed.stat().st_nlink > 1


def test_a_damaged_copy_of_uv_is_copied_again(node: Node) -> None:
    program = node.write("logging-uv", f'#!/bin/sh\nexec "{UV}" "$@"\n')
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)}, uv=program)
    node.variables["OFFLINE_BUNDLE_UV"] = ""
    assert node.run("-q", node.script()).stdout == "ran 1.0\n"
    copy = only(node.cache / "uv-bin", "*/uv")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:10])
    prepare_again(node)
    assert copy.read_bytes() == whole
    assert copy.stat().st_mode & 0o777 == 0o700


def test_a_fifo_in_place_of_a_file_is_not_waited_for(ready: Node) -> None:
    for path in (only(ready.cache / "launches", "*"), ready.environments()[0]):
        path.unlink()
        os.mkfifo(path)
        assert ready.run("--cache", "list").returncode == 0
        assert ready.run("-q", ready.script()).stdout == "ran 1.0\n"


@pytest.mark.parametrize("boot", ["", "4f1c"], ids=["unknown boot", "known boot"])
def test_what_is_not_flushed_names_the_boot(node: Node, boot: str) -> None:
    """A power cut must not leave a complete environment with empty files."""
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    recording = (
        "from runtime.launcher import warm_start\n"
        "from runtime.launcher.prepare import environment\n"
        "import os\n"
        "flush, write = environment.flush_tree, environment.write_atomic\n"
        "def recorded_flush(path):\n"
        "    print('flush', os.path.exists(os.path.join(path, 'complete.json')), flush=True)\n"
        "    flush(path)\n"
        "def recorded_write(path, content, **options):\n"
        "    print('write', os.path.basename(path), options, flush=True)\n"
        "    write(path, content, **options)\n"
        "environment.flush_tree = recorded_flush\n"
        "environment.write_atomic = recorded_write\n"
        f"warm_start.boot_id = environment.boot_id = lambda: {boot!r}"
    )
    done = node.run_changed(recording, "-q", node.script())
    flushed = [] if boot else ["flush False"]
    marked = f"write complete.json {{'durable': {not boot}}}"
    assert done.stdout.splitlines() == [*flushed, marked, "ran 1.0"]
    assert json.loads(node.environments()[0].read_text()).get("boot", "") == boot


def test_prepare_flushes_the_environment_of_a_job(ready: Node) -> None:
    """Images of containers are made in another boot than that in which they are used."""
    [marker] = ready.environments()
    before = json.loads(marker.read_text())
    if not before.pop("boot", ""):
        pytest.skip("this system has no identifier of a boot")
    assert ready.run("--prepare", ready.script()).returncode == 0
    assert json.loads(marker.read_text()) == before


def start_another_boot(node: Node) -> Path:
    """Return the folder of the environment, which now seems to be from another boot."""
    [marker] = node.environments()
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "boot": "another"}, indent=1))
    return marker.parent


def test_an_environment_of_another_boot_is_checked_once(ready: Node) -> None:
    home = start_another_boot(ready)
    before = home.stat()
    holder = (home.parent / f"{home.name}.lock").open("r+")
    with holder:
        fcntl.flock(holder, fcntl.LOCK_SH)  # a job of another node that shares the cache
        done = ready.run(ready.script())
    assert (done.returncode, done.stdout) == (0, "ran 1.0\n"), done.stderr
    assert "made before this node started" in done.stderr
    assert "boot" not in json.loads((home / "complete.json").read_text())
    assert home.stat().st_ino == before.st_ino
    assert ready.run(ready.script()).stderr == ""


def test_nodes_that_share_a_cache_make_one_environment(node: Node) -> None:
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})

    def start(boot: int) -> str:
        change = (
            "import time\n"
            "from runtime.launcher import warm_start\n"
            "from runtime.launcher.prepare import environment\n"
            f"warm_start.boot_id = environment.boot_id = lambda: 'boot {boot}'\n"
            "acquire = cold_start.FileLock.acquire\n"
            # what a start knows of the environment is old when it has the lock
            "def slowly(lock, **options):\n"
            "    time.sleep(0.3)\n"
            "    return acquire(lock, **options)\n"
            "cold_start.FileLock.acquire = slowly"
        )
        done = node.run_changed(change, node.script())
        assert (done.returncode, done.stdout) == (0, "ran 1.0\n"), done.stderr
        return done.stderr

    with ThreadPoolExecutor(6) as pool:
        output = "".join(pool.map(start, range(6)))
    assert output.count("Preparing the environment") == 1, output
    assert output.count("made before this node started") == 1, output


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("env/lib/**/alpha.py", b""),
        ("env/lib/**/alpha.py", b"\0"),
        ("env/lib/**/RECORD", b""),
        ("env/pyvenv.cfg", b""),
        ("contents.json", b""),
        ("complete.json", b""),
    ],
)
def test_a_damaged_environment_of_another_boot_is_made_again(
    ready: Node, name: str, content: bytes
) -> None:
    home = start_another_boot(ready)
    damaged = only(home, name)
    size = damaged.stat().st_size
    damaged.write_bytes(content * size)
    done = ready.run(ready.script())
    assert (done.returncode, done.stdout) == (0, "ran 1.0\n"), done.stderr
    assert "Preparing the environment" in done.stderr
    assert only(home, name).read_bytes() != content * size
    assert ready.run("--cache", "verify").returncode == 0


def test_what_was_installed_is_recorded(ready: Node) -> None:
    [marker] = ready.environments()
    contents = json.loads((marker.parent / "contents.json").read_text())
    [record] = contents["records"]
    assert record.endswith("alpha-1.0.dist-info/RECORD")
    assert (marker.parent / record).is_file()


def test_run_py_repairs_the_cache_where_nothing_is_installed(ready: Node) -> None:
    installed = only(ready.cache / "environments", "*/env/lib/**/alpha.py")
    installed.unlink()  # uv's cache has the same inode
    installed.write_text("")
    assert ready.run("--cache", "verify").returncode == 5
    done = ready.run("--cache", "verify", "--repair")
    assert done.returncode == 0, done.stderr
    assert f"removed: environment {installed}" in done.stdout
    assert ready.run(ready.script()).stdout == "ran 1.0\n"
    assert "environment" in ready.run("--cache", "list").stdout
    assert json.loads(ready.run("--cache", "size", "--json").stdout)["kinds"]["environment"]
    assert ready.run("--cache", "clear").returncode == 0
    assert not ready.environments()
    for words in (["shrink"], ["clear", "everything"], ["list", "--repair"], []):
        refused = ready.run("--cache", *words)
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
