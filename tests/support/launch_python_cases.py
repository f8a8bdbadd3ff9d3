"""Shared by the unit and integration tests: Launching with the bundle's interpreter: by run.py, or
by run.sh on nodes without Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.bundles import BundleScript, make_bundle
from tests.support.interpreters import python_mirror
from tests.support.launcher_cases import Node
from tests.support.machine import bubblewrap

SHOW = """import alpha, json, sys
print(json.dumps([alpha.VERSION, sys.argv[1:], sys.base_prefix, sys.version_info[:3]]))
"""


LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")


LIBC = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    make_bundle(node.bundle, {"eval": BundleScript(body=SHOW)}, archive=python_mirror().archive)
    return node


def bare_root(
    node: Node, *command: str, libraries: tuple[str, ...] = LIBC, tools: tuple[str, ...] = ()
) -> list[str]:
    """Run in a root with only a shell and its libraries; no network, the bundle read-only."""
    shell = os.path.realpath("/bin/sh")
    binds = [("/bin/sh", shell), *((loader, loader) for loader in LOADERS if Path(loader).exists())]
    for library in libraries:
        found = sorted(Path("/lib").glob(f"*-linux-gnu/{library}"))
        binds += [(str(path), str(path)) for path in found]
    for tool in tools:
        path = shutil.which(tool)
        assert path, tool
        binds.append((f"/bin/{tool}", path))
    binds += [("/share/bundle", str(node.bundle)), ("/job", str(node.bundle / "scripts"))]
    flags = [part for place, source in binds for part in ("--ro-bind", source, place)]
    (node.folder / "node").mkdir(exist_ok=True)
    flags += [
        "--bind",
        str(node.folder / "node"),
        "/node",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--chdir",
        "/job",
    ]
    flags += ["--tmpfs", "/tmp"]  # uv 0.7 wants one
    flags += ["--setenv", "HOME", "/node", "--setenv", "PATH", "/bin"]
    return [bubblewrap(), "--unshare-all", "--clearenv", *flags, "/bin/sh", *command]


def run_bare(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def shell(node: Node, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "", "HOME": str(node.folder), **variables}
    return subprocess.run(
        ["/bin/sh", str(node.bundle / "run.sh"), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
