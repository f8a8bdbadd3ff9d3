"""Build a bundle from scripts; read `build()` top to bottom, its steps are the modules it calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from offline_bundle.builder.assemble import Parts, assemble_bundle, collect
from offline_bundle.builder.compose import Composition
from offline_bundle.builder.extras import python_builds
from offline_bundle.builder.fetch.credential_helpers import StoredLogins
from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.formats.registry import check_programs
from offline_bundle.builder.headers.headers import Headers
from offline_bundle.builder.included_data import read_included
from offline_bundle.builder.inputs.bundled import bundled_script
from offline_bundle.builder.inputs.git_urls import repository_urls
from offline_bundle.builder.inputs.node_file import read_node
from offline_bundle.builder.inputs.script_targets import find_build_interpreters, pair_up
from offline_bundle.builder.inputs.scripts import Script, notes_for_uv
from offline_bundle.builder.inputs.search import find_scripts
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.model import BuildPlan, BuildProgress, BuildReport, BuildRequest
from offline_bundle.builder.resolve import from_manifest, uv_checks
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.settings import uv_settings
from offline_bundle.builder.resolve.uv_lockfile import Locking, read_script_locks
from offline_bundle.builder.review.plan import has_corrupt_provenance, plan_review
from offline_bundle.builder.strategies import resolve
from offline_bundle.builder.wheels.collect import Collector
from offline_bundle.builder.wheels.missing_imports import missing_imports
from offline_bundle.wheelhouse.derived.diff import metadata_changes
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, read_manifest
from offline_bundle.wheelhouse.runtime.disk.cache_setup import cache_directory
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.names import MANIFEST, SIGNATURE
from offline_bundle.wheelhouse.store.prune import unneeded
from offline_bundle.wheelhouse.store.staging import private_notes
from offline_bundle.wheelhouse.store.writer import BundleWriter

_UNSIGNED = (
    "the signature was removed because the bundle changed; sign it again with --sign or `sign`"
)


def build(request: BuildRequest, uv: str, progress: BuildProgress) -> BuildReport:
    """Create or extend the bundle at `request.output`; *uv* is the executable to use.

    Raises InputError (2), ResolveError (3), FetchError (4), IntegrityError (5), AuditError (10) or
    BundleError (1); the bundle in place is then unchanged.
    """
    plan = plan_build(request, uv)
    waiting = partial(progress.step, f"Waiting for another build of {request.output}")
    with BundleWriter(request.output, on_wait=waiting) as writer:
        progress.step(plan.first_step)
        if writer.current is None:
            threading.Thread(target=_import_slow_modules, daemon=True).start()
        resolved = resolve(plan, writer.current)
        writer.mark_corrupt(resolved.corrupt)
        collector = _collector(plan, writer)
        parts = collect(resolved, collector, progress, with_bytecode=request.with_bytecode)
        parts = _with_attestations(plan, parts, writer, progress)
        import_notes = _check_imports(request, parts)
        composition, audit, notes = assemble_bundle(plan, resolved, parts, writer, progress)
        notes = [*_replaced_scripts(plan.scripts, writer.current), *notes]
        was_signed = (request.output / SIGNATURE).exists()
        changed = writer.commit(composition.manifest, composition.contents, sign=request.sign)
    if was_signed and not (request.output / SIGNATURE).exists():
        notes = [*notes, _UNSIGNED]
    notes = [*notes, *private_notes(request.output)]
    report = _report(request, collector, parts, composition)
    all_notes = (*plan.notes, *resolved.notes, *import_notes, *parts.notes, *notes)
    return replace(report, changed=changed, notes=all_notes, audit=audit)


def _import_slow_modules() -> None:
    """Import, while uv resolves, what a new bundle needs later and an unchanged one does not."""
    import offline_bundle.builder.fetch.transfer  # noqa: PLC0415
    import offline_bundle.wheelhouse.derived.report.report  # noqa: PLC0415
    import offline_bundle.wheelhouse.derived.sbom.sbom  # noqa: F401, PLC0415


def _replaced_scripts(scripts: Sequence[Script], current: Manifest | None) -> Iterator[str]:
    """Yield notes on scripts of the bundle that others of the same name replace."""
    for script in scripts:
        bundled = current.scripts.get(script.name) if current else None
        changes = metadata_changes(bundled, bundled_script(script, {})) if bundled else []
        if changes:
            yield f"{script.path} replaces the script {script.name} of the bundle: " + "; ".join(
                changes
            )


def plan_build(request: BuildRequest, uv: str) -> BuildPlan:
    """Read the scripts and choose their targets.

    Raises InputError (2), ResolveError (3), or OutOfDateError (9) for locks that do not match.
    """
    check_programs(request.formats)
    selection = find_scripts(request.scripts)
    locking = Locking(uv, request.options, request.is_locked)
    headers = Headers(request.header, locking)
    scripts = headers.read(selection.scripts)
    uv_checks.check_settings_readable(scripts, uv)
    current = _locked_manifest(request)
    pairs = _choose_targets(request, scripts, current)
    interpreters = find_build_interpreters(pairs, may_build=bool(request.options.allow_build))
    options = replace(request.options, interpreters=interpreters)
    credentials = _credentials(scripts, options, uv)
    known = current.scripts if current else {}
    unlocked = [s for s in scripts if request.resolver == "uv" and s.name not in known]
    script_locks, lock_notes = read_script_locks(unlocked, locking, credentials)
    notes = [*selection.notes, *headers.notes, *notes_for_uv(scripts)]
    notes += [*uv_settings.configuration_notes(scripts), *lock_notes]
    if not (request.with_python or request.nodes):  # those are checked against existing Pythons
        notes += python_builds.notes_on_unknown(pairs, uv, credentials)
    return BuildPlan(
        request,
        uv,
        scripts,
        pairs,
        options,
        credentials,
        uv_settings.tls_settings(scripts, options.insecure_hosts),
        {**script_locks, **headers.locks},
        plan_review(request.review),
        notes,
        read_included(request.include),
    )


def _locked_manifest(request: BuildRequest) -> Manifest | None:
    """Return the manifest whose locks to take, with `--locked`."""
    is_known = request.is_locked and (request.output / MANIFEST).exists()
    return read_manifest(request.output) if is_known else None


def _choose_targets(
    request: BuildRequest, scripts: Sequence[Script], current: Manifest | None
) -> list[tuple[Script, Target]]:
    """Return all pairs of script and target; *current* has the locks to take."""
    nodes = [read_node(path) for path in request.nodes]

    def pairs_of(scripts: Sequence[Script]) -> list[tuple[Script, Target]]:
        return pair_up(
            scripts,
            request.python_versions,
            request.platforms,
            nodes,
            bundle_python=request.with_python,
        )

    if not request.is_locked:
        return pairs_of(scripts)
    has_flags = bool(request.python_versions or request.platforms or nodes)

    def requested(script: Script) -> list[tuple[Script, Target]]:
        is_known = current is not None and script.name in current.scripts
        return pairs_of([script]) if has_flags or not is_known else []

    return from_manifest.locked_pairs(scripts, current, requested)


def _with_attestations(
    plan: BuildPlan, parts: Parts, writer: BundleWriter, progress: BuildProgress
) -> Parts:
    """Add the attestations that are asked for, and the corrupt ones of the bundle."""
    if not (plan.review and plan.review.attested) and not has_corrupt_provenance(writer):
        return parts
    from offline_bundle.builder.review.attestations import add_attestations  # noqa: PLC0415 - slow

    progress.step("Fetching attestations")
    locks, notes = add_attestations(plan, parts.locks, writer)
    return replace(parts, locks=locks, notes=[*parts.notes, *notes])


def _credentials(scripts: Sequence[Script], options: ResolveOptions, uv: str) -> Credentials:
    """Return those of every index that scripts, flags, uv's configuration or variables name."""
    logins = StoredLogins(uv, use_keyring=uv_settings.uses_keyring(scripts))
    locations = [location for script in scripts for location in uv_settings.index_locations(script)]
    flags = [*options.indexes, *options.find_links, *filter(None, [options.default_index])]
    locations += map(uv_settings.split_index, flags)
    repositories = [url for script in scripts for url in repository_urls(script)]
    return Credentials(locations, os.environ, logins, repositories)


