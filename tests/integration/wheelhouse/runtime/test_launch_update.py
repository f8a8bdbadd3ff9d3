"""Cold starts while the bundle changes: by an update, or by somebody who writes in its folder."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.bundles import BundleScript, make_bundle
from tests.support.distributions import make_wheel, sha256_of
from tests.support.launcher_cases import UV, Node, needs_posix, node, only

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["node"]

pytestmark = [needs_posix, pytest.mark.measured]

BODY = "import alpha\nprint('ran', alpha.VERSION)\n"


def uv_after(node: Node, commands: str) -> str:
    """Return a uv that runs shell *commands* once, before its first installation."""
    uv = node.write(
        "wrapped-uv",
        f'#!/bin/sh\nif [ "$2" = sync ] && [ ! -e "{node.folder}/done" ]; then\n'
        f'touch "{node.folder}/done"\n{commands}\nfi\nexec "{UV}" "$@"\n',
    )
    uv.chmod(0o755)
    return str(uv)


def evil_wheel(node: Node) -> Path:
    files = {"alpha.py": "VERSION = '6.6'\n"}
    return make_wheel(node.folder / "evil", "alpha", requires_python=">=3.8,<3.9", files=files)


def test_a_lock_replaced_after_its_check_is_not_used(node: Node) -> None:
    """The environment stays under the key of the trusted lock, so it must be of that lock."""
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    evil, lock = evil_wheel(node), only(node.bundle, "pylock*")
    good = only(node.bundle, "*.whl")
    text = lock.read_text().replace(good.name, f"evil/{good.name}")
    planted = node.write("planted.toml", text.replace(sha256_of(good), sha256_of(evil)))
    swap = f'mkdir "{good.parent}/evil"; cp "{evil}" "{good.parent}/evil/"; cp "{planted}" "{lock}"'
    done = node.run(node.script(), variables={"OFFLINE_BUNDLE_UV": uv_after(node, swap)})
    assert (done.returncode, done.stdout) == (0, "ran 1.0\n"), done.stderr
    assert (node.folder / "done").exists()
    assert lock.read_text() == planted.read_text()


def test_a_wheel_replaced_after_its_check_is_not_used_by_pip(node: Node) -> None:
    """Pip reads a wheel once for its hash and once to unpack it."""
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    evil, good = evil_wheel(node), only(node.bundle, "*.whl")
    swapping = (
        "import shutil\n"
        "from runtime.launcher.prepare import install\n"
        "real = install.Tool.run\n"
        "def swap(tool, command, *locks):\n"
        "    if 'install' in command:\n"
        f"        shutil.copyfile({str(evil)!r}, {str(good)!r})\n"
        "    return real(tool, command, *locks)\n"
        "install.Tool.run = swap"
    )
    done = node.run_changed(
        swapping, "-q", node.script(), variables={"OFFLINE_BUNDLE_UV": None, "PATH": "/nowhere"}
    )
    assert (done.returncode, done.stdout) == (0, "ran 1.0\n"), done.stderr
    assert sha256_of(good) == sha256_of(evil)
    home = node.environments()[0].parent
    assert not (home / "wheels").exists(), "the copies are removed"


def test_a_start_that_loses_files_to_an_update_starts_over(node: Node) -> None:
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY, packages=("alpha", "beta"))})
    newer = make_bundle(
        node.folder / "newer", {"eval": BundleScript(body=BODY, packages=("alpha", "gamma"))}
    )
    update = (
        f'cp -r "{newer}/." "{node.bundle}/"\n'
        f'cp "{newer}/bundle.json" "{node.bundle}/next"; mv "{node.bundle}/next" '
        f'"{node.bundle}/bundle.json"\nrm "{node.bundle}"/wheels/beta*'
    )
    done = node.run(node.script(), variables={"OFFLINE_BUNDLE_UV": uv_after(node, update)})
    assert (done.returncode, done.stdout) == (0, "ran 1.0\n"), done.stderr
    assert f"{node.bundle} was updated meanwhile: starting over" in done.stderr
    [marker] = node.environments()
    assert list(marker.parent.glob("env/lib/*/site-packages/gamma.py"))


def test_a_start_between_a_script_and_its_manifest_waits_for_the_manifest(node: Node) -> None:
    """An update replaces the script, which has a fixed path, right before the manifest."""
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    more = BundleScript(body=BODY, dependencies=("alpha", "beta"), packages=("alpha", "beta"))
    newer = make_bundle(node.folder / "newer", {"eval": more})
    shutil.copytree(newer / "wheels", node.bundle / "wheels", dirs_exist_ok=True)
    shutil.copytree(newer / "scripts", node.bundle / "scripts", dirs_exist_ok=True)
    (node.bundle / ".writer").mkdir()
    (node.bundle / ".writer/pending.json").write_text("{}")
    shutil.copytree(newer / "locks", node.bundle / "locks", dirs_exist_ok=True)
    committing = (
        "import os\n"
        "def commit(seconds):\n"
        f"    os.replace({str(newer / 'bundle.json')!r}, {str(node.bundle / 'bundle.json')!r})\n"
        "cold_start.time.sleep = commit"
    )
    done = node.run_changed(committing, node.script())
    assert (done.returncode, done.stdout) == (0, "ran 1.0\n"), done.stderr
    assert "starting over" in done.stderr


def test_a_script_of_an_update_that_was_killed_is_explained(node: Node) -> None:
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    script = node.script()
    script.write_text(script.read_text().replace("alpha", "beta"))
    assert "was interrupted" not in node.failure(7, script)
    (node.bundle / ".writer").mkdir(exist_ok=True)
    (node.bundle / ".writer/pending.json").write_text("{}")
    done = node.run_changed("cold_start._UPDATE_SECONDS = 0", script)
    assert done.returncode == 7
    assert "hint: an update of the bundle was interrupted: run it again to finish it" in done.stderr


def test_a_failure_without_an_update_is_reported_once(node: Node) -> None:
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    uv = node.write("broken-uv", f'#!/bin/sh\necho "$1" >> "{node.folder}/log"\nexit 9\n')
    uv.chmod(0o755)
    done = node.run(node.script(), variables={"OFFLINE_BUNDLE_UV": str(uv)})
    assert done.returncode == 1
    assert "starting over" not in done.stderr
    assert (node.folder / "log").read_text().count("\n") == 1


def test_the_key_of_an_environment_includes_what_is_installed(node: Node) -> None:
    """Bytecode too: with other bytecode, the environment is another one."""
    make_bundle(node.bundle, {"eval": BundleScript(body=BODY)})
    assert node.run(node.script()).returncode == 0
    manifest = json.loads((node.bundle / "bundle.json").read_text())
    wheel = only(node.bundle, "*.whl")
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    path = node.bundle / "bytecode" / python / f"{wheel.name}.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not bytecode")
    manifest["files"][path.relative_to(node.bundle).as_posix()] = {
        "sha256": sha256_of(path),
        "size": path.stat().st_size,
    }
    (node.bundle / "bundle.json").write_text(json.dumps(manifest))
    assert "bytecode" in node.failure(5, "-q", node.script())
