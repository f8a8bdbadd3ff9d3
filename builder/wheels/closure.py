"""The closure check: what the real wheels ask for is in the lock. Pure.

A source distribution's metadata can lie, an index's copy can differ, and wheels of one version can differ among
themselves; the METADATA inside the chosen wheels is what an installer on the node would go by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

# How each operator that says where a range of versions begins says only that.
_FLOORS = {">=": ">=", ">": ">", "~=": ">=", "==": ">="}

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from packaging.markers import Environment

    from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata


def closure_problems(
    roots: Iterable[str],
    wheels: Mapping[str, WheelMetadata],
    environment: Environment,
    overridden: Collection[str] = (),
) -> list[str]:
    """What the locked set lacks, one line each; empty when it is closed.

    *roots* are the script's own requirements, *wheels* the locked ones by normalised name. Requirements on
    *overridden* packages (uv's overrides, exclusions and static metadata) are the user's business and not checked.
    """
    problems: dict[str, None] = {}
    seen: set[tuple[str, str]] = set()
    queue = [("the script", text, "") for text in roots]
    while queue:
        origin, text, extra = queue.pop()
        requirement = _parse(text)
        if requirement is None or not _applies(requirement, environment, extra):
            continue
        name = canonicalize_name(requirement.name)
        if name in overridden:
            continue
        wheel = wheels.get(name)
        if wheel is None:
            problems[f"{origin} needs {text}, which the lock does not hold"] = None
            continue
        if requirement.specifier and not requirement.specifier.contains(
            wheel.version, prereleases=True
        ):
            problems[f"{origin} needs {text}, the lock holds {wheel.version}"] = None
        for wanted in ("", *map(canonicalize_name, requirement.extras)):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                queue += [(wheel_title(wheel), line, wanted) for line in wheel.requires_dist]
    problems |= dict.fromkeys(_python_problems(wheels, environment["python_full_version"]))
    return sorted(problems)


def capped_pythons(wheels: Iterable[WheelMetadata], full_version: str) -> list[str]:
    """The wheels, one line each, that end before the target's Python by their own Requires-Python."""
    return [
        f"{wheel_title(wheel)} asks for Python {wheel.requires_python} and the target has {full_version}; uv takes it "
        "all the same, pip only with --ignore-requires-python"
        for wheel in wheels
        if not _contains(_specifiers(wheel.requires_python), full_version)
    ]


def overridden_names(settings: Mapping[str, object]) -> set[str]:
    """Packages whose requirements the script's `[tool.uv]` changes on purpose."""
    names: set[str] = set()
    for key in ("override-dependencies", "exclude-dependencies"):
        entries = settings.get(key)
        requirements = (
            _parse(text)
            for text in (entries if isinstance(entries, list) else [])
            if isinstance(text, str)
        )
        names |= {
            canonicalize_name(requirement.name) for requirement in requirements if requirement
        }
    return names


def wheel_title(wheel: WheelMetadata) -> str:
    """How messages name a wheel: `numpy 2.5.5`."""
    return f"{wheel.name} {wheel.version}"


def _applies(requirement: Requirement, environment: Environment, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(
        {**cast("dict[str, str]", environment), "extra": extra}
    )


def _parse(text: str) -> Requirement | None:
    """None for what only uv understands (a relative path) and for invalid lines of old wheels."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _python_problems(wheels: Mapping[str, WheelMetadata], full_version: str) -> Iterable[str]:
    for wheel in wheels.values():
        if not _contains(_floor(wheel.requires_python), full_version):
            yield f"{wheel_title(wheel)} needs Python {wheel.requires_python}, the target has {full_version}"


def _contains(specifiers: SpecifierSet, version: str) -> bool:
    return specifiers.contains(version, prereleases=True)


def _specifiers(requires_python: str | None) -> SpecifierSet:
    try:
        return SpecifierSet(requires_python or "")
    except InvalidSpecifier:
        return SpecifierSet()


def _floor(requires_python: str | None) -> SpecifierSet:
    """What of a Requires-Python holds for uv: the Pythons that it begins with, not those that it ends with.

    https://docs.astral.sh/uv/reference/internals/resolver/#requires-python
    """
    entries = (entry for entry in _specifiers(requires_python) if entry.operator in _FLOORS)
    return SpecifierSet(
        ",".join(
            f"{_FLOORS[entry.operator]}{entry.version.removesuffix('.*')}" for entry in entries
        )
    )
