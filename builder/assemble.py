"""From what was resolved to what is committed: fetched or built, checked, and put together.

Not loaded before uv runs: what comes after the resolution is slow to import.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.builder.compose import Composition, LockedScript, compose
from offline_bundle.builder.extras import python_builds, uv_binaries
from offline_bundle.builder.formats.base import FormatContext, add_formats, formats_of
from offline_bundle.builder.resolve import from_manifest
from offline_bundle.builder.resolve.uv_process import uv_version_here
from offline_bundle.builder.wheels.collect import Collector, Index, check_closures, source_of
from offline_bundle.wheelhouse.derived.inventories import add_inventories, gather_metadata
from offline_bundle.wheelhouse.derived.simple_index import render_index
from offline_bundle.wheelhouse.derived.wheel_metadata import parse_metadata
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.parallel import gather
from offline_bundle.wheelhouse.store.shipped import bundle_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from offline_bundle.builder.extras.python_builds import PythonArchive
    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.inputs.targets import Target
    from offline_bundle.builder.pipeline import BuildProgress, BuildRequest, Resolved
    from offline_bundle.builder.resolve.model import Artifact, Resolution, ResolveOptions, Resolver
    from offline_bundle.wheelhouse.runtime.manifest import Manifest
    from offline_bundle.wheelhouse.store.writer import BundleWriter

__all__ = ["Collector", "Parts", "collect", "assemble_bundle", "read_ahead", "workshop_of"]


def read_ahead(pairs: Iterable[tuple[Script, Target]], current: Manifest, directory: Path) -> None:
    """Read and render what the bundle at *directory* holds for *pairs*: most builds of it ask for the same again.

    Nothing is checked or decided here, and what cannot be read is left to those who need it.
    """
    for script, target in pairs:
        lock = (
            current.scripts[script.name].locks.get(target.name)
            if script.name in current.scripts
            else None
        )
        for package in lock.packages.values() if lock and target.tag_set else ():
            with suppress(OSError, BundleError):
                parse_metadata((directory / f"{package.wheel}.metadata").read_bytes())
    render_index(current.files)


@dataclass(frozen=True)
class Parts:
    """What goes into the bundle: fetched or built, verified, and at hand."""

    locks: Sequence[LockedScript]
    uvs: Sequence[uv_binaries.NodeUv]
    pythons: Sequence[PythonArchive]
    others: Mapping[str, bytes | Path]
    """Files to be brought back that no lock names: path in the bundle -> content."""
    brought: set[str]
    """sha256 of the files that the resolver had to fetch itself."""
    notes: Sequence[str]


def collect(resolved: Resolved, collector: Collector, progress: BuildProgress) -> Parts:
    """Fetch or build everything, and check it."""
    current = collector.writer.current
    pairs = list(zip(resolved.resolutions, resolved.choices, strict=True))
    uv_pairs = list(zip(resolved.uv_resolutions, resolved.uv_choices, strict=True))
    indexes = [_ask_indexes(resolved.resolver, *pair, collector) for pair in pairs]
    uv_indexes = [
        _ask_indexes(resolved.uv_resolver, found, [choice], collector) for found, choice in uv_pairs
    ]
    brought = _bring(resolved, collector)
    restored = from_manifest.pythons_to_restore(current, resolved.damaged)
    wanted = [*(choice for group in resolved.choices for choice in group), *resolved.uv_choices]
    collector.fetch([*wanted, *resolved.leftovers, *restored.values()], progress.transfer)
    if resolved.offers:
        progress.step(
            f"Fetching {', '.join(sorted({offer.key for offer in resolved.offers.values()}))}"
        )
    pythons = python_builds.fetch_archives(
        collector.uv, resolved.offers, collector.cache_root, collector.credentials
    )
    progress.step(f"Checking and writing {collector.writer.directory}")
    with ThreadPoolExecutor(
        os.cpu_count()
    ) as pool:  # taking uv out of its wheels costs a third of a second each
        unpacking = [
            pool.submit(_node_uv, collector, *pair, index)
            for pair, index in zip(uv_pairs, uv_indexes, strict=True)
        ]
        locks = [collector.lock(*pair, index) for pair, index in zip(pairs, indexes, strict=True)]
        notes = check_closures(locks, current)
        uvs = gather(unpacking)
    archives = {path: collector.fetched[choice.location].path for path, choice in restored.items()}
    return Parts(
        locks, uvs, pythons, {**collector.leftovers(resolved.leftovers), **archives}, brought, notes
    )


def assemble_bundle(
    request: BuildRequest,
    resolved: Resolved,
    parts: Parts,
    current: Manifest | None,
    workshop: Callable[[], FormatContext],
) -> tuple[Composition, Sequence[str]]:
    """Compose the bundle, with its other forms and its inventories; the second result is what the user should know."""
    has_pythons = bool(parts.pythons or (current and current.pythons))
    with_cache = "cache" in request.formats or "cache" in formats_of(current)
    files = bundle_files(with_cache=with_cache, with_pythons=has_pythons)
    composition = compose(
        resolved.before,
        parts.locks,
        parts.uvs,
        parts.pythons,
        launcher=files,
        epoch=_epoch(request, current),
    )
    composition = replace(composition, contents={**composition.contents, **parts.others})
    if request.is_locked and current:
        from_manifest.refuse_other_files(current, composition.manifest)  # before any of it runs
    composition, notes = add_formats(request.formats, composition, current, workshop)
    metadata = partial(gather_metadata, composition.manifest, composition.contents, request.output)
    manifest, inventories = add_inventories(composition.manifest, metadata, current)
    if request.is_locked and current:
        from_manifest.refuse_lost_environments(current, manifest, notes)
        from_manifest.refuse_other_files(current, manifest)
        inventories = inventories or from_manifest.restore_inventories(
            manifest, metadata, resolved.damaged
        )
    return replace(
        composition, manifest=manifest, contents={**composition.contents, **inventories}
    ), notes


def workshop_of(
    writer: BundleWriter, uv: str, options: ResolveOptions, progress: BuildProgress
) -> FormatContext:
    """Where other forms are made; asked for only when one has to be."""
    progress.step("Making what is ready to run")
    return FormatContext(writer.directory, writer.workplace, uv, uv_version_here(), options)


def _bring(resolved: Resolved, collector: Collector) -> set[str]:
    """Have the resolvers fetch what they must fetch themselves, of what the bundle does not hold; the sha256 of it."""
    brought: set[str] = set()
    for resolution, choices in zip(resolved.resolutions, resolved.choices, strict=True):
        brought |= resolved.resolver.prefetch(
            resolution, [choice for choice in choices if not collector.holds(choice)]
        )
    for resolution, choice in zip(resolved.uv_resolutions, resolved.uv_choices, strict=True):
        brought |= resolved.uv_resolver.prefetch(resolution, [choice])
    return brought


def _ask_indexes(
    resolver: Resolver, resolution: Resolution, choices: Sequence[Artifact], collector: Collector
) -> Future[Index] | None:
    """Ask, while the files come in, which index each package came from; not where the bundle knows it already."""
    if all(collector.holds(choice) for choice in choices):
        return None
    answer: Future[Index] = Future()

    def ask() -> None:
        try:
            answer.set_result(resolver.index_of(resolution))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the answer gets it
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return answer


def _node_uv(
    collector: Collector, resolution: Resolution, choice: Artifact, index: Future[Index] | None
) -> uv_binaries.NodeUv:
    found = index.result().get("uv") if index else None
    wheel = collector.fetched[choice.location].path
    return uv_binaries.unpack(resolution.target.platform, choice, wheel, source_of(choice, found))


def _epoch(request: BuildRequest, current: Manifest | None) -> int | None:
    """What dates the bundle: SOURCE_DATE_EPOCH, or the date that the locks have already, or (None) the newest file."""
    epoch = _source_date_epoch()
    return (
        from_manifest.timestamp(current)
        if epoch is None and request.is_locked and current
        else epoch
    )


def _source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), seconds since 1970."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        hint = "give it as seconds since 1970, or unset it"
        raise InputError(f"SOURCE_DATE_EPOCH is not a number: {text}", hint=hint) from None
