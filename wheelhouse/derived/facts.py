"""What wheels say of themselves, and who needs whom: the facts behind the inventories. Pure.

    facts = read_facts(manifest, {"wheels/numpy-....whl": metadata_bytes})
    facts["wheels/numpy-....whl"].licence                    # "BSD-3-Clause"
    graph_of(manifest, "eval", "cp312-...", facts).needs["matplotlib"]

METADATA comes from strangers: nothing of it is trusted to be well-formed, short, or true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import getaddresses
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from offline_bundle.wheelhouse.runtime.names import REPORT, SBOM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from offline_bundle.wheelhouse.runtime.manifest import BundledTarget, Manifest

INVENTORIES = frozenset({SBOM, REPORT})

_LONGEST = 200
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_LICENCE_CLASSIFIER = "License :: "
_EXPRESSION = re.compile(r"[A-Za-z0-9.+() :-]+")


@dataclass(frozen=True, kw_only=True)
class PackageFacts:
    """What a wheel's METADATA says that matters to a reviewer."""

    summary: str = ""
    licence: str = ""
    """An SPDX expression where the package gives one, else its own words, else empty."""
    is_expression: bool = False
    """Whether `licence` comes from `License-Expression` (PEP 639)."""
    authors: tuple[tuple[str, str], ...] = ()
    """Name and address of each author, or else maintainer; either may be empty."""
    homepage: str = ""
    """An http(s) URL, or empty."""
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class LockGraph:
    """Who needs whom in one lock, by normalised name."""

    roots: tuple[str, ...]
    """What the script itself asks for."""
    needs: Mapping[str, tuple[str, ...]]
    """Of every package of the lock: what it needs there."""


def read_facts(manifest: Manifest, metadata: Mapping[str, bytes]) -> dict[str, PackageFacts]:
    """Read the METADATA of the bundle's wheels; *metadata* has it by the wheel's path, and may lack some."""
    return {path: parse_facts(metadata.get(path, b"")) for path in wheels_of(manifest)}


def wheels_of(manifest: Manifest) -> list[str]:
    """Paths of all wheels in the bundle, sorted."""
    return sorted(
        path for path in manifest.files if path.startswith("wheels/") and path.endswith(".whl")
    )


@lru_cache(maxsize=4096)
def parse_facts(content: bytes) -> PackageFacts:
    """Read one METADATA; what cannot be read is left out."""
    headers = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[0] + b"\n"
    raw, _ = parse_email(headers)
    licence, is_expression = _licence(
        raw.get("license_expression") or "", raw.get("license") or "", raw.get("classifiers") or []
    )
    people = [raw.get("author") or "", raw.get("author_email") or ""]
    if not any(people):
        people = [raw.get("maintainer") or "", raw.get("maintainer_email") or ""]
    return PackageFacts(
        summary=_short(raw.get("summary") or ""),
        licence=licence,
        is_expression=is_expression,
        authors=_authors(*people),
        homepage=_homepage(raw.get("home_page") or "", raw.get("project_urls") or {}),
        requires=tuple(raw.get("requires_dist") or ()),
    )


def graph_of(
    manifest: Manifest, script: str, target: str, facts: Mapping[str, PackageFacts]
) -> LockGraph:
    """Work out who needs whom in the lock of *script* for *target*, from the wheels' METADATA and its markers there.

    The manifest does not say which patch release of Python a node has; a requirement counts when it applies to the
    first or to the last of the minor's, and its package is in the lock.
    """
    packages = manifest.scripts[script].locks[target].packages
    environments = tuple(_environments(manifest.targets[target]))
    needs: dict[str, dict[str, None]] = {name: {} for name in packages}
    roots: dict[str, None] = {}
    seen: set[tuple[str, str]] = set()
    queue = [(roots, text, "") for text in manifest.scripts[script].dependencies]
    while queue:
        edges, text, extra = queue.pop()
        requirement = _applicable(text, extra, environments, packages)
        if requirement is None:
            continue
        name = str(canonicalize_name(requirement.name))
        edges[name] = None
        for wanted in ("", *map(str, map(canonicalize_name, requirement.extras))):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                queue += [
                    (needs[name], line, wanted) for line in facts[packages[name].wheel].requires
                ]
    return LockGraph(
        tuple(sorted(roots)), {name: tuple(sorted(edges)) for name, edges in sorted(needs.items())}
    )


