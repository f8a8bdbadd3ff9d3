"""Check or unpack an archive of an offline bundle."""

import os
import sys
from dataclasses import replace

from ..bundle.manifest import Manifest, render_checksums
from ..bundle.policy import check_policies, may_be_in_force
from ..bundle.unreadable import manifest_of_files, read_journals, remove_if_new, unreadable
from ..disk.commit import check_is_bundle_folder, commit_files
from ..disk.files import sha256_of
from ..disk.locks import FileLock
from ..disk.safe_folder import SafeFolder
from ..errors import BundleError, IntegrityError, SignatureError, os_hint, print_error
from ..names import INCOMING, MANIFEST, WRITER
from ..text import printable
from .check import check_archive, raise_for_damage
from .extract import extract_entries, intact_files
from .open import open_archives

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Container, Iterable, Sequence
    from typing import NoReturn, Optional, Union

    from .reader import Archive

    PathLike = Union[str, os.PathLike[str]]


def main(argv: "Optional[Sequence[str]]" = None) -> int:
    """Run the command line; return the exit code."""
    options = _parse_arguments(argv)
    try:
        with open_archives(options.files) as archives:
            for archive in archives:
                _handle_archive(archive, options)
    except BundleError as error:
        return print_error(error)
    except OSError as error:
        print(f"error: {error}\nhint: {os_hint(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run it again to continue", file=sys.stderr)
        return 130
    return 0


def _parse_arguments(argv: "Optional[Sequence[str]]") -> "Namespace":
    import argparse

    parser = argparse.ArgumentParser(description="Check or unpack an archive of an offline bundle.")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="an archive, or its parts in any order"
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("-o", "--output", metavar="DIR", help="the bundle to create or update")
    task.add_argument("--verify", action="store_true", help="only check the archive; write nothing")
    parser.add_argument(
        "--allow-rollback", action="store_true", help="accept an archive older than the bundle"
    )
    parser.add_argument(
        "--replace", action="store_true", help="replace a bundle whose bundle.json cannot be read"
    )
    return parser.parse_args(argv)


def _handle_archive(archive: "Archive", options: "Namespace") -> None:
    _check_policy(archive)
    if options.verify:
        raise_for_damage(archive, check_archive(archive))
        print(f"{archive.name}: {len(archive.entries)} members, all match {MANIFEST}")
        return
    changed = unpack_archive(
        archive,
        options.output,
        allow_rollback=options.allow_rollback,
        replace_unreadable=options.replace,
    )
    result = "unpacked to" if changed else "already in"
    print(f"{archive.name}: {result} {options.output}")


def _check_policy(archive: "Archive") -> None:
    """Raise SignatureError unless the signature satisfies the site's policy, if there is one."""
    if not may_be_in_force():
        return
    try:
        check_policies(archive.document, archive.signature)
    except SignatureError as error:
        error.add_subject(archive.name)
        raise


def unpack_archive(
    archive: "Archive",
    directory: "PathLike",
    *,
    allow_rollback: bool = False,
    replace_unreadable: bool = False,
) -> bool:
    """Make the bundle at *directory* the one in *archive*; return whether anything changed.

    Raises IntegrityError if the bundle in place is not an earlier one: `offline-bundle unpack`
    merges two bundles. With *replace_unreadable*, one that cannot be read is replaced.
    """
    directory = os.fspath(directory)
    check_is_bundle_folder(directory)
    os.makedirs(directory, exist_ok=True)
    with SafeFolder(directory) as folder:
        folder.make_folder(WRITER)
        with FileLock(f"{WRITER}/lock", opener=folder.open_lock):
            try:
                document = _read_manifest_in_place(folder)
                current, left = _read_current(folder, document, may_replace=replace_unreadable)
                if current:
                    digest = sha256_of(document)
                    _check_relation(
                        archive, directory, current, digest, allow_rollback=allow_rollback
                    )
                is_same = document == archive.document
                changed = _replace_bundle(archive, folder, current, left, is_same=is_same)
                folder.remove_tree(INCOMING)  # of a run that was killed after its commit
                return changed
            finally:
                remove_if_new(folder)