def _collector(plan: BuildPlan, writer: BundleWriter) -> Collector:
    cache = Path(cache_directory())
    return Collector(writer, cache, plan.credentials, plan.uv, plan.options, plan.tls)


def _check_imports(request: BuildRequest, parts: Parts) -> list[str]:
    """Return notes on imports that nothing provides; InputError (exit 2) with strict imports."""
    missing = missing_imports(parts.locks)
    if missing and request.strict_imports:
        raise InputError(
            "the scripts import what their headers do not provide",
            problems=missing,
            hint="add the packages to the dependencies, or build without --strict-imports",
        )
    return missing


def _report(
    request: BuildRequest, collector: Collector, parts: Parts, composition: Composition
) -> BuildReport:
    transferred = [
        file
        for file in collector.fetched.values()
        if not file.from_cache or file.sha256 in parts.prefetched
    ]
    files = composition.manifest.files
    unneeded_files = unneeded(composition.manifest)
    return BuildReport(
        output=request.output,
        locks=tuple(parts.locks),
        files=len(files),
        size=composition.manifest.size,
        fetched=len(transferred),
        fetched_size=sum(file.size for file in transferred),
        from_cache=len(collector.fetched) - len(transferred),
        built=tuple(name for name, is_new in collector.built.items() if is_new),
        kept=tuple(name for name, is_new in collector.built.items() if not is_new),
        changed=False,
        unneeded=len(unneeded_files),
        unneeded_size=sum(files[path].size or 0 for path in unneeded_files),
    )
