"""Commit staged files to a bundle: journal, renames, manifest last."""

import os
import re

from ..errors import InputError
from ..names import CHECKSUMS, INCOMING, MANIFEST, PENDING, SIGNATURE, STAGING, WRITER
from ..text import printable
from .files import sha256_of
from .safe_folder import SafeFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Optional, Union

    PathLike = Union[str, os.PathLike[str]]

_SHOWN_NAMES = 3
_JOURNAL = re.compile(r"pending(-[0-9a-f]{16})?\.json")


def commit_files(  # noqa: PLR0913 -- one parameter for each file that a commit writes
    directory: "PathLike",
    staged: "Mapping[str, PathLike]",
    *,
    document: bytes,
    checksums: bytes,
    journal: bytes,
    signature: "Optional[bytes]" = None,
    obsolete: "Iterable[str]" = (),
) -> None:
    """Move *staged* files into the bundle at *directory*; the rename of *document* commits.

    Everything is written first, so that a full disk changes nothing; then come renames only. Files
    under new names are first. Readers of the manifest in force do not see them, so a kill or a
    reader in between finds the old bundle whole. Files that are replaced, such as index pages,
    follow right before the manifest, the bundle's scripts last.
    *journal* is a manifest of all files that may exist after a kill: verification recognises them,
    and the next writer uses or removes them. *obsolete* files are removed after the commit.
    """
    with SafeFolder(directory) as folder:
        folder.make_folder(STAGING)
        _write_journal(folder, journal)
        before = _signature_before(folder, document)
        headers = {CHECKSUMS: checksums}
        if signature is not None:
            # Two files cannot be renamed as one: until the commit, both signatures are in the file.
            old = before or b""
            headers[SIGNATURE] = old if signature in old else old + signature
        headers[MANIFEST] = document
        for path, content in headers.items():
            folder.write(_partial(path), content, durable=True)
        _put_in_place(folder, staged)
        for path in headers:
            folder.replace(_partial(path), path)
        folder.flush("")
        if signature is not None and before:
            _write(folder, SIGNATURE, signature)
        elif before is not None and signature is None:
            folder.remove(SIGNATURE)
        for path in obsolete:
            folder.remove_with_folders(path)
        for path in journal_paths(folder):
            folder.remove(path)
        folder.remove_tree(INCOMING)


def _put_in_place(folder: SafeFolder, staged: "Mapping[str, PathLike]") -> None:
    sources = {path: _relative(folder, file) for path, file in staged.items()}
    folders = sorted({path.rpartition("/")[0] for path in sources})
    for path in folders:
        folder.make_folder(path)
    # After a power cut a name must not lead to an empty file: contents first, then names.
    folder.flush_all([*sources.values()])
    is_new = {path: not folder.exists(path) for path in sources}
    replaced = [path for path in sources if not is_new[path]]
    for path in filter(is_new.get, sources):
        folder.replace(sources[path], path)
    folder.flush_all(folders)
    # a start of a script that does not fit the manifest waits for the end of the update
    for path in sorted(replaced, key=lambda path: path.startswith("scripts/")):
        folder.replace(sources[path], path)
    folder.flush_all(sorted({path.rpartition("/")[0] for path in replaced}))


def _relative(folder: SafeFolder, file: "PathLike") -> str:
    return os.path.relpath(os.fspath(file), folder.path).replace(os.sep, "/")


def _signature_before(folder: SafeFolder, document: bytes) -> "Optional[bytes]":
    """Return the signature of another manifest that is in place, None for the same."""
    if folder.read(MANIFEST) == document:
        return None
    return folder.read(SIGNATURE) or b""


def journal_paths(folder: SafeFolder) -> "list[str]":
    """Return the paths of the journals that killed writers left in a bundle."""
    return [f"{WRITER}/{name}" for name in folder.names(WRITER) if _JOURNAL.fullmatch(name)]


def _write_journal(folder: SafeFolder, journal: bytes) -> None:
    before = folder.read(PENDING)
    if before is not None and before != journal:  # its files may be in place: keep it
        folder.replace(PENDING, f"{WRITER}/pending-{sha256_of(before)[:16]}.json")
    _write(folder, PENDING, journal)
    folder.flush(WRITER)


def _write(folder: SafeFolder, path: str, content: bytes) -> None:
    """Write aside, flush and rename: after a power cut, too, the file is the old or the new."""
    folder.write(_partial(path), content, durable=True)
    folder.replace(_partial(path), path)


def _partial(path: str) -> str:
    return f"{STAGING}/{path.rpartition('/')[2]}"


def check_is_bundle_folder(directory: str) -> None:
    """Raise InputError unless *directory* is a bundle, an unfinished one, or empty or new."""
    if not os.path.lexists(directory):
        return
    if not os.path.isdir(directory):
        raise InputError(f"{directory} is a file, not a folder", hint="name a folder with -o")
    names = set(os.listdir(directory)) - {"lost+found"}  # of a file system's top folder
    if names and not names & {MANIFEST, WRITER}:
        shown = ", ".join(printable(name) for name in sorted(names)[:_SHOWN_NAMES])
        more = ", ..." if len(names) > _SHOWN_NAMES else ""
        raise InputError(
            f"{directory} is not empty and has no {MANIFEST}: it is not a bundle ({shown}{more})",
            hint="name a new or empty folder, or a bundle, with -o",
        )
