"""Interpreters and namespaces of this machine; without them, tests are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from offline_bundle.runner.network import HELPER
from tests.support.programs import require


def pyenv_interpreter(minor: str) -> str:
    """A CPython of *minor*, of pyenv's; the test is skipped where there is none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = next(
        (str(path) for path in sorted(root.glob(f"versions/{minor}.*/bin/python{minor}"))), None
    )
    return found or pytest.skip(f"pyenv has no Python {minor}")


def bubblewrap() -> str:
    """Return the path of bwrap; skip the test if it is missing, or if it does not work here."""
    path = require("bwrap")
    require_network_namespace("--bubblewrap", path)
    return path


def require_network_namespace(*options: str) -> None:
    """Skip the test if this machine cannot cut the network, as in many containers; fail it in CI."""
    fault = _namespace_fault(options)
    if fault and os.environ.get("CI"):
        pytest.fail(fault)
    if fault:
        pytest.skip(fault)


@cache
def _namespace_fault(options: tuple[str, ...]) -> str:
    command = [sys.executable, "-I", str(HELPER), *options, "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"no network namespace: {done.stderr.strip()}" if done.returncode else ""


def require_fuse() -> None:
    """Skip the test where this user cannot mount with squashfuse, as in many containers."""
    require("squashfuse_ll", "mksquashfs")
    if fault := _fuse_fault():
        pytest.skip(f"this user cannot mount with FUSE: {fault}")


@cache
def _fuse_fault() -> str:
    with tempfile.TemporaryDirectory() as name:
        image, tree, point = (str(Path(name, inner)) for inner in ("image", "tree", "point"))
        for folder in (tree, point):
            Path(folder).mkdir()
        subprocess.run([require("mksquashfs"), tree, image], capture_output=True, check=True)
        command = [require("squashfuse_ll"), image, point]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip() or "squashfuse_ll fails"
        unmount = ["umount"] if os.getuid() == 0 else ["fusermount3", "-u"]
        done = subprocess.run([*unmount, point], capture_output=True, text=True, check=False)
        return done.stderr.strip() if done.returncode else ""
