"""Commit staged files to a bundle: journal, renames, manifest last."""

from .errors import InputError
import os
import re

from .files import (
    create_file,
    flush_folder,
    read_whole,
    real_folder,
    remove_file,
    remove_tree,
    remove_with_folders,
    sha256_of,
)
from .names import CHECKSUMS, INCOMING, MANIFEST, PENDING, SIGNATURE, STAGING, WRITER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Optional, Union

    PathLike = Union[str, os.PathLike[str]]


_JOURNAL = re.compile(r"pending(-[0-9a-f]{16})?\.json")


def commit_files(  # noqa: PLR0913
    directory: "PathLike",
    staged: "Mapping[str, PathLike]",
    *,
    document: bytes,
    checksums: bytes,
    journal: bytes,
    signature: "Optional[bytes]" = None,
    obsolete: "Iterable[str]" = (),
) -> None:
    """Move *staged* files into the bundle at *directory*, and make *document* its manifest: the last rename commits.

    *journal* is a manifest of all that may lie there if this is killed on the way: verification tells such files from
    somebody else's, and the next writer finishes or removes them. *obsolete* files are removed after the commit.
    """
    directory = os.fspath(directory)
    folders = {os.path.dirname(path) for path in staged}
    for folder in sorted(folders | {STAGING}):
        real_folder(directory, folder)
    _write_journal(directory, journal)
    for path, file in staged.items():
        os.replace(file, os.path.join(directory, path))
    _put(directory, CHECKSUMS, checksums)
    changes = read_whole(os.path.join(directory, MANIFEST)) != document
    before = (read_whole(os.path.join(directory, SIGNATURE)) or b"") if changes else b""
    if (
        signature is not None
    ):  # two files cannot be renamed as one: until the commit, the signatures of both are there
        _put(directory, SIGNATURE, before if signature in before else before + signature)
    _put(directory, MANIFEST, document, is_durable=True)
    flush_folder(directory)
    if signature is not None and before:
        _put(directory, SIGNATURE, signature)
    elif changes and signature is None:
        remove_file(os.path.join(directory, SIGNATURE))
    for path in obsolete:
        remove_with_folders(directory, path)
    for path in journal_paths(directory):
        remove_file(path)
    remove_tree(os.path.join(directory, INCOMING))


def journal_paths(directory: "PathLike") -> "list[str]":
    """Find the journals of writers that were killed in *directory*, in no order that matters."""
    folder = os.path.join(os.fspath(directory), WRITER)
    if os.path.islink(folder):
        return []
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if _JOURNAL.fullmatch(name)]


def _write_journal(directory: str, journal: bytes) -> None:
    """Note what is about to be; what a killed writer noted stays beside it, for some of that may lie in place."""
    before = read_whole(os.path.join(directory, PENDING))
    if before is not None and before != journal:
        aside = f"pending-{sha256_of(before)[:16]}.json"
        os.replace(os.path.join(directory, PENDING), os.path.join(directory, WRITER, aside))
    _put(directory, PENDING, journal, is_durable=True)


def _put(directory: str, path: str, content: bytes, *, is_durable: bool = False) -> None:
    """Write aside and rename; durable: after a power cut, too, it is the old or the new."""
    temporary = os.path.join(directory, STAGING, path.rsplit("/", 1)[-1])
    remove_file(temporary)
    with create_file(temporary) as file:
        file.write(content)
        if is_durable:
            os.fsync(file.fileno())
    os.replace(temporary, os.path.join(directory, path))


def check_is_bundle_folder(directory: str) -> None:
    """Raise when *directory* is something else than a bundle, an unfinished one, or an empty folder."""
    if not os.path.lexists(directory):
        return
    if not os.path.isdir(directory):
        raise InputError(f"{directory} is a file, not a folder", hint="name a folder with -o")
    names = set(os.listdir(directory))
    if names and not names & {MANIFEST, WRITER}:
        hint = "name a new or empty folder, or a bundle, with -o"
        raise InputError(
            f"{directory} is not empty and holds no {MANIFEST}: it is not a bundle", hint=hint
        )
