"""Merge the files of two bundles: caches, uv, interpreters, launchers. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from packaging.version import Version

from offline_bundle.wheelhouse.derived.complete import INVENTORIES
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledPython,
    BundledScript,
    BundledUv,
    Manifest,
    Publisher,
)
from offline_bundle.wheelhouse.runtime.bytecode import BYTECODE


@dataclass(frozen=True)
class MergedCaches:
    """Two uv caches as one. uv has one page per package, and only that of one side is kept."""

    incoming_pages: frozenset[str]
    """Paths of the pages to take from the incoming bundle."""
    listed: Mapping[str, frozenset[str]]
    """Package -> wheels that its page lists, where the two pages differ."""

    def without_unserved(self, script: BundledScript) -> BundledScript:
        """Return *script* with no cache for locks that have a wheel which no page lists."""
        locks = {}
        for target, lock in script.locks.items():
            is_served = all(
                package.wheel in self.listed.get(name, {package.wheel})
                for name, package in lock.packages.items()
            )
            locks[target] = lock if is_served else replace(lock, cache=None)
        return replace(script, locks=locks)


def merge_caches(current: Manifest, incoming: Manifest) -> MergedCaches:
    """Choose the page of each package: that of *incoming* if it lists all wheels of the other."""
    current_wheels, incoming_wheels = _cached_wheels(current), _cached_wheels(incoming)
    listed: dict[str, frozenset[str]] = {}
    incoming_pages = set()
    for path in current.files.keys() & incoming.files.keys():
        if not _is_cache_page(path) or current.files[path].sha256 == incoming.files[path].sha256:
            continue
        package = path.split("/")[-1].rpartition(".")[0]
        in_current, in_incoming = (
            wheels.get(package, frozenset()) for wheels in (current_wheels, incoming_wheels)
        )
        listed[package] = in_current
        if in_incoming >= in_current:
            listed[package] = in_incoming
            incoming_pages.add(path)
    return MergedCaches(frozenset(incoming_pages), listed)


def merge_files(
    current: Manifest,
    incoming: Manifest,
    scripts: Mapping[str, BundledScript],
    taken: set[str],
    incoming_pages: frozenset[str],
) -> dict[str, BundledFile]:
    """Return the files of both; of two that differ, the one of the chosen script, uv or launcher.

    *taken* has the names of the scripts that are taken from *incoming*.
    """
    owned = _script_of_paths(current) | _script_of_paths(incoming)
    use_incoming = _chooser(current, incoming, owned, taken, incoming_pages)
    # An environment that exists in the current bundle is kept whole.
    environments = tuple(f"{lock.environment}/" for _, _, lock in current.locks())
    files = {
        path: file
        for path, file in incoming.files.items()
        if path in current.files or not path.startswith(environments)
    }
    files |= {
        path: file
        for path, file in current.files.items()
        if path not in incoming.files or not use_incoming(path)
    }
    replaceable = owned.keys() | _uv_paths(current.uv) | _uv_paths(incoming.uv)
    named = {path for script in scripts.values() for path in script.paths()}
    named |= _uv_paths(merge_uv(current, incoming))
    launcher = incoming if _is_newer(incoming, current) else current
    return {
        path: replace(file, publisher=file.publisher or _publisher(path, current, incoming))
        for path, file in files.items()
        if path not in INVENTORIES
        and (path not in replaceable or path in named)
        and (not path.startswith("runtime/") or path in launcher.files)
    }


def _publisher(path: str, current: Manifest, incoming: Manifest) -> Publisher | None:
    """Return the publisher that one of the bundles has for a wheel: its provenance is kept too."""
    entries = [manifest.files[path] for manifest in (current, incoming) if path in manifest.files]
    return next((entry.publisher for entry in entries if entry.publisher), None)


def _chooser(
    current: Manifest,
    incoming: Manifest,
    script_of: Mapping[str, str],
    taken: set[str],
    incoming_pages: frozenset[str],
) -> Callable[[str], bool]:
    """Return a function: whether the incoming file is taken at a path that both bundles have."""
    platform_of = {
        uv.path: platform
        for manifest in (current, incoming)
        for platform, uv in manifest.uv.items()
    }
    use_incoming_launcher = _is_newer(incoming, current)

    def use_incoming(path: str) -> bool:
        if path in script_of:
            return script_of[path] in taken
        if path in platform_of:
            return _use_incoming_uv(current, incoming, platform_of[path])
        if path.startswith(("cache/", "envs/", "images/", BYTECODE)):  # jobs may be reading them
            return path in incoming_pages
        return use_incoming_launcher

    return use_incoming


def _is_newer(incoming: Manifest, current: Manifest) -> bool:
    return creator_order(incoming) >= creator_order(current)


def merge_uv(current: Manifest, incoming: Manifest) -> dict[str, BundledUv]:
    """Return the uv for each platform: the newer one."""
    return {
        platform: incoming.uv[platform]
        if _use_incoming_uv(current, incoming, platform)
        else current.uv[platform]
        for platform in {**current.uv, **incoming.uv}
    }


def merge_pythons(current: Manifest, incoming: Manifest) -> dict[str, BundledPython]:
    """Return the interpreter for each target: the newer release."""
    pythons = {**incoming.pythons, **current.pythons}
    for target, python in incoming.pythons.items():
        if _version(python.version) > _version(pythons[target].version):
            pythons[target] = python
    return pythons


def creator_order(manifest: Manifest) -> tuple[Version, str]:
    """Order manifests by the version of offline-bundle that wrote them, then by time."""
    timestamp = re.sub(r"\.\d+Z$", "Z", manifest.timestamp)
    return _version(manifest.created_by.rpartition(" ")[2]), timestamp


def _is_cache_page(path: str) -> bool:
    folders = path.split("/")[:-1]
    return len(folders) >= 2 and folders[0] == "cache" and folders[1].startswith("simple-")


def _cached_wheels(manifest: Manifest) -> dict[str, frozenset[str]]:
    """Return the wheels of each package in locks that the cache serves."""
    wheels: dict[str, frozenset[str]] = {}
    for _, _, lock in manifest.locks():
        for name, package in lock.packages.items() if lock.cache else ():
            wheels[name] = wheels.get(name, frozenset()) | {package.wheel}
    return wheels


def _script_of_paths(manifest: Manifest) -> dict[str, str]:
    return {path: name for name, script in manifest.scripts.items() for path in script.paths()}


def _uv_paths(uvs: Mapping[str, BundledUv]) -> set[str]:
    return {uv.path for uv in uvs.values()}


def _use_incoming_uv(current: Manifest, incoming: Manifest, platform: str) -> bool:
    if platform not in current.uv or platform not in incoming.uv:
        return platform in incoming.uv
    return _version(incoming.uv[platform].version) > _version(current.uv[platform].version)


def _version(text: str) -> Version:
    try:
        return Version(text)
    except ValueError:  # InvalidVersion, or more digits than int() takes
        return Version("0")
