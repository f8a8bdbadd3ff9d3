"""CUDA libraries that come in unasked, with a package that also has builds for CPUs only."""

from __future__ import annotations

from collections.abc import Sequence

from offline_bundle.builder.inputs.uv_sources import source_entries
from offline_bundle.builder.resolve.model import Artifact, Resolution
from offline_bundle.builder.resolve.settings.uv_settings import requirement_name
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

_PREFIXES = ("nvidia-", "cuda-", "triton")
_GUIDE = "https://docs.astral.sh/uv/guides/integration/pytorch/"


def cuda_notes(resolution: Resolution, artifacts: Sequence[Artifact]) -> list[str]:
    """Return a note if CUDA libraries come with torch, and the script names none.

    A script that selects an index for torch has chosen its build.
    """
    script = resolution.script
    named = {requirement_name(text) for text in script.dependencies}
    named |= {name for name, _ in source_entries(script.settings)}
    libraries = [artifact for artifact in artifacts if artifact.name.startswith(_PREFIXES)]
    has_torch = any(artifact.name == "torch" for artifact in artifacts)
    is_chosen = any(name.startswith(_PREFIXES) for name in named) or any(
        name == "torch" for name, _ in source_entries(script.settings)
    )
    if not libraries or not has_torch or is_chosen:
        return []
    size = format_size(sum(artifact.size or 0 for artifact in libraries))
    note = (
        f"torch for CUDA, with {count(len(libraries), 'package')} for GPUs ({size}); "
        f"for nodes without GPUs, take torch from PyTorch's index for CPUs: {_GUIDE}"
    )
    return [note]
