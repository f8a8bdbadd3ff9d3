"""Interpreters and namespaces of this machine; without them, tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
    require("squashfuse_ll")
    has_device = os.access("/dev/fuse", os.R_OK | os.W_OK)
    if not has_device or not (os.getuid() == 0 or shutil.which("fusermount3")):
        pytest.skip("this user cannot mount with FUSE")
