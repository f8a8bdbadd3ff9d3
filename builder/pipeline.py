"""The build, from scripts to a bundle: one function to read top to bottom, and its steps below it."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from offline_bundle.builder.extras import python_builds, uv_binaries
from offline_bundle.builder.fetch.credential_helpers import StoredLogins
from offline_bundle.builder.fetch.credentials import Credentials, redact
from offline_bundle.builder.inputs.node_file import read_node
from offline_bundle.builder.inputs.plan import find_build_interpreters, older_pythons, pair_up
from offline_bundle.builder.inputs.scripts import Script, notes_for_uv, read_scripts
from offline_bundle.builder.inputs.uv_lockfile import ScriptLock, check_files, read_script_locks
from offline_bundle.builder.resolve import uv_checks, uv_settings
from offline_bundle.builder.resolve.model import Resolution, ResolveOptions, Resolver
from offline_bundle.builder.resolve.uv import UvResolver
from offline_bundle.wheelhouse.runtime.cache_setup import cache_directory
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.names import MANIFEST, SIGNATURE
from offline_bundle.wheelhouse.runtime.parallel import gather
from offline_bundle.wheelhouse.store.writer import BundleWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from offline_bundle.builder.compose import LockedScript
    from offline_bundle.builder.fetch.model import FetchProgress, TlsSettings
    from offline_bundle.builder.inputs.targets import Target
    from offline_bundle.builder.resolve.model import Artifact
    from offline_bundle.wheelhouse.runtime.manifest import Manifest

# uv processes side by side: they wait for the index more than they compute.
_RESOLVERS = 8
# Seconds in which only they are being started: two threads that compute side by side hinder one another.
_HEAD_START = 0.03
_UNSIGNED = "the bundle carries no signature any more: that was over what it held before. Sign it: --sign, or `sign`"


@dataclass(frozen=True)
class BuildRequest:
    """What the user asks for."""

    scripts: tuple[Path, ...]
    output: Path
    python_versions: tuple[str, ...] = ()
    """Minors such as "3.12"; empty: chosen from each script's requires-python."""
    platforms: tuple[str, ...] = ()
    """In uv's words; empty: this machine."""
    nodes: tuple[Path, ...] = ()
    """Descriptions of nodes (`offline_bundle.builder.inputs.node_file`): then the targets are theirs."""
    options: ResolveOptions = field(default_factory=ResolveOptions)
    resolver: Literal["uv", "pip-tools"] = "uv"
    uv_version: str | None = None
    """The uv to put in for the nodes; None leaves it out."""
    is_uv_default: bool = False
    """Whether that version was not asked for: then it replaces no other in the bundle."""
    is_locked: bool = False
    """Resolve nothing anew: go by the locks in the bundle, or by a uv lock beside a script."""
    with_python: bool = False
    """Whether to bring an interpreter for each target."""
    formats: tuple[str, ...] = ("index",)
    """Names in `offline_bundle.builder.formats.base`; those that the bundle has already are kept up in any case."""
    sign: Callable[[bytes], bytes] | None = None
    """Signs the manifest (`offline_bundle.wheelhouse.signing.signing_with`)."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did."""

    output: Path
    locks: tuple[LockedScript, ...]
    files: int
    """Files in the bundle now."""
    size: int
    """Their bytes."""
    fetched: int
    """Files that came over the network."""
    fetched_size: int
    from_cache: int
    """Files that an earlier build had fetched already."""
    built: tuple[str, ...]
    """Names of the wheels built from source."""
    changed: bool
    """False when the bundle was up to date already."""
    notes: tuple[str, ...] = ()
    """What the user should know, such as yanked versions and uv's other warnings."""


class BuildProgress(Protocol):
    """Somebody who is told what happens."""

    def step(self, text: str) -> None:
        """A step begins."""
        ...

    def waiting(self, directory: Path) -> None:
        """Another build holds the bundle."""
        ...

    @property
    def transfer(self) -> FetchProgress:
        """Who is told of the downloads."""
        ...