def machine_of(platform: str) -> tuple[str, str]:
    """Architecture and operating system (as `sys.platform` has it) of uv's name for a platform."""
    known = {
        "linux": ("x86_64", "linux"),
        "macos": ("aarch64", "darwin"),
        "windows": ("x86_64", "win32"),
    }
    if platform in known:
        return known[platform]
    architecture, _, rest = platform.partition("-")
    return architecture, "darwin" if "darwin" in rest else "win32" if "windows" in rest else "linux"


_Environment = tuple[tuple[str, str], ...]


def _applicable(
    text: str, extra: str, environments: tuple[_Environment, ...], packages: Mapping[str, object]
) -> Requirement | None:
    """Parse *text* when its package is in the lock and its marker holds; None otherwise."""
    match = _NAME.match(text)
    if match is None or canonicalize_name(match[1]) not in packages:
        return None
    requirement = _parse(text)
    if requirement is None or not any(
        _holds(requirement, environment, extra) for environment in environments
    ):
        return None
    return requirement


@lru_cache(maxsize=10_000)
def _parse(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _holds(requirement: Requirement, environment: _Environment, extra: str) -> bool:
    if requirement.marker is None:
        return True
    try:
        return requirement.marker.evaluate({**dict(environment), "extra": extra})
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion, KeyError):
        return True  # the package is in the lock: somebody found that it applies


def _environments(target: BundledTarget) -> Iterator[_Environment]:
    """The marker environments (PEP 508) of the target's first and last patch release."""
    architecture, system = machine_of(target.platform)
    machines = {
        "darwin": {"aarch64": "arm64"},
        "win32": {"x86_64": "AMD64", "aarch64": "ARM64", "i686": "x86"},
    }
    machine = machines.get(system, {}).get(architecture, architecture)
    os_name, platform_system = {"darwin": ("posix", "Darwin"), "win32": ("nt", "Windows")}.get(
        system, ("posix", "Linux")
    )
    python = target.python.rstrip("t")
    for patch in ("0", "99"):
        yield (
            ("implementation_name", "cpython"),
            ("implementation_version", f"{python}.{patch}"),
            ("os_name", os_name),
            ("platform_machine", machine),
            ("platform_python_implementation", "CPython"),
            ("platform_release", ""),
            ("platform_system", platform_system),
            ("platform_version", ""),
            ("python_full_version", f"{python}.{patch}"),
            ("python_version", python),
            ("sys_platform", system),
        )


def _licence(expression: str, text: str, classifiers: Iterable[str]) -> tuple[str, bool]:
    """The first that says something: the expression, a short text, the classifiers, the first line of a long text."""
    if expression and _EXPRESSION.fullmatch(expression):
        return expression, True
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and len(lines[0]) <= 64 and lines[0].upper() != "UNKNOWN":
        return _short(lines[0]), False
    named = [
        item.rpartition(" :: ")[2] for item in classifiers if item.startswith(_LICENCE_CLASSIFIER)
    ]
    named = [name for name in named if name != "OSI Approved"]
    if named:
        return _short(" or ".join(named)), False
    return (_short(lines[0]) if lines and lines[0].upper() != "UNKNOWN" else ""), False


def _authors(names: str, addresses: str) -> tuple[tuple[str, str], ...]:
    found = [(_short(name), _short(address)) for name, address in getaddresses([addresses])]
    found = [
        (name, address if "@" in address else "") for name, address in found if name or address
    ]
    if names and not any(name for name, _ in found):
        address = found[0][1] if len(found) == 1 else ""
        return ((_short(names), address),)
    return tuple(found)


def _homepage(homepage: str, urls: Mapping[str, str]) -> str:
    wanted = ("homepage", "source", "repository", "source code", "documentation")
    by_label = {label.casefold(): url for label, url in urls.items()}
    candidates = [homepage, *(by_label[label] for label in wanted if label in by_label)]
    return next(
        (url for url in candidates if re.fullmatch(r"https?://[!#-;=?-Z_a-z~]{1,500}", url)), ""
    )


def _short(text: str) -> str:
    """One printable line of sensible length."""
    line = "".join(
        character if character.isprintable() else " " for character in " ".join(text.split())
    )
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
