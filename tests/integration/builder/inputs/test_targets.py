from __future__ import annotations

import subprocess

from offline_bundle.builder.inputs.targets import Target, host_platform, make_target
from offline_bundle.builder.resolve.uv_process import find_uv


def test_this_machine_is_a_platform_that_uv_knows() -> None:
    help_text = subprocess.run(
        [find_uv(), "pip", "compile", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert host_platform() in help_text.replace("\n", " ")
    assert Target("3.12", host_platform()).runs_here


def test_every_platform_of_ours_is_one_of_uvs() -> None:
    help_text = subprocess.run(
        [find_uv(), "pip", "compile", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for minor in (17, 28, 31, 40):
        assert f"x86_64-manylinux_2_{minor}" in help_text
        assert make_target("3.12", f"aarch64-manylinux_2_{minor}").glibc == (2, minor)