def _read_current(
    folder: SafeFolder, document: bytes, *, may_replace: bool
) -> "tuple[Optional[Manifest], list[Manifest]]":
    """Return the manifest in force, if any, and one of the files to replace if it is unreadable."""
    if not document:
        return None, []
    try:
        return Manifest.from_json(document), []
    except IntegrityError as error:
        if not may_replace:
            raise unreadable(folder.path, error) from None
        print(f"{folder.path} is replaced: {error.message}", file=sys.stderr)
        return None, [manifest_of_files(folder)]


def archive_relation(
    digest: str, ancestors: "Container[str]", current: str, older: "Container[str]"
) -> str:
    """Return how the bundle with *digest* relates to the *current* one: same, newer, older, other.

    *ancestors* and *older* are digests of the manifests that each of the two descends from.
    """
    if digest == current:
        return "same"
    if current in ancestors:
        return "newer"
    return "older" if digest in older else "other"


def raise_rollback(archive: "Archive", directory: "PathLike", generation: int) -> "NoReturn":
    """Raise for an archive of a bundle that the one in place descends from."""
    raise IntegrityError(
        f"{archive.name} is older than the bundle in {os.fspath(directory)}: "
        f"generation {archive.manifest.generation} against {generation}",
        hint="unpack the newest archive, or go back to this one with --allow-rollback",
    )


def raise_missing(
    archive: "Archive", directory: "PathLike", missing: "Sequence[str]"
) -> "NoReturn":
    """Raise for a difference that does not contain files which the bundle in place needs."""
    base = "another one"
    if archive.base:
        base = f"generation {archive.base[1]} of the bundle, sha256 {archive.base[0]}"
    raise IntegrityError(
        f"{archive.name} is a difference from {base}: {len(missing)} files that it does not "
        f"contain are missing or damaged in {os.fspath(directory)}",
        hint="unpack the archives before it first, or pack a whole one (without --since)",
        problems=[f"missing: {printable(path)}" for path in missing],
    )


def _check_relation(
    archive: "Archive", directory: str, current: Manifest, digest: str, *, allow_rollback: bool
) -> None:
    """Raise unless the bundle in place, with *digest*, is the archive's or an earlier one."""
    relation = archive_relation(
        archive.digest, archive.manifest.ancestors, digest, current.ancestors
    )
    if relation == "older" and not allow_rollback:
        raise_rollback(archive, directory, current.generation)
    if relation == "other":
        raise IntegrityError(
            f"the bundle in {directory} and the one in {archive.name} do not descend from each "
            "other",
            hint="name another folder, or merge them with `offline-bundle unpack`",
        )


def _replace_bundle(
    archive: "Archive",
    folder: SafeFolder,
    current: "Optional[Manifest]",
    left: "list[Manifest]",
    *,
    is_same: bool,
) -> bool:
    manifest = archive.manifest
    contents = manifest.contents()
    intact = intact_files(folder, contents)
    missing = sorted(contents.keys() - intact - archive.included)
    if missing:
        raise_missing(archive, folder.path, missing)
    entries = [
        entry for entry in archive.entries if entry.path in contents and entry.path not in intact
    ]
    abandoned = [*left, *read_journals(folder)]
    if is_same and not entries and not abandoned:
        return False
    tracked = {
        path: file
        for before in ([current, *abandoned] if current else abandoned)
        for path, file in before.files.items()
    }
    _check_untracked(folder, [entry.path for entry in entries if entry.path not in tracked])
    staged = extract_entries(archive, entries, folder)
    commit_files(
        folder.path,
        {path: folder.full_path(file) for path, file in staged.items()},
        document=archive.document,
        checksums=render_checksums(manifest, archive.document),
        journal=replace(manifest, files={**tracked, **manifest.files}).to_json(),
        signature=archive.signature,
        obsolete=sorted(tracked.keys() - manifest.files.keys()),
    )
    return True


def _check_untracked(folder: SafeFolder, paths: "Iterable[str]") -> None:
    existing = [path for path in paths if folder.exists(path)]
    if existing:
        raise IntegrityError(
            f"{folder.path} has files with other content that are in no manifest",
            hint="move them away, or name another folder with -o",
            problems=[printable(path) for path in existing],
        )


def _read_manifest_in_place(folder: SafeFolder) -> bytes:
    """Return bundle.json of the bundle in place; empty for a new one."""
    try:
        with folder.open(MANIFEST) as file:
            return file.read()
    except FileNotFoundError:
        return b""
