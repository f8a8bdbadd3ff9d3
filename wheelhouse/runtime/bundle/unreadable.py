"""Take stock of a bundle that damage or a killed writer left."""

import os
import stat

from ..disk.commit import journal_paths
from ..disk.files import open_file_digest
from ..disk.paths import path_problems
from ..errors import IntegrityError, first_problems
from ..names import CHECKSUMS, INCOMING, MANIFEST, REPORT, SBOM, SIGNATURE, STAGING, WRITER
from ..text import shown
from .manifest import BundledFile, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Union

    from ..disk.safe_folder import SafeFolder

    PathLike = Union[str, os.PathLike[str]]

_TOP_FOLDERS = frozenset(
    (
        *("bytecode", "cache", "data", "envs", "images", "locks", "python"),
        *("runtime", "scripts", "simple", "uv", "wheels"),
    )
)
_TOP_FILES = frozenset(
    (
        *(CHECKSUMS, REPORT, SBOM, "uv.toml", "offline-bundle.toml", "python-downloads.json"),
        *("run.py", "run.sh", "uv_cache.py", "prepare.py", "policy.py", "interpreter.py"),
    )
)


def unreadable(directory: "PathLike", error: IntegrityError) -> IntegrityError:
    """Return the error for a manifest in place that cannot be read, with how to replace it."""
    error.add_subject(os.fspath(directory))
    error.hint = "replace the whole bundle with --replace; its intact files stay"
    return error


def read_journals(folder: "SafeFolder") -> "list[Manifest]":
    """Return the journals of killed writers; remove invalid ones."""
    journals = []
    for path in journal_paths(folder):
        try:
            journals.append(Manifest.from_json(folder.read(path) or b""))
        except IntegrityError:
            folder.remove_tree(path)
    return journals


def remove_if_new(folder: "SafeFolder") -> None:
    """Remove a folder that was created for a bundle, if nothing was committed to it."""
    if folder.exists(MANIFEST) or journal_paths(folder):
        return
    for path in (INCOMING, STAGING):
        folder.remove_folder(path)
    if folder.names(WRITER) == ["lock"]:
        folder.remove_tree(f"{WRITER}/lock")
        folder.remove_folder(WRITER)
        try:
            os.rmdir(folder.path)
        except OSError:  # something else is in it
            pass


def manifest_of_files(folder: "SafeFolder") -> Manifest:
    """Return a manifest of all files in place, as if a writer had left them there.

    A commit then keeps files that fit, and replaces or removes the others. Raises IntegrityError
    for files that no bundle has: they are not removed.
    """
    paths = list(_regular_files(folder.path))
    foreign = [path for path in paths if not _is_of_a_bundle(path)]
    foreign += [path for path, _ in path_problems(paths) if path not in foreign]
    if foreign:
        raise IntegrityError(
            f"{folder.path} has files that no bundle has, so it is not replaced",
            problems=first_problems([shown(path) for path in sorted(foreign)]),
            hint="move them away, or name another folder with -o",
        )
    files = {}
    for path in paths:
        with folder.open(path) as file:
            size = os.fstat(file.fileno()).st_size
            files[path] = BundledFile(open_file_digest(file), size)
    files.pop(CHECKSUMS, None)
    return Manifest(created_by="", timestamp="1980-01-01T00:00:00Z", files=files)


def _is_of_a_bundle(path: str) -> bool:
    top, _, rest = path.partition("/")
    return top in _TOP_FOLDERS if rest else top in _TOP_FILES


def _regular_files(directory: str) -> "Iterator[str]":
    """Yield the paths of all files below *directory*, and of links, which no bundle has either."""
    for parent, folders, names in os.walk(directory):
        relative = os.path.relpath(parent, directory)
        if relative == os.curdir:
            folders[:] = [name for name in folders if name != WRITER]
        for name in [*folders, *names]:
            path = os.path.normpath(os.path.join(relative, name)).replace(os.sep, "/")
            is_folder = stat.S_ISDIR(os.lstat(os.path.join(parent, name)).st_mode)
            if not is_folder and path not in (MANIFEST, SIGNATURE):
                yield path
