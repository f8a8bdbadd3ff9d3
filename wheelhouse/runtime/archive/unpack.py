"""Check or unpack an archive of an offline bundle."""

import os
import sys

from ..commit import check_is_bundle_folder, commit_files, journal_paths
from ..errors import BundleError, IntegrityError, SignatureError, os_hint
from ..files import open_regular, real_folder, remove_file, remove_tree
from ..names import CHECKSUMS, INCOMING, MANIFEST, STAGING, WRITER
from ..paths import printable
from ..policy import check_policies, may_be_in_force
from .check import check_archive, raise_for_damage
from .extract import extract_entries, held_files
from .file_table import read_table
from .kept_parts import forget_parts
from .open import open_archives

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from typing import NoReturn, Optional, Union

    from .file_table import Table
    from .reader import Archive

    PathLike = Union[str, os.PathLike[str]]


def main(argv: "Optional[Sequence[str]]" = None) -> int:
    """Do what the command line says; return the exit code."""
    import argparse

    parser = argparse.ArgumentParser(description="Check or unpack an archive of an offline bundle.")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="an archive, or its parts in any order"
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument(
        "-o", "--output", metavar="DIR", help="the bundle to make or to bring up to date"
    )
    task.add_argument("--verify", action="store_true", help="only check the archive; write nothing")
    parser.add_argument(
        "--allow-rollback", action="store_true", help="also accept what is older than the bundle"
    )
    options = parser.parse_args(argv)
    try:
        with open_archives(options.files, options.output) as archives:
            for archive in archives:
                _check_policy(archive)
                if options.verify:
                    raise_for_damage(archive, check_archive(archive))
                    print(f"{archive.name}: {len(archive.entries)} members, all as {MANIFEST} says")
                else:
                    changed = unpack_archive(
                        archive, options.output, allow_rollback=options.allow_rollback
                    )
                    print(
                        f"{archive.name}: {'unpacked to' if changed else 'is there already, in'} {options.output}"
                    )
    except BundleError as error:
        print("error: " + "\n  ".join([error.message, *error.problems]), file=sys.stderr)
        if error.hint:
            print("hint: " + error.hint, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}\nhint: {os_hint(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


def _check_policy(archive: "Archive") -> None:
    """Raise SignatureError unless the signature satisfies the site's policy, if there is one."""
    if not may_be_in_force():
        return
    try:
        check_policies(archive.document, archive.signature)
    except SignatureError as error:
        message = f"{archive.name}: {error.message}"
        raise SignatureError(message, kind=error.kind, hint=error.hint) from None


def unpack_archive(
    archive: "Archive", directory: "PathLike", *, allow_rollback: bool = False
) -> bool:
    """Make the bundle at *directory* the one that *archive* holds; True when anything changed.

    A bundle that the archive's does not descend from is refused: merging two is the work of `offline-bundle unpack`.
    """
    directory = os.fspath(directory)
    check_is_bundle_folder(directory)
    os.makedirs(directory, exist_ok=True)
    real_folder(directory, WRITER)
    lock = _lock(os.path.join(directory, WRITER, "lock"))
    try:
        current = _read_table_at(os.path.join(directory, MANIFEST))
        _refuse_relation(archive, directory, current, allow_rollback=allow_rollback)
        changed = _replace_bundle(archive, directory, current)
        forget_parts(archive, directory)
        remove_tree(os.path.join(directory, INCOMING))  # of a run that was killed after its commit
        return changed
    finally:
        _remove_if_empty(directory)
        os.close(lock)


def archive_relation(
    digest: str, ancestors: "Container[str]", current: str, older: "Container[str]"
) -> str:
    """Tell what the bundle with *digest* is to the *current* one: same, newer, older or other.

    *ancestors* are digests of the manifests it descends from, *older* those of the current one.
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
        f"generation {archive.table.generation} against {generation}",
        hint="unpack the newest archive; --allow-rollback goes back to the older one on purpose",
    )


def raise_missing(
    archive: "Archive", directory: "PathLike", lacking: "Sequence[str]"
) -> "NoReturn":
    """Raise for a difference that leaves out files which the bundle in place lacks."""
    base = (
        f"generation {archive.base[1]} of the bundle, sha256 {archive.base[0]}"
        if archive.base
        else "another one"
    )
    raise IntegrityError(
        f"{archive.name} is a difference from {base}, and leaves out {len(lacking)} files that "
        f"{os.fspath(directory)} lacks, or has damaged",
        hint="unpack the archives before it first, or pack a whole one (without --since)",
        problems=[f"lacking: {printable(path)}" for path in lacking],
    )


def _refuse_relation(
    archive: "Archive", directory: str, current: "Optional[Table]", *, allow_rollback: bool
) -> None:
    if current is None:
        return
    found = archive_relation(
        archive.digest, archive.table.ancestors, current.digest, current.ancestors
    )
    if found == "older" and not allow_rollback:
        raise_rollback(archive, directory, current.generation)
    if found == "other":
        raise IntegrityError(
            f"the bundle in {directory} is another one than that of {archive.name}, or both have changed since",
            hint="name another folder, or merge them with `offline-bundle unpack`",
        )


def _replace_bundle(archive: "Archive", directory: str, current: "Optional[Table]") -> bool:
    table = archive.table
    contents = {path: content for path, content in table.files.items() if path != CHECKSUMS}
    kept = held_files(directory, contents)
    lacking = sorted(contents.keys() - kept - archive.brought)
    if lacking:
        raise_missing(archive, directory, lacking)
    entries = [
        entry for entry in archive.entries if entry.path in contents and entry.path not in kept
    ]
    abandoned = _read_journals(directory)
    known = [current, *abandoned] if current else abandoned
    if current and current.digest == archive.digest and not entries and not abandoned:
        return False
    obsolete = {
        path: file
        for before in known
        for path, file in before.raw_files.items()
        if path not in table.files
    }
    accounted = {path for before in known for path in before.files}
    _refuse_other_bytes(directory, [entry.path for entry in entries if entry.path not in accounted])
    commit_files(
        directory,
        extract_entries(archive, entries, directory),
        document=archive.document,
        checksums=table.checksums,
        journal=table.with_files(obsolete),
        signature=archive.signature,
        obsolete=sorted(obsolete),
    )
    return True


def _refuse_other_bytes(directory: str, paths: "Iterable[str]") -> None:
    found = [path for path in paths if os.path.lexists(os.path.join(directory, path))]
    if found:
        raise IntegrityError(
            f"{directory} holds files with other content that no manifest knows",
            hint="move them away, or name another folder with -o",
            problems=[printable(path) for path in found],
        )


def _lock(path: str) -> int:
    """Wait for the bundle's one writer to be this process; the descriptor that is returned holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _read_table_at(path: str) -> "Optional[Table]":
    try:
        with open_regular(path) as file:
            return read_table(file.read())
    except FileNotFoundError:
        return None


def _read_journals(directory: str) -> "list[Table]":
    journals = []
    for path in journal_paths(directory):
        try:
            journals.append(_read_table_at(path))
        except (OSError, BundleError):
            remove_file(path)
    return [journal for journal in journals if journal]


def _remove_if_empty(directory: str) -> None:
    """What was refused before anything came of it leaves no folder behind."""
    if os.path.lexists(os.path.join(directory, MANIFEST)) or journal_paths(directory):
        return
    try:
        for folder in (INCOMING, STAGING):
            if os.path.isdir(os.path.join(directory, folder)):
                os.rmdir(os.path.join(directory, folder))
        if os.listdir(os.path.join(directory, WRITER)) == ["lock"]:
            remove_file(os.path.join(directory, WRITER, "lock"))
            os.rmdir(os.path.join(directory, WRITER))
            os.rmdir(directory)
    except OSError:  # there is something worth keeping
        pass
