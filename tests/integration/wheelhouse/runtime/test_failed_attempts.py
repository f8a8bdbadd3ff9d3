"""Of many starts at once, one tries a preparation that fails; the others get its error."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.bundles import BundleScript, make_bundle
from tests.support.clusters import require_root
from tests.support.launcher_cases import SHOW, node
from tests.support.programs import require

if TYPE_CHECKING:
    from tests.support.launcher_cases import Node

__all__ = ["node"]


def test_waiting_starts_do_not_repeat_a_failed_preparation(node: Node) -> None:
    make_bundle(node.bundle, {"eval": BundleScript(body=SHOW)})
    tries = node.folder / "tries"
    broken = node.write(
        "broken-uv", f"#!/bin/sh\necho try >>'{tries}'\nsleep 3\necho odd; exit 9\n"
    )
    broken.chmod(0o755)
    variables = {"OFFLINE_BUNDLE_UV": str(broken)}
    started = [
        subprocess.Popen(
            node.command("-q", node.script()),
            env=node.environ(variables),
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in started:
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 1
        assert "could not prepare the environment (exit code 9):" in said
    assert len(tries.read_text().splitlines()) == 1
    node.failure(1, "-q", node.script(), variables=variables)
    assert len(tries.read_text().splitlines()) == 2
    assert node.run("-q", node.script()).returncode == 0


def test_a_full_disk_is_remembered_until_there_is_more_space(node: Node) -> None:
    require("mount", "umount")
    require_root()
    make_bundle(node.bundle, {"eval": BundleScript(body=SHOW)})
    tries = node.folder / "tries"
    full = node.write(
        "full-uv",
        f"#!/bin/sh\necho try >>'{tries}'\necho 'No space left on device (os error 28)'; exit 2\n",
    )
    full.chmod(0o755)
    node.cache.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs"]
    subprocess.run(["mount", *options, str(node.cache)], check=True)
    try:
        ballast = node.cache / "ballast"
        ballast.write_bytes(bytes(40 << 20))
        for _ in range(3):
            said = node.failure(1, "-q", node.script(), variables={"OFFLINE_BUNDLE_UV": str(full)})
            assert "no space left in the cache" in said
        assert len(tries.read_text().splitlines()) == 1
        ballast.unlink()
        assert node.run("-q", node.script()).returncode == 0
    finally:
        subprocess.run(["umount", "--lazy", str(node.cache)], check=True)
