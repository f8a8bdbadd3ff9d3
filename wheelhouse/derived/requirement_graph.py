"""Requirements between the packages of a lock, by the metadata of its wheels. Pure.

graph = lock_graph(manifest, "eval", "cp312-...", metadata)
graph.needs["matplotlib"]                               # ("numpy", "pillow", ...)
marker_environment("x86_64-manylinux_2_28", "3.12.0")   # PEP 508
for edge in walk(roots, requires, applicable): ...      # the same walk for other checks
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, cast

from packaging.markers import Environment, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledTarget, Manifest
from offline_bundle.wheelhouse.runtime.python.platforms import parse_platform

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_MACHINES = {
    "Darwin": {"aarch64": "arm64"},
    "Windows": {"x86_64": "AMD64", "aarch64": "ARM64", "i686": "x86"},
}
_SYSTEMS = {"Darwin": ("posix", "darwin"), "Windows": ("nt", "win32")}


@dataclass(frozen=True)
class LockGraph:
    """The requirements in one lock, by normalized name."""

    roots: tuple[str, ...]
    """Packages that the script itself requires."""
    needs: Mapping[str, tuple[str, ...]]
    """For every package of the lock, the packages that it requires."""


class Edge(NamedTuple):
    """One requirement that applies."""

    origin: str
    """Normalized name of the package that has it; empty for the script."""
    name: str
    """Normalized name of the package that it requires."""
    requirement: Requirement


def lock_graph(
    manifest: Manifest, script: str, target: str, metadata: Mapping[str, WheelMetadata]
) -> LockGraph:
    """Return the requirements in the lock of *script* for *target*; *metadata* is by wheel path.

    The manifest does not name the patch release of Python on a node. A requirement counts if its
    package is in the lock and its marker holds for the first or last patch release of the minor.
    """
    packages = manifest.scripts[script].locks[target].packages
    environments = _environments(manifest.targets[target])

    def applicable(text: str, extra: str) -> Requirement | None:
        match = _NAME.match(text)
        if match is None or canonicalize_name(match[1]) not in packages:
            return None  # most lines end here, before the slow parser
        requirement = parse_requirement(text)
        if requirement is None or all(
            marker_applies(requirement, environment, extra) is False for environment in environments
        ):
            return None  # one that cannot be evaluated applies: the package is in the lock
        return requirement

    requires = {name: metadata[package.wheel].requires_dist for name, package in packages.items()}
    names: dict[str, set[str]] = {name: set() for name in ("", *packages)}
    for edge in walk(manifest.scripts[script].dependencies, requires, applicable):
        names[edge.origin].add(edge.name)
    needs = {name: tuple(sorted(names[name])) for name in sorted(packages)}
    return LockGraph(tuple(sorted(names[""])), needs)


def walk(
    roots: Iterable[str],
    requires: Mapping[str, Iterable[str]],
    applicable: Callable[[str, str], Requirement | None],
) -> Iterator[Edge]:
    """Yield every requirement that is reached from *roots*, each package with each extra once.

    *requires* has the `Requires-Dist` lines by normalized name. *applicable* parses a line and
    evaluates its marker for an extra ("" for none); it returns None to skip the line.
    """
    seen: set[tuple[str, str]] = set()
    queue = [("", text, "") for text in roots]
    while queue:
        origin, text, extra = queue.pop()
        requirement = applicable(text, extra)
        if requirement is None:
            continue
        name = str(canonicalize_name(requirement.name))
        yield Edge(origin, name, requirement)
        for wanted in ("", *map(str, map(canonicalize_name, requirement.extras))):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                queue += [(name, line, wanted) for line in requires.get(name, ())]


def marker_environment(platform: str, full_version: str) -> Environment:
    """Return the marker environment (PEP 508) of a CPython release on one of uv's platforms."""
    parsed = parse_platform(platform)
    system, machine = parsed.system, parsed.machine
    os_name, sys_platform = _SYSTEMS.get(system, ("posix", "linux"))
    return {
        "implementation_name": "cpython",
        "implementation_version": full_version,
        "os_name": os_name,
        "platform_machine": _MACHINES.get(system, {}).get(machine, machine),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system if system in _SYSTEMS else "Linux",
        "platform_version": "",
        "python_full_version": full_version,
        "python_version": ".".join(full_version.split(".")[:2]),
        "sys_platform": sys_platform,
    }


@lru_cache(maxsize=10_000)
def parse_requirement(text: str) -> Requirement | None:
    """Parse a PEP 508 requirement; None if it is invalid."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def marker_applies(requirement: Requirement, environment: Environment, extra: str) -> bool | None:
    """Evaluate the marker of *requirement*; None if that is not possible."""
    if requirement.marker is None:
        return True
    try:
        values = {**cast("dict[str, str]", environment), "extra": extra}
        return requirement.marker.evaluate(values)
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError, KeyError):
        return None


def _environments(target: BundledTarget) -> tuple[Environment, Environment]:
    minor = target.python.rstrip("t")
    return (
        marker_environment(target.platform, f"{minor}.0"),
        marker_environment(target.platform, f"{minor}.99"),
    )
