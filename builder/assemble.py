"""Fetch or build what was resolved, check it, and assemble the bundle to commit."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from offline_bundle.builder import bytecode, restore
from offline_bundle.builder.compose import Composition, LockedScript, compose
from offline_bundle.builder.extras import python_builds, uv_binaries
from offline_bundle.builder.extras.python_builds import PythonArchive
from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.model import FetchProgress
from offline_bundle.builder.formats.base import FormatContext, formats_of
from offline_bundle.builder.formats.registry import add_formats
from offline_bundle.builder.included_data import add_data
from offline_bundle.builder.model import (
    BuildPlan,
    BuildProgress,
    BuildRequest,
    Resolved,
    ResolvedLock,
)
from offline_bundle.builder.resolve.model import Indexes
from offline_bundle.builder.resolve.uv_process import uv_version_here
from offline_bundle.builder.wheels.collect import Collector, check_closures, source_of
from offline_bundle.wheelhouse.derived.audit_result import Audit
from offline_bundle.wheelhouse.derived.inventories import add_inventories, gather_metadata
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.disk.cache_setup import cache_directory
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.names import SETTINGS
from offline_bundle.wheelhouse.runtime.parallel import gather
from offline_bundle.wheelhouse.store.shipped import bundle_files
from offline_bundle.wheelhouse.store.writer import BundleWriter

# The last second that a manifest's timestamp can hold: 9999-12-31T23:59:59Z.
_LAST_SECOND = 253402300799


@dataclass(frozen=True)
class Parts:
    """What goes into the bundle: fetched or built, and verified."""

    locks: Sequence[LockedScript]
    uvs: Sequence[uv_binaries.NodeUv]
    pythons: Sequence[PythonArchive]
    restored: Mapping[str, bytes | Path]
    """Files to restore that no lock names: path in the bundle -> content."""
    prefetched: set[str]
    """sha256 of the files that a resolver fetched."""
    notes: Sequence[str]


def collect(
    resolved: Resolved, collector: Collector, progress: BuildProgress, *, with_bytecode: bool
) -> Parts:
    """Fetch or build everything, and check it; compile wheels meanwhile."""
    with ExitStack() as stack:
        transfer: FetchProgress = progress
        if with_bytecode and not resolved.locked:  # a locked manifest decides what is compiled
            cache = DownloadCache(collector.cache_root)
            early = bytecode.EarlyCompilation(transfer, resolved.locks, cache)
            transfer = stack.enter_context(early)
        return _collect(resolved, collector, progress, transfer)


def _collect(
    resolved: Resolved, collector: Collector, progress: BuildProgress, transfer: FetchProgress
) -> Parts:
    current = collector.writer.current
    indexes = [_find_indexes(lock, collector) for lock in resolved.locks]
    uv_indexes = [_find_indexes(lock, collector) for lock in resolved.uv]
    prefetched = _prefetch(resolved, collector)
    pythons_to_restore = restore.pythons_to_restore(current, resolved.corrupt)
    locks = (*resolved.locks, *resolved.uv)
    artifacts = [artifact for lock in locks for artifact in lock.artifacts]
    artifacts += [*resolved.orphaned_wheels, *pythons_to_restore.values()]
    collector.fetch(artifacts, transfer)
    if resolved.pythons:
        keys = sorted({build.key for build in resolved.pythons.values()})
        progress.step(f"Fetching {', '.join(keys)}")
    pythons = python_builds.fetch_archives(
        collector.uv, resolved.pythons, collector.cache_root, collector.credentials
    )
    progress.step(f"Checking and writing {collector.writer.directory}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # taking uv out of its wheel takes a third of a second each
        unpacking = [
            pool.submit(_node_uv, collector, lock, index)
            for lock, index in zip(resolved.uv, uv_indexes, strict=True)
        ]
        locked = [
            collector.lock(lock.resolution, lock.artifacts, index)
            for lock, index in zip(resolved.locks, indexes, strict=True)
        ]
        notes = dict.fromkeys((*collector.notes, *check_closures(locked, current)))
        uvs = gather(unpacking)
    restored = {
        **collector.orphaned_wheels(resolved.orphaned_wheels),
        **{
            path: collector.fetched[artifact.location].path
            for path, artifact in pythons_to_restore.items()
        },
    }
    return Parts(locked, uvs, pythons, restored, prefetched, tuple(notes))


def assemble_bundle(
    plan: BuildPlan,
    resolved: Resolved,
    parts: Parts,
    writer: BundleWriter,
    progress: BuildProgress,
) -> tuple[Composition, Audit | None, list[str]]:
    """Compose the bundle, add its formats, review it, and add its inventories.

    Return what to commit, the audit, and notes for the user. Raises AuditError (10) for an open
    vulnerability or a broken rule.
    """
    composition = _compose(plan, resolved, parts, writer)
    audit = _audit(plan, composition, progress)  # before any of the files is run
    composition, bytecode_notes = _with_bytecode(plan, resolved, composition, writer, progress)
    composition, notes = _with_formats(plan, composition, writer, progress)
    metadata = partial(
        gather_metadata, composition.manifest, composition.contents, writer.directory
    )
    manifest, inventories = add_inventories(composition.manifest, metadata, writer.current, audit)
    if audit is not None and plan.review is not None:
        plan.review.criteria.check_size(audit, manifest)
    if resolved.locked:
        restore.check_environments(resolved.locked, manifest, notes)
        restore.check_same_files(resolved.locked, manifest)
        inventories = inventories or restore.restore_inventories(
            manifest, metadata, resolved.corrupt
        )
    composition = replace(composition, manifest=manifest).adding(inventories)
    return composition, audit, [*bytecode_notes, *notes]


def _compose(
    plan: BuildPlan, resolved: Resolved, parts: Parts, writer: BundleWriter
) -> Composition:
    """Compose the bundle, with data; with `--locked`, its files must be those of the locks."""
    composition = compose(
        resolved.base,
        parts.locks,
        parts.uvs,
        parts.pythons,
        launcher=_launcher(plan.request, parts, writer.current),
        epoch=_epoch(resolved.locked),
    )
    names = [script.name for script in plan.scripts]
    composition = add_data(composition.adding(parts.restored), plan.data, names, writer)
    if resolved.locked:
        restore.check_same_files(resolved.locked, composition.manifest)
    return composition


def _launcher(request: BuildRequest, parts: Parts, current: Manifest | None) -> Mapping[str, bytes]:
    """Return the files that are the same in every bundle of this version."""
    with_cache = "cache" in request.formats or "cache" in formats_of(current)
    has_pythons = bool(parts.pythons or (current and current.pythons))
    launcher = bundle_files(with_cache=with_cache, with_pythons=has_pythons)
    if request.settings:
        launcher = {**launcher, SETTINGS: request.settings.read_bytes()}
    return launcher


def _audit(plan: BuildPlan, composition: Composition, progress: BuildProgress) -> Audit | None:
    """Audit the bundle if that was asked for; raises AuditError (10)."""
    if plan.review is None or not plan.review.options.needs_audit:
        return None
    from offline_bundle.builder.review.review import review  # noqa: PLC0415 - slow to import

    progress.step("Reviewing")
    return review(plan, plan.review, composition)


def _with_bytecode(
    plan: BuildPlan,
    resolved: Resolved,
    composition: Composition,
    writer: BundleWriter,
    progress: BuildProgress,
) -> tuple[Composition, Sequence[str]]:
    """Add the bytecode of the wheels, or remove it; also return notes for the user."""
    if not plan.request.with_bytecode:
        return bytecode.without_bytecode(composition), ()
    cache = Path(cache_directory()) / bytecode.FOLDER
    adder = bytecode.BytecodeAdder(writer, cache, progress.step, resolved.locked)
    return adder.add(composition), adder.notes


def _with_formats(
    plan: BuildPlan, composition: Composition, writer: BundleWriter, progress: BuildProgress
) -> tuple[Composition, list[str]]:
    """Add the formats that are missing; also return notes for the user."""

    def context() -> FormatContext:
        progress.step("Preparing environments and caches")
        return FormatContext(
            writer.directory, writer.work_folder, plan.uv, uv_version_here(), plan.options
        )

    return add_formats(plan.request.formats, composition, writer.current, context)


def _prefetch(resolved: Resolved, collector: Collector) -> set[str]:
    """Let the resolvers fetch what only they can; return the sha256 of these files."""
    prefetched: set[str] = set()
    for lock in (*resolved.locks, *resolved.uv):
        missing = [artifact for artifact in lock.artifacts if not collector.find_wheel(artifact)]
        prefetched |= lock.resolver.prefetch(lock.resolution, missing)
    return prefetched


def _find_indexes(lock: ResolvedLock, collector: Collector) -> Future[Indexes] | None:
    """Find out during the downloads which index each package came from.

    None where the bundle has all wheels, and so knows their indexes.
    """
    if all(collector.find_wheel(artifact) for artifact in lock.artifacts):
        return None
    answer: Future[Indexes] = Future()

    def find() -> None:
        try:
            answer.set_result(lock.resolver.index_of(lock.resolution))
        except BaseException as error:  # noqa: BLE001 - raised where the result is read
            answer.set_exception(error)

    # not a daemon: after an error elsewhere, uv ends before its temporary folder is removed
    threading.Thread(target=find).start()
    return answer


def _node_uv(
    collector: Collector, lock: ResolvedLock, indexes: Future[Indexes] | None
) -> uv_binaries.NodeUv:
    [artifact] = lock.artifacts
    index = indexes.result().urls.get("uv") if indexes else None
    wheel = collector.fetched[artifact.location].path
    platform = lock.resolution.target.platform
    return uv_binaries.unpack(platform, artifact, wheel, source_of(artifact, index))


def _epoch(locked: Manifest | None) -> int | None:
    """Return what dates the bundle: SOURCE_DATE_EPOCH, the locks' date, or None: newest file."""
    epoch = _source_date_epoch()
    return restore.timestamp(locked) if epoch is None and locked else epoch


def _source_date_epoch() -> int | None:
    """Return SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/)."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    is_number = re.fullmatch(r"[0-9]{1,12}", text)
    if not is_number or int(text) > _LAST_SECOND:
        raise InputError(
            f"SOURCE_DATE_EPOCH is not a number of seconds since 1970: {text}",
            hint="set it to whole seconds (not milliseconds) before the year 10000, or unset it",
        )
    return int(text)