def build(request: BuildRequest, uv: str, progress: BuildProgress) -> BuildReport:
    """Make or extend the bundle at `request.output`; *uv* is the uv executable to resolve and build with.

    Raises InputError (2), ResolveError (3), FetchError (4), IntegrityError (5) or BundleError (1); the bundle in place
    is then as it was.
    """
    prepared = prepare_request(request, uv)
    with BundleWriter(request.output, on_wait=lambda: progress.waiting(request.output)) as writer:
        progress.step(f"Resolving {', '.join(script.path.name for script in prepared.scripts)}")
        threading.Thread(
            target=_get_ready, args=(prepared.pairs, writer.current, request.output), daemon=True
        ).start()
        resolved = resolve_request(request, prepared, uv, writer.current)
        from offline_bundle.builder.assemble import (  # noqa: PLC0415 - see _get_ready
            Collector,
            assemble_bundle,
            collect,
            workshop_of,
        )

        writer.distrust(resolved.damaged)
        collector = Collector(
            writer,
            Path(cache_directory()),
            prepared.credentials,
            uv,
            prepared.options,
            prepared.tls,
        )
        parts = collect(resolved, collector, progress)
        workshop = partial(workshop_of, writer, uv, prepared.options, progress)
        composition, notes = assemble_bundle(request, resolved, parts, writer.current, workshop)
        was_signed = (request.output / SIGNATURE).exists()
        changed = writer.commit(composition.manifest, composition.contents, sign=request.sign)
    if was_signed and not (request.output / SIGNATURE).exists():
        notes = [*notes, _UNSIGNED]
    transferred = [
        file
        for file in collector.fetched.values()
        if not file.from_cache or file.sha256 in parts.brought
    ]
    files = composition.manifest.files
    return BuildReport(
        output=request.output,
        locks=tuple(parts.locks),
        files=len(files),
        size=sum(file.size or 0 for file in files.values()),
        fetched=len(transferred),
        fetched_size=sum(file.size for file in transferred),
        from_cache=len(collector.fetched) - len(transferred),
        built=tuple(collector.built),
        changed=changed,
        notes=(*prepared.notes, *resolved.notes, *parts.notes, *notes),
    )


def _get_ready(
    pairs: Iterable[tuple[Script, Target]], current: Manifest | None, directory: Path
) -> None:
    """Do what comes after the resolution, and waits for none of its results, while the resolver runs.

    Nothing depends on it: what was read or rendered here is kept by its content, and asked for again.
    """
    time.sleep(_HEAD_START)
    from offline_bundle.builder.assemble import read_ahead  # noqa: PLC0415 - a tenth of a second, better spent here
    from offline_bundle.builder.fetch.pool import preload_http  # noqa: PLC0415 - the same

    if current is not None:
        read_ahead(pairs, current, directory)
    preload_http()
    import offline_bundle.wheelhouse.derived.report.report  # noqa: PLC0415 - the same
    import offline_bundle.wheelhouse.derived.sbom  # noqa: F401, PLC0415 - the same


@dataclass(frozen=True)
class Prepared:
    """A request read and planned, before anything is asked of an index."""

    scripts: tuple[Script, ...]
    pairs: Sequence[tuple[Script, Target]]
    options: ResolveOptions
    credentials: Credentials
    tls: TlsSettings
    script_locks: Mapping[str, ScriptLock]
    """uv's locks beside the scripts, by the scripts' names."""
    notes: Sequence[str] = ()


def prepare_request(request: BuildRequest, uv: str) -> Prepared:
    """Read the scripts and plan their targets.

    Raises InputError (2), ResolveError (3), or, for locks that do not answer the request, OutOfDateError (9).
    """
    scripts = read_scripts(request.scripts)
    uv_checks.check_settings_readable(scripts, uv)
    nodes = [read_node(path) for path in request.nodes]
    current = None
    if request.is_locked:
        from offline_bundle.builder.resolve import from_manifest  # noqa: PLC0415 - slow to import

        current = read_manifest(request.output) if (request.output / MANIFEST).exists() else None
        has_flags = bool(request.python_versions or request.platforms or nodes)

        def plan(script: Script) -> list[tuple[Script, Target]]:
            is_known = current is not None and script.name in current.scripts
            asks = has_flags or not is_known
            return (
                pair_up(
                    [script],
                    request.python_versions,
                    request.platforms,
                    nodes,
                    bundle_python=request.with_python,
                )
                if asks
                else []
            )

        pairs = from_manifest.locked_pairs(scripts, current, plan)
    else:
        pairs = pair_up(
            scripts,
            request.python_versions,
            request.platforms,
            nodes,
            bundle_python=request.with_python,
        )
    options = replace(
        request.options,
        interpreters=find_build_interpreters(pairs, may_build=bool(request.options.allow_build)),
    )
    by_uv = scripts if request.resolver == "uv" else ()
    free = [script for script in by_uv if current is None or script.name not in current.scripts]
    credentials = _credentials(scripts, options, uv)
    script_locks, notes = read_script_locks(
        free, uv, options, credentials, is_locked=request.is_locked
    )
    tls = uv_settings.tls_settings(scripts, options.insecure_hosts)
    notes = [*notes_for_uv(scripts), *notes]
    if not (request.with_python or nodes):  # those are held against the Pythons that there are
        notes += python_builds.notes_on_unknown(pairs, uv, credentials)
    return Prepared(scripts, pairs, options, credentials, tls, script_locks, notes)


