"""Damage in the cache of a node: found when it matters, and healed."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.support.bundles import BundleScript, make_bundle
from tests.support.launcher_cases import UV, Node, needs_posix, node, only

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


def test_an_environment_is_on_the_disk_before_it_is_complete(node: Node) -> None:
    """A power cut must not leave a complete environment with empty files."""
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    recording = (
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
        "environment.write_atomic = recorded_write"
    )
    done = node.run_changed(recording, "-q", node.script())
    assert done.stdout.splitlines() == [
        "flush False",
        "write complete.json {'durable': True}",
        "ran 1.0",
    ]


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
