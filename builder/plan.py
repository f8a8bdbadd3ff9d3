"""Planning a build: which script for which target, and which of this machine's interpreters may build for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder import uv_config
from builder.target import Target, choose_python, host_platform, make_target
from wheelhouse import prepare
from wheelhouse.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.script import Script


def pair_up(
    scripts: Sequence[Script], python_versions: Sequence[str], platforms: Sequence[str]
) -> list[tuple[Script, Target]]:
    """Every script with every target asked for.

    No platform means this machine; no Python version means the one that the script's `requires-python` leads to.
    Raises one InputError (exit 2) for all scripts that a target does not suit.
    """
    pairs: list[tuple[Script, Target]] = []
    problems: list[str] = []
    for script in scripts:
        try:
            targets = _targets(script, python_versions, platforms)
        except InputError as error:
            problems.append(f"{script.path}: {error.message}" + (f"; {error.hint}" if error.hint else ""))
        else:
            pairs += [(script, target) for target in targets]
    if problems:
        raise InputError("no target for some of the scripts", problems=problems)
    return pairs


def builders_for(pairs: Sequence[tuple[Script, Target]], *, is_building: bool) -> dict[str, str]:
    """An interpreter of this machine for each target's Python, where something may have to be built from source.

    Looking for one starts processes; it is left out where no script names a source and none is allowed.
    """
    may_build = is_building or any(_names_a_source(script) for script, _ in pairs)
    wanted = {target.python for _, target in pairs if may_build and target.runs_here and not target.is_free_threaded}
    found = {python: _interpreter(python) for python in wanted}
    return {python: path for python, path in found.items() if path}


def _targets(script: Script, python_versions: Sequence[str], platforms: Sequence[str]) -> list[Target]:
    pythons = python_versions or (choose_python(script.requires_python, _is_installed),)
    targets = [make_target(python, platform) for python in pythons for platform in platforms or (host_platform(),)]
    for target in targets:
        target.full_version(script.requires_python)
    return list(dict.fromkeys(targets))


def _names_a_source(script: Script) -> bool:
    return bool(uv_config.local_sources(script.settings)) or any("@" in text for text in script.dependencies)


def _interpreter(python: str) -> str | None:
    major, _, minor = python.partition(".")
    return prepare.find_interpreter((int(major), int(minor)))


def _is_installed(python: str) -> bool:
    return _interpreter(python) is not None
