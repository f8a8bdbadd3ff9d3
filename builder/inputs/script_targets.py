"""The targets of each script of a build, and the interpreters to build wheels with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from offline_bundle.builder.inputs.node_file import NodeDescription, node_targets
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import (
    Target,
    admitted_pythons,
    choose_python,
    host_platform,
    make_target,
)
from offline_bundle.builder.inputs.uv_sources import local_sources
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, ResolveError
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

# Parallel searches for interpreters: each search starts processes.
_SEARCHES = 2


def pair_up(
    scripts: Sequence[Script],
    python_versions: Sequence[str],
    platforms: Sequence[str],
    nodes: Sequence[NodeDescription] = (),
    *,
    bundle_python: bool = False,
) -> list[tuple[Script, Target]]:
    """Return every script with each of its targets; with *nodes* exactly theirs.

    Without platforms: this machine. Without Python versions: chosen from `requires-python`.
    Raises one InputError (exit 2) for all scripts that a target does not fit, ResolveError (exit 3)
    where a node has no Python for one and the bundle includes none.
    """
    pairs: list[tuple[Script, Target]] = []
    problems: dict[str, type[BundleError]] = {}
    for script in scripts:
        targets: dict[Target, None] = {}
        for node in nodes or (None,):
            try:
                if node is None:
                    script_targets = _targets(script, python_versions, platforms)
                else:
                    script_targets = node_targets(
                        script, node, python_versions, bundle_python=bundle_python
                    )
            except (InputError, ResolveError) as error:
                hint = f"; {error.hint}" if error.hint else ""
                problems[f"{script.path}: {error.message}{hint}"] = type(error)
            else:
                targets |= dict.fromkeys(script_targets)
        pairs += [(script, target) for target in targets]
    if problems:
        error_type = InputError if InputError in problems.values() else ResolveError
        raise error_type("no target for some of the scripts", problems=list(problems))
    return pairs


def older_pythons(script: Script, target: Target) -> Iterator[Target]:
    """Yield *target* with each older Python that the script admits and this machine has.

    Newest first; none for a script with sources, which would have to be built for that Python.
    """
    if _has_source(script):
        return
    admitted = admitted_pythons(script.requires_python)
    older = admitted[admitted.index(target.python) + 1 :] if target.python in admitted else []
    with ThreadPoolExecutor(_SEARCHES) as pool:
        for python, is_installed in zip(older, pool.map(_is_installed, older), strict=True):
            if is_installed:
                yield Target(python, target.platform)


def find_build_interpreters(
    pairs: Sequence[tuple[Script, Target]], *, may_build: bool
) -> dict[str, str]:
    """Return an interpreter of this machine for each target's Python, to build wheels with.

    Skipped where no script names a source and no build is allowed: a search starts processes.
    """
    may_build = may_build or any(_has_source(script) for script, _ in pairs)
    minors = {
        target.python
        for _, target in pairs
        if may_build and target.runs_here and not target.is_free_threaded
    }
    paths = {python: _interpreter(python) for python in minors}
    return {python: path for python, path in paths.items() if path}


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


def _has_source(script: Script) -> bool:
    return bool(local_sources(script.settings)) or any("@" in text for text in script.dependencies)


def _interpreter(python: str) -> str | None:
    major, _, minor = python.partition(".")
    return find_interpreter((int(major), int(minor)))


def _is_installed(python: str) -> bool:
    return _interpreter(python) is not None