@dataclass(frozen=True)
class Resolved:
    """Everything that is to go into the bundle, named and not yet fetched."""

    resolver: Resolver
    resolutions: Sequence[Resolution]
    choices: Sequence[tuple[Artifact, ...]]
    """Of each resolution."""
    uv_resolver: Resolver
    uv_resolutions: Sequence[Resolution]
    uv_choices: Sequence[Artifact]
    offers: Mapping[Target, python_builds.PythonBuild]
    """The interpreters to bring."""
    before: Manifest | None
    """What the bundle holds, but for what has to be made again."""
    damaged: frozenset[str] = frozenset()
    """Files of the bundle that are to be brought back."""
    leftovers: Sequence[Artifact] = ()
    """Wheels among them that no script needs."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, such as yanked versions and uv's other warnings."""
        texts = [
            f"{entry.script.path}: {text}" for entry in self.resolutions for text in entry.warnings
        ]
        texts += [
            f"{entry.script.path.name} itself holds a password: it goes into the bundle as it is"
            for entry in self.resolutions
            if redact(entry.script.block) != entry.script.block
        ]
        return tuple(dict.fromkeys(texts))


def resolve_request(
    request: BuildRequest, prepared: Prepared, uv: str, current: Manifest | None
) -> Resolved:
    """Resolve all scripts for all targets, and what the bundle in force (*current*) lacks of uv for the nodes.

    Raises ResolveError (3), FetchError (4), IntegrityError (5), or with `is_locked` OutOfDateError (9).
    """
    scripts, options, credentials = prepared.scripts, prepared.options, prepared.credentials
    resolver, uv_resolver = _resolvers(request, prepared, uv)
    damaged: frozenset[str] = frozenset()
    leftovers: Sequence[Artifact] = ()
    lacking = python_builds.lacking(prepared.pairs, current) if request.with_python else {}
    if request.is_locked:
        from offline_bundle.builder.resolve import from_manifest  # noqa: PLC0415 - slow to import

        settled = {
            target for script, target in prepared.pairs if _is_settled(request, current, script)
        }
        from_manifest.refuse_lacking_pythons(target.name for target in lacking if target in settled)
    offers = python_builds.choose_archives(uv, lacking, credentials)
    fresh = [
        target for script, target in prepared.pairs if not _is_settled(request, current, script)
    ]
    uv_targets = uv_binaries.lacking(
        fresh,
        request.uv_version,
        current,
        is_default=request.is_uv_default,
        with_static=request.with_python,
    )
    uv_pairs = [
        (uv_binaries.uv_requirement_script(request.uv_version, scripts), target) for target in uv_targets
    ]
    before = current
    if request.is_locked and current:
        from offline_bundle.builder.resolve import from_manifest  # noqa: PLC0415 - slow to import

        damaged = from_manifest.damaged_files(request.output)
        before = from_manifest.without_lost_forms(current, damaged)
        leftovers = from_manifest.leftovers(current, scripts, damaged)
        places = from_manifest.local_places(_places(scripts, options))
        resolver = from_manifest.LockedResolver(current, request.output, damaged, places, resolver)
        uv_resolver = from_manifest.LockedUv(current, uv_resolver)
        wanted = None if request.is_uv_default else request.uv_version
        python = prepared.pairs[0][1].python
        lost = from_manifest.uv_to_restore(current, damaged, python, wanted=wanted)
        uv_pairs += [(uv_binaries.uv_requirement_script(version, scripts), target) for version, target in lost]
    resolutions, uv_resolutions = _resolve(resolver, prepared.pairs, uv_resolver, uv_pairs)
    from offline_bundle.builder.resolve.select import check_builds_allowed, select_artifacts  # noqa: PLC0415 - see _get_ready

    choices = [select_artifacts(resolution) for resolution in resolutions]
    check_builds_allowed(zip(resolutions, choices, strict=True), options.allows)
    check_files(prepared.script_locks, zip(resolutions, choices, strict=True))
    uv_choices = [select_artifacts(resolution)[0] for resolution in uv_resolutions]
    return Resolved(
        resolver,
        resolutions,
        choices,
        uv_resolver,
        uv_resolutions,
        uv_choices,
        offers,
        before,
        damaged,
        leftovers,
    )


