"""The two ways to resolve a plan: anew, or from the locks of the bundle in force (`--locked`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from offline_bundle.builder import restore
from offline_bundle.builder.extras import python_builds, uv_binaries
from offline_bundle.builder.extras.python_builds import PythonBuild
from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.inputs.script_targets import older_pythons
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.model import BuildPlan, Resolved, ResolvedLock
from offline_bundle.builder.resolve import from_manifest
from offline_bundle.builder.resolve.model import Artifact, Resolver
from offline_bundle.builder.resolve.select import check_builds_allowed, select_artifacts
from offline_bundle.builder.resolve.settings import uv_settings
from offline_bundle.builder.resolve.uv import UvResolver
from offline_bundle.builder.resolve.uv_lockfile import check_files
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.disk.cache_setup import cache_directory
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.parallel import gather

# I/O-bound, so more processes than cores.
_PARALLEL_RESOLUTIONS = 8


def resolve(plan: BuildPlan, current: Manifest | None) -> Resolved:
    """Resolve all scripts for all targets, and what the bundle in force (*current*) needs besides.

    Raises ResolveError (3), FetchError (4), IntegrityError (5), or with `--locked` OutOfDateError
    (9).
    """
    if plan.request.is_locked and current is not None:
        strategy: FreshStrategy = LockedStrategy(plan, current)
    else:
        strategy = FreshStrategy(plan, current)
    pythons = strategy.choose_pythons()
    uv_pairs = [
        (uv_binaries.uv_requirement_script(version), target)
        for version, target in strategy.needed_uvs()
    ]
    locks, uv = _resolve_all(strategy, plan.pairs, uv_pairs)
    selected = [(lock.resolution, lock.artifacts) for lock in locks]
    check_builds_allowed(selected, plan.options.allows)
    check_files(plan.script_locks, selected)
    return Resolved(
        locks,
        uv,
        pythons,
        base=strategy.base,
        locked=strategy.locked,
        corrupt=strategy.corrupt,
        orphaned_wheels=strategy.orphaned_wheels,
    )


class FreshStrategy:
    """Resolve everything anew."""

    locked: Manifest | None = None
    corrupt: frozenset[str] = frozenset()
    orphaned_wheels: Sequence[Artifact] = ()

    def __init__(self, plan: BuildPlan, current: Manifest | None) -> None:
        """*current* is the manifest in force."""
        self.plan = plan
        self.base = self.current = current
        self.resolver, self.uv_resolver = _resolvers(plan)

    def choose_pythons(self) -> Mapping[Target, PythonBuild]:
        """Return the interpreters to add."""
        missing = self.missing_pythons()
        return python_builds.choose_archives(self.plan.uv, missing, self.plan.credentials)

    def missing_pythons(self) -> dict[Target, tuple[str | None, ...]]:
        """Return the targets without an interpreter in the bundle, if they are asked for."""
        with_python = self.plan.request.with_python
        return python_builds.missing(self.plan.pairs, self.current) if with_python else {}

    def needed_uvs(self) -> list[tuple[str, Target]]:
        """Return version and target of each uv to add."""
        return self.missing_uvs(target for _, target in self.plan.pairs)

    def missing_uvs(self, targets: Iterable[Target]) -> list[tuple[str, Target]]:
        """Return those for the nodes of *targets* that the bundle does not have."""
        request = self.plan.request
        missing = uv_binaries.missing(
            targets,
            request.uv_version,
            self.current,
            is_default=request.is_uv_default,
            with_static=request.with_python,
        )
        return [(request.uv_version or "", target) for target in missing]


class LockedStrategy(FreshStrategy):
    """Take the locks of the bundle in force; resolve only the scripts that it does not have."""

    def __init__(self, plan: BuildPlan, current: Manifest) -> None:
        """Read all files of the bundle to find the corrupt ones."""
        super().__init__(plan, current)
        output = plan.request.output
        self.locked = current
        self.corrupt = restore.corrupt_files(output)
        self.base = restore.without_corrupt_formats(current, self.corrupt)
        self.orphaned_wheels = restore.orphaned_wheels(current, plan.scripts, self.corrupt)
        folders = from_manifest.local_folders(_find_links(plan))
        self.resolver = from_manifest.LockedResolver(
            current, output, self.corrupt, folders, self.resolver
        )
        self.uv_resolver = from_manifest.LockedUv(current, self.uv_resolver)

    def choose_pythons(self) -> Mapping[Target, PythonBuild]:
        """Return interpreters for the scripts that the bundle does not have.

        Raises OutOfDateError (exit 9) where its own targets have none.
        """
        covered = {target for script, target in self.plan.pairs if self._is_covered(script)}
        missing = self.missing_pythons()
        restore.check_pythons_bundled(target.name for target in missing if target in covered)
        return super().choose_pythons()

    def needed_uvs(self) -> list[tuple[str, Target]]:
        """Return those of the scripts that the bundle does not have, and the corrupt ones."""
        plan = self.plan
        added = self.missing_uvs(
            target for script, target in plan.pairs if not self._is_covered(script)
        )
        version = None if plan.request.is_uv_default else plan.request.uv_version
        python = plan.pairs[0][1].python
        assert self.locked is not None  # noqa: S101 - narrows the type for mypy
        return added + restore.uv_to_restore(self.locked, self.corrupt, python, wanted=version)

    def _is_covered(self, script: Script) -> bool:
        """Return True if the bundle's own locks decide everything about *script*."""
        return self.locked is not None and script.name in self.locked.scripts


