"""Overrides of packages that a script binds to a source.

`uv lock --script` takes an overridden package from its source. `uv pip compile` does not: the
override replaces the requirement, and the source with it. So a bound package's override becomes a
requirement of the script, where the source applies, and for each other package an override of its
requirements alone (`{ package = { name = ... }, dependencies = [...] }`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from offline_bundle.builder.inputs.uv_sources import list_at, source_entries
from offline_bundle.builder.resolve.settings.uv_settings import requirement_name

_OVERRIDES, _EXCLUDES = "override-dependencies", "exclude-dependencies"


def bound_overrides(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the overrides, by package, of packages with a source; not those that name a URL."""
    bound = {name for name, _ in source_entries(settings)}
    overrides: dict[str, list[str]] = {}
    for text in list_at(settings, _OVERRIDES):
        if isinstance(text, str) and not _names_url(text) and requirement_name(text) in bound:
            overrides.setdefault(requirement_name(text), []).append(text)
    return overrides


def overridden_requirements(
    dependencies: Sequence[str], overrides: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return a script's requirements with *overrides* in place of those they replace.

    An override that replaces none becomes one: another package needs it.
    """
    result, replaced = [], set()
    for text in dependencies:
        name = requirement_name(text)
        replaced.add(name)
        result += [_replacement(text, other) for other in overrides.get(name, ())] or [text]
    others = [texts for name, texts in overrides.items() if name not in replaced]
    return [*result, *(text for texts in others for text in texts)]


def scoped_settings(
    settings: Mapping[str, Any], overrides: Mapping[str, Sequence[str]], packages: Iterable[str]
) -> dict[str, Any]:
    """Return *settings* with *overrides* for the requirements of *packages* only."""
    if not overrides:
        return dict(settings)
    entries: list[Any] = []
    for entry in list_at(settings, _OVERRIDES):
        if isinstance(entry, dict):  # one of the script's own: uv applies it alone
            entries.append(_with_overrides(entry, overrides))
        elif requirement_name(entry) not in overrides or _names_url(entry):
            entries.append(entry)
    for name in sorted(packages):
        entry = {"package": {"name": name}, "dependencies": []}
        entries.append(_with_overrides(entry, overrides))
    return {**settings, _OVERRIDES: entries}


def without_packages(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return *settings* that leave out each requirement of *names*."""
    return {**settings, _EXCLUDES: [*list_at(settings, _EXCLUDES), *sorted(names)]}


def _names_url(requirement: str) -> bool:
    return "@" in requirement.partition(";")[0]  # a marker may have one too


def _replacement(text: str, override: str) -> str:
    """Return *override* for the script's own requirement *text*.

    As in `uv lock --script`, the script's marker counts, and an extra counts if both name it.
    """
    try:
        requirement, result = Requirement(text), Requirement(override)
    except InvalidRequirement:  # uv accepts some that `packaging` does not
        return override
    result.extras &= requirement.extras
    result.marker = requirement.marker
    return str(result)


def _with_overrides(
    entry: Mapping[str, Any], overrides: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    own = entry["dependencies"]
    named = {requirement_name(text) for text in own} | {entry["package"]["name"]}
    added = [text for name, texts in overrides.items() if name not in named for text in texts]
    return {**entry, "dependencies": [*own, *added]}
