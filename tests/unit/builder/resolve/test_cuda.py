from __future__ import annotations

from pathlib import Path

import pytest
from packaging.pylock import Pylock
from packaging.version import Version

from offline_bundle.builder.inputs.scripts import parse_script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.resolve.cuda import cuda_notes
from offline_bundle.builder.resolve.model import Artifact, Resolution

MIB = 1024**2


def notes(header: str, *names: str) -> list[str]:
    lines = "".join(f"# {line}\n" for line in header.splitlines())
    script = parse_script(Path("eval.py"), f"# /// script\n{lines}# ///\n".encode())
    lock = Pylock(lock_version=Version("1.0"), created_by="test", packages=[])
    target = Target("3.12", "x86_64-manylinux_2_28")
    resolution = Resolution(script, target, "3.12.0", lock, {})
    artifacts = [
        Artifact(name, "1", "wheel", f"https://x/{name}", f"{name}-1.whl", {}, 500 * MIB)
        for name in names
    ]
    return cuda_notes(resolution, artifacts)


def test_cuda_libraries_that_come_with_torch_are_noted() -> None:
    [note] = notes('dependencies = ["torch"]', "torch", "nvidia-cublas-cu12", "nvidia-nccl-cu12")
    assert note.startswith("torch for CUDA, with 2 packages for GPUs (1000 MiB); ")
    assert "PyTorch's index for CPUs" in note


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('dependencies = ["torch"]', ["torch", "numpy"]),
        ('dependencies = ["nvidia-nvimgcodec-cu12"]', ["nvidia-nvimgcodec-cu12"]),
        ('dependencies = ["torch", "nvidia-cublas-cu12"]', ["torch", "nvidia-cublas-cu12"]),
        (
            'dependencies = ["torch"]\n[tool.uv.sources]\ntorch = { index = "cu128" }\n'
            '[[tool.uv.index]]\nname = "cu128"\nurl = "https://x/whl/cu128"\nexplicit = true',
            ["torch", "nvidia-cublas-cu12"],
        ),
    ],
)
def test_chosen_or_missing_cuda_libraries_are_not_noted(header: str, names: list[str]) -> None:
    assert notes(header, *names) == []