def _is_settled(request: BuildRequest, current: Manifest | None, script: Script) -> bool:
    """Whether the bundle's own locks decide everything about *script*."""
    return request.is_locked and current is not None and script.name in current.scripts


def _places(scripts: Sequence[Script], options: ResolveOptions) -> list[str]:
    """Folders and pages of wheels that the scripts and the flags name."""
    tables = [
        uv_settings.absolute_settings(script.settings, script.path.resolve().parent)
        for script in scripts
    ]
    named = [
        place for table in tables for place in table.get("find-links", []) if isinstance(place, str)
    ]
    return [*named, *options.find_links]


def _resolvers(request: BuildRequest, prepared: Prepared, uv: str) -> tuple[Resolver, Resolver]:
    """Who resolves the scripts, and who the uv for the nodes: to that, dates and constraints do not apply."""
    options = prepared.options
    of_uv = replace(options, exclude_newer=None, constraints=())
    if request.resolver == "pip-tools":
        from offline_bundle.builder.fetch.cache import DownloadCache  # noqa: PLC0415 - slow to import
        from offline_bundle.builder.resolve.pip_tools import PipToolsResolver  # noqa: PLC0415 - the same

        cache = DownloadCache(Path(cache_directory()))
        return PipToolsResolver(options, cache), PipToolsResolver(of_uv, cache)
    pins = {name: lock.constraints for name, lock in prepared.script_locks.items()}
    # What the user chose is kept to; and what is to be built or brought is planned for the Python chosen first.
    is_chosen = request.python_versions or request.nodes or request.is_locked or request.with_python
    others = None if is_chosen or options.allow_build else older_pythons
    return UvResolver(uv, options, prepared.credentials, pins, others), UvResolver(
        uv, of_uv, prepared.credentials
    )


def _credentials(scripts: Sequence[Script], options: ResolveOptions, uv: str) -> Credentials:
    """Those of every index that the scripts, the flags, uv's configuration or its environment name."""
    ask = StoredLogins(uv, use_keyring=uv_settings.uses_keyring(scripts))
    locations = [
        location for script in scripts for location in uv_settings.index_locations(script.settings)
    ]
    flags = [*options.indexes, *options.find_links, *filter(None, [options.default_index])]
    return Credentials.for_indexes(
        [*locations, *map(uv_settings.split_index, flags)], os.environ, ask
    )


def _resolve(
    resolver: Resolver,
    pairs: Sequence[tuple[Script, Target]],
    uv_resolver: Resolver,
    uv_pairs: Sequence[tuple[Script, Target]],
) -> tuple[list[Resolution], list[Resolution]]:
    """All locks, resolved side by side: of the scripts, and of the uv for the nodes."""
    with ThreadPoolExecutor(_RESOLVERS) as pool:
        of_scripts = [pool.submit(resolver.resolve, script, target) for script, target in pairs]
        of_uv = [pool.submit(uv_resolver.resolve, script, target) for script, target in uv_pairs]
        resolutions = gather(of_scripts)
        try:
            return resolutions, gather(of_uv)
        except BundleError as error:
            raise type(error)(
                f"the uv for the nodes: {error.message}",
                problems=error.problems,
                hint="name another one with --uv-version, or leave it out with --no-uv",
            ) from error
