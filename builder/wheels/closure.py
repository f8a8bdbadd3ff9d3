"""Closure check: the requirements of the real wheels are in the lock. Pure.

Metadata of a source distribution can be wrong, the copy of an index can differ, and wheels of one
version can differ. An installer on the node uses the METADATA inside the chosen wheels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from offline_bundle.builder.inputs.uv_sources import list_at, source_entries
from offline_bundle.wheelhouse.derived.requirement_graph import (
    marker_applies,
    parse_requirement,
    walk,
)
from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata

if TYPE_CHECKING:
    from packaging.markers import Environment
    from packaging.requirements import Requirement


# The lower end of a range of versions, by its operator.
_FLOORS = {">=": ">=", ">": ">", "~=": ">=", "==": ">="}


def closure_problems(
    roots: Iterable[str],
    wheels: Mapping[str, WheelMetadata],
    environment: Environment,
    overridden: Collection[str] = (),
) -> list[str]:
    """Return what is missing in the locked set, one line each; empty when it is closed.

    *roots* are the script's own requirements, *wheels* the locked ones by normalized name.
    Requirements on *overridden* packages (uv's overrides and exclusions) are not checked.
    """

    def applicable(text: str, extra: str) -> Requirement | None:
        requirement = parse_requirement(text)  # None for paths, which only uv reads
        if requirement is None:
            return None
        name = canonicalize_name(requirement.name)
        applies = marker_applies(requirement, environment, extra)
        if applies is None:  # the resolver decided: as in the requirement graph
            applies = name in wheels
        return requirement if applies and name not in overridden else None

    problems: dict[str, None] = {}
    requires = {name: wheel.requires_dist for name, wheel in wheels.items()}
    for origin, name, requirement in walk(roots, requires, applicable):
        subject = f"{_title(wheels[origin]) if origin else 'the script'} requires {requirement}"
        wheel = wheels.get(name)
        if wheel is None:
            problems[f"{subject}, which is not in the lock"] = None
        elif not _satisfies(wheel.version, requirement):
            problems[f"{subject}, but the lock has {wheel.version}"] = None
    problems |= dict.fromkeys(_python_problems(wheels, environment["python_full_version"]))
    return sorted(problems)


def capped_pythons(wheels: Iterable[WheelMetadata], full_version: str) -> list[str]:
    """Return the wheels, one line each, whose Requires-Python excludes newer Pythons."""
    return [
        f"{_title(wheel)} requires Python {wheel.requires_python} and the target has "
        f"{full_version}; uv installs it all the same, pip only with --ignore-requires-python"
        for wheel in wheels
        if not _contains(_specifiers(wheel.requires_python), full_version)
    ]


def overridden_names(settings: Mapping[str, object]) -> set[str]:
    """Return packages whose requirements the script's `[tool.uv]` changes on purpose."""
    names: set[str] = set()
    for key in ("override-dependencies", "exclude-dependencies"):
        for entry in list_at(settings, key):
            # an override of one package's requirements is a table
            texts = entry.get("dependencies", []) if isinstance(entry, dict) else [entry]
            requirements = [parse_requirement(text) for text in texts if isinstance(text, str)]
            names |= {canonicalize_name(found.name) for found in requirements if found}
    return names


def without_versions(requirements: Iterable[str], settings: Mapping[str, object]) -> Iterator[str]:
    """Yield a script's *requirements*, without versions of packages that have a direct source.

    uv takes what is at the path, URL or repository, whatever its version.
    """
    entries = source_entries(settings)
    direct = {name for name, entry in entries if entry.keys() & {"git", "path", "url"}}
    for text in requirements:
        requirement = parse_requirement(text)
        if requirement and canonicalize_name(requirement.name) in direct:
            requirement.specifier = SpecifierSet()
            yield str(requirement)
        else:
            yield text


def with_stated_requirements(wheel: WheelMetadata, settings: Mapping[str, object]) -> WheelMetadata:
    """Return *wheel* with the requirements that `dependency-metadata` states, which uv resolves."""
    entries = [entry for entry in list_at(settings, "dependency-metadata") if "name" in entry]
    for entry in sorted(entries, key=lambda entry: "version" not in entry):
        has_name = canonicalize_name(entry["name"]) == canonicalize_name(wheel.name)
        if has_name and Version(entry.get("version", wheel.version)) == Version(wheel.version):
            return replace(wheel, requires_dist=tuple(entry.get("requires-dist", ())))
    return wheel


def _satisfies(version: str, requirement: Requirement) -> bool:
    specifier = requirement.specifier
    return not specifier or _contains(specifier, version)


def _title(wheel: WheelMetadata) -> str:
    return f"{wheel.name} {wheel.version}"


def _python_problems(wheels: Mapping[str, WheelMetadata], full_version: str) -> Iterator[str]:
    for wheel in wheels.values():
        if not _contains(_floor(wheel.requires_python), full_version):
            requires = f"requires Python {wheel.requires_python}"
            yield f"{_title(wheel)} {requires}, but the target has {full_version}"


def _contains(specifiers: SpecifierSet, version: str) -> bool:
    try:
        return specifiers.contains(version, prereleases=True)
    except ValueError:  # more digits than int() takes
        return False


def _specifiers(requires_python: str | None) -> SpecifierSet:
    try:
        return SpecifierSet(requires_python or "")
    except InvalidSpecifier:
        return SpecifierSet()


def _floor(requires_python: str | None) -> SpecifierSet:
    """Return the lower end of a Requires-Python: uv ignores the upper end.

    https://docs.astral.sh/uv/reference/internals/resolver/#requires-python
    """
    entries = (entry for entry in _specifiers(requires_python) if entry.operator in _FLOORS)
    return SpecifierSet(
        ",".join(
            f"{_FLOORS[entry.operator]}{entry.version.removesuffix('.*')}" for entry in entries
        )
    )
