"""Unpack archives into a bundle, new or live, and merge what does not descend from it.

unpack([Path("bundle.tar")], Path("share/bundle"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from offline_bundle.wheelhouse.derived.complete import INVENTORIES
from offline_bundle.wheelhouse.derived.inventories import add_inventories, gather_metadata
from offline_bundle.wheelhouse.runtime.archive.extract import extract_entries, intact_files
from offline_bundle.wheelhouse.runtime.archive.open import open_archives
from offline_bundle.wheelhouse.runtime.archive.reader import Archive
from offline_bundle.wheelhouse.runtime.archive.unpack import (
    archive_relation,
    raise_missing,
    raise_rollback,
)
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.bundle.unreadable import unreadable
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.runtime.errors import IntegrityError, translate_os_errors
from offline_bundle.wheelhouse.runtime.names import INCOMING, SIGNATURE
from offline_bundle.wheelhouse.store.writer import BundleWriter
from offline_bundle.wheelhouse.transport.merge import (
    Side,
    check_immutable_files,
    merge,
    merge_history,
)
from offline_bundle.wheelhouse.transport.open import check_wheel_names


@dataclass(frozen=True)
class UnpackReport:
    """Result of unpacking one archive."""

    archive: str
    relation: str
    """How its bundle relates to the one in place: new, same, newer, older, or other (merged)."""
    changed: bool
    """False if the bundle in place was the same already."""
    unsigned: bool
    """True if the signature was removed, because a merged manifest is a new one."""


@dataclass(frozen=True)
class _Options:
    allow_rollback: bool
    replace_scripts: bool
    progress: Callable[[int], None] | None


@dataclass(frozen=True)
class _Plan:
    """The state that the bundle is to have."""

    relation: str
    manifest: Manifest
    document: bytes
    signature: bytes | None
    pages: Mapping[str, bytes]
    """Rendered pages of a merged bundle: contents by path."""
    sides: tuple[Side, Side] | None = None
    """The two bundles of a merge, the one in place first."""


def unpack(  # noqa: PLR0913 - one parameter per option
    files: Sequence[Path],
    output: Path,
    *,
    allow_rollback: bool = False,
    replace_scripts: bool = False,
    check_signature: Callable[[bytes, bytes | None], object] | None = None,
    check_archive: Callable[[Archive], None] | None = None,
    progress: Callable[[int], None] | None = None,
    notify: Callable[[str], object] | None = None,
) -> tuple[UnpackReport, ...]:
    """Unpack the archives in *files* into the bundle at *output*, with one commit for each.

    *check_signature* is called with each manifest and its signature before anything is written,
    then *check_archive* with each archive.
    If both bundles have a script, the incoming one is taken if its bundle descends from the other,
    or with *replace_scripts*; then a bundle in place that cannot be read is replaced too. *notify*
    gets a line then, and while another writer is at work. Raises InputError (2), IntegrityError
    (5), BundleError (1); the bundle in place is then unchanged, or contains whole archives of those
    given.
    """
    notify = notify or (lambda _: None)
    with translate_os_errors(output), open_archives(files) as archives:
        for archive in archives:
            check_wheel_names(archive)
            if check_signature is not None:
                check_signature(archive.document, archive.signature)
        for archive in archives:
            if check_archive is not None:
                check_archive(archive)
        options = _Options(allow_rollback, replace_scripts, progress)

        def replace_unreadable(error: IntegrityError) -> None:
            if not replace_scripts:
                raise unreadable(output, error) from None
            notify(f"{output} is replaced: {error.message}")

        on_wait = partial(notify, f"Waiting for another writer of {output}")
        writer = BundleWriter(output, on_wait=on_wait, on_unreadable=replace_unreadable)
        with writer, SafeFolder(output) as folder:
            return tuple(_unpack_one(archive, writer, folder, options) for archive in archives)


def _unpack_one(
    archive: Archive, writer: BundleWriter, folder: SafeFolder, options: _Options
) -> UnpackReport:
    plan = _make_plan(archive, writer, options)
    wanted = plan.manifest.contents()
    corrupt = wanted.keys() - intact_files(folder, wanted, options.progress)
    needed = corrupt - plan.pages.keys()
    entries = [
        entry
        for entry in archive.entries
        if entry.path in needed and (entry.sha256, entry.size) == wanted[entry.path]
    ]
    if missing := sorted(needed - {entry.path for entry in entries}):
        raise_missing(archive, writer.directory, missing)
    staged = extract_entries(archive, entries, folder, options.progress)
    contents: dict[str, bytes | Path] = {
        **plan.pages,
        **{path: writer.directory / file for path, file in staged.items()},
    }
    if plan.sides is not None:
        plan, contents = _finish_merge(plan, plan.sides, contents, writer)
    was_signed = folder.exists(SIGNATURE) or bool(archive.signature)
    changed = writer.commit(
        plan.manifest,
        contents,
        document=plan.document,
        signature=plan.signature,
        corrupt=corrupt,
    )
    folder.remove_tree(INCOMING)  # of a run that was killed after its commit
    unsigned = was_signed and not folder.exists(SIGNATURE)
    return UnpackReport(archive.name, plan.relation, changed, unsigned)


def _make_plan(archive: Archive, writer: BundleWriter, options: _Options) -> _Plan:
    incoming, current = archive.manifest, writer.current
    if current is None:
        return _Plan("new", incoming, archive.document, archive.signature, {})
    check_immutable_files(current, incoming)
    digest = sha256_of(writer.current_bytes)
    relation = archive_relation(archive.digest, incoming.ancestors, digest, current.ancestors)
    is_merged = any(script.origins for script in current.scripts.values())
    is_included = any(archive.digest in script.origins for script in current.scripts.values())
    is_rollback = relation == "older" and not is_included
    if is_rollback and not options.allow_rollback:
        raise_rollback(archive, writer.directory, current.generation)
    if relation in {"same", "newer"} or (is_rollback and not is_merged):
        return _Plan(relation, incoming, archive.document, archive.signature, {})
    sides = (Side(current, digest), Side(incoming, archive.digest))
    manifest, pages = merge(*sides, replace_scripts=is_rollback or options.replace_scripts)
    return _Plan(relation, manifest, b"", None, pages, sides)


def _finish_merge(
    plan: _Plan,
    sides: tuple[Side, Side],
    contents: dict[str, bytes | Path],
    writer: BundleWriter,
) -> tuple[_Plan, dict[str, bytes | Path]]:
    """Render the inventories of a merged bundle if one of the two had any, and add its history."""
    manifest, inventories = plan.manifest, dict[str, bytes]()
    if any(side.manifest.files.keys() & INVENTORIES for side in sides):
        manifest, inventories = add_inventories(
            manifest,
            lambda: gather_metadata(plan.manifest, contents, writer.directory),
            writer.current,
        )
    manifest = merge_history(manifest, *sides)
    document = writer.current_bytes if manifest == writer.current else manifest.to_json()
    return replace(plan, manifest=manifest, document=document), {**contents, **inventories}