def _resolvers(plan: BuildPlan) -> tuple[Resolver, Resolver]:
    """Return the resolvers of the scripts and of uv; dates and constraints are for scripts only."""
    request, options = plan.request, plan.options
    uv_options = replace(options, exclude_newer=None, constraints=())
    if request.resolver == "pip-tools":
        from offline_bundle.builder.resolve.pip_tools import PipToolsResolver  # noqa: PLC0415 - slow

        cache = DownloadCache(Path(cache_directory()))
        return PipToolsResolver(options, cache), PipToolsResolver(uv_options, cache)
    pins = {name: lock.constraints for name, lock in plan.script_locks.items()}
    # Chosen Pythons are kept. Builds and interpreters are planned for the Python chosen first.
    is_chosen = request.python_versions or request.nodes or request.is_locked or request.with_python
    alternatives = None if is_chosen or options.allow_build else older_pythons
    return (
        UvResolver(plan.uv, options, plan.credentials, pins, alternatives),
        UvResolver(plan.uv, uv_options, plan.credentials),
    )


def _resolve_all(
    strategy: FreshStrategy,
    pairs: Sequence[tuple[Script, Target]],
    uv_pairs: Sequence[tuple[Script, Target]],
) -> tuple[list[ResolvedLock], list[ResolvedLock]]:
    """Resolve scripts and uv for the nodes, all in parallel."""
    with ThreadPoolExecutor(_PARALLEL_RESOLUTIONS) as pool:
        scripts = [pool.submit(_resolve_one, strategy.resolver, *pair) for pair in pairs]
        uvs = [pool.submit(_resolve_one, strategy.uv_resolver, *pair) for pair in uv_pairs]
        locks = gather(scripts)
        try:
            return locks, gather(uvs)
        except BundleError as error:
            error.add_subject("the uv for the nodes")
            error.hint = (
                "name an index that has it with --default-index or --index, or in your own uv "
                "configuration (indexes of scripts and projects do not count); another version "
                "with --uv-version; or leave it out with --no-uv"
            )
            raise


def _resolve_one(resolver: Resolver, script: Script, target: Target) -> ResolvedLock:
    resolution = resolver.resolve(script, target)
    return ResolvedLock(resolver, resolution, select_artifacts(resolution))


def _find_links(plan: BuildPlan) -> list[str]:
    """Return indexes and find-links that scripts, files, variables and the flags name."""
    locations = [uv_settings.index_locations(script) for script in plan.scripts]
    return [*(url for entries in locations for _, url in entries), *plan.options.find_links]
