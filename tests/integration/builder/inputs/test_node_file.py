"""Targets from node.json files of many machines, and invalid files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from offline_bundle.builder.inputs.targets import host_platform
from offline_bundle.runner.standalone import probe
from tests.support.distributions import make_wheel
from tests.support.node_file_cases import node_json, python
from tests.support.pipeline_cases import HERE, Factory, factory

__all__ = ["factory"]


def test_what_probe_says_of_this_machine_is_built_for(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    path = tmp_path / "this.json"
    path.write_text(probe.render(probe.describe()))
    make_wheel(packages, "leaf")
    factory.build(factory.script("leaf"), nodes=(path,), uv_version=None)
    assert list(factory.manifest.targets) == [f"cp{HERE.replace('.', '')}-{host_platform()}"]


def test_a_bundle_for_three_nodes_at_once(factory: Factory, packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "leaf")
    pythons = [python(f"{HERE}.5")]
    others = [python(f"{HERE}.5", libc=None)]
    old = {"family": "glibc", "version": "2.17"}
    musl = {"family": "musl", "version": "1.2.4"}
    mac = {"system": "Darwin", "machine": "aarch64", "libc": None, "macos": "15.1"}
    nodes = (
        node_json(tmp_path, "old.json", pythons=pythons, libc=old),
        node_json(tmp_path, "musl.json", pythons=others, libc=musl),
        node_json(tmp_path, "mac.json", pythons=others, **mac),
    )
    factory.build(factory.script("leaf"), nodes=nodes)
    assert {target.platform for target in factory.manifest.targets.values()} == {
        "x86_64-manylinux_2_17", "x86_64-unknown-linux-musl", "aarch64-apple-darwin"
    }  # fmt: skip


def test_the_command_refuses_node_beside_platform(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "offline_bundle",
        "build",
        "x.py",
        "-o",
        "out",
        "--node",
        str(node_json(tmp_path)),
    ]
    done = subprocess.run(
        [*command, "--python-platform", "linux"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[4],
    )
    assert done.returncode == 2
    assert "--node and --python-platform exclude each other" in done.stderr
