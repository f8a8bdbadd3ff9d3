"""Planning a build: which script for which target, and which of this machine's interpreters may build for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from offline_bundle.builder.inputs.node_file import Node, node_targets
from offline_bundle.builder.inputs.targets import (
    Target,
    admitted_pythons,
    choose_python,
    host_platform,
    make_target,
)
from offline_bundle.builder.resolve import uv_settings
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, ResolveError
from offline_bundle.wheelhouse.runtime.interpreters import find_interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offline_bundle.builder.inputs.scripts import Script

# Interpreters that are looked for side by side: each look starts processes.
_LOOKUPS = 2


def pair_up(
    scripts: Sequence[Script],
    python_versions: Sequence[str],
    platforms: Sequence[str],
    nodes: Sequence[Node] = (),
    *,
    brings_python: bool = False,
) -> list[tuple[Script, Target]]:
    """Every script with every target asked for; of *nodes* exactly theirs, whatever this machine is.

    No platform means this machine; no Python version means the one that the script's `requires-python` leads to.
    Raises one InputError (exit 2) for all scripts that a target does not suit, ResolveError (exit 3) where a node has
    no Python for one and the bundle brings none.
    """
    pairs: list[tuple[Script, Target]] = []
    faults: dict[str, type[BundleError]] = {}
    for script in scripts:
        targets: dict[Target, None] = {}
        for node in nodes or (None,):
            try:
                if node is None:
                    found = _targets(script, python_versions, platforms)
                else:
                    found = node_targets(script, node, python_versions, brings_python=brings_python)
            except (InputError, ResolveError) as error:
                text = f"{script.path}: {error.message}" + (f"; {error.hint}" if error.hint else "")
                faults[text] = type(error)
            else:
                targets |= dict.fromkeys(found)
        pairs += [(script, target) for target in targets]
    if faults:
        kind = InputError if InputError in faults.values() else ResolveError
        raise kind("no target for some of the scripts", problems=list(faults))
    return pairs


def older_pythons(script: Script, target: Target) -> Iterator[Target]:
    """*target* with each older Python that the script admits and this machine has, newest first.

    None for a script with sources of its own: they would have to be built for that Python.
    """
    if _names_a_source(script):
        return
    admitted = admitted_pythons(script.requires_python)
    older = admitted[admitted.index(target.python) + 1 :] if target.python in admitted else []
    with ThreadPoolExecutor(_LOOKUPS) as pool:
        for python, is_there in zip(older, pool.map(_is_installed, older), strict=True):
            if is_there:
                yield Target(python, target.platform)


def builders_for(pairs: Sequence[tuple[Script, Target]], *, is_building: bool) -> dict[str, str]:
    """An interpreter of this machine for each target's Python, where something may have to be built from source.

    Looking for one starts processes; it is left out where no script names a source and none is allowed.
    """
    may_build = is_building or any(_names_a_source(script) for script, _ in pairs)
    wanted = {
        target.python
        for _, target in pairs
        if may_build and target.runs_here and not target.is_free_threaded
    }
    found = {python: _interpreter(python) for python in wanted}
    return {python: path for python, path in found.items() if path}


def _targets(
    script: Script, python_versions: Sequence[str], platforms: Sequence[str]
) -> tuple[Target, ...]:
    pythons = python_versions or (choose_python(script.requires_python, _is_installed),)
    targets = [
        make_target(python, platform)
        for python in pythons
        for platform in platforms or (host_platform(),)
    ]
    for target in targets:
        target.full_version(script.requires_python)
    return tuple(dict.fromkeys(targets))


def _names_a_source(script: Script) -> bool:
    return bool(uv_settings.local_sources(script.settings)) or any(
        "@" in text for text in script.dependencies
    )


def _interpreter(python: str) -> str | None:
    major, _, minor = python.partition(".")
    return find_interpreter((int(major), int(minor)))


def _is_installed(python: str) -> bool:
    return _interpreter(python) is not None
