"""Copy members of an archive into the staging folder of a bundle."""

import os

from ..files import (
    check_space,
    create_file,
    file_digest,
    new_sha256,
    real_folder,
    regular_size,
    remove_file,
    sha256_of,
    write_all,
)
from ..names import INCOMING
from ..parallel import parallel_map, serialized_progress
from .check import THE_END, end_damage, other_size, raise_for_damage, read_framing_damage
from .kept_parts import keep_good_parts
from .tar import largest_first, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Optional, Union

    from .multipart import MultipartReader
    from .reader import Archive
    from .tar import Entry

    Progress = Optional[Callable[[int], None]]
    PathLike = Union[str, os.PathLike[str]]


def extract_entries(
    archive: "Archive",
    entries: "Sequence[Entry]",
    directory: "PathLike",
    progress: "Progress" = None,
) -> "dict[str, str]":
    """Copy *entries* to files of their own in .writer/ of *directory*, check each there, and return them by path.

    What an interrupted run has put there is checked and used. Raises Refusal that names every damaged member; what is
    good, members and parts, stays there for the next run.
    """
    directory = os.fspath(directory)
    progress = serialized_progress(progress)
    _check_framing(archive, directory)
    if not entries:
        return {}
    folder = real_folder(directory, INCOMING)
    staged = {
        entry.path: os.path.join(folder, sha256_of(entry.path.encode())[:32]) for entry in entries
    }

    def holds(entry: "Entry") -> bool:
        return file_digest(staged[entry.path], progress) == entry.sha256

    def brings(entry: "Entry") -> bool:
        return _copy_out(archive.volume, entry, staged[entry.path], progress) == entry.sha256

    left = [entry for entry in entries if regular_size(staged[entry.path]) == entry.size]
    good = {
        entry.path
        for entry, is_good in parallel_map(holds, largest_first(left), size_of)
        if is_good
    }
    rest = largest_first(entry for entry in entries if entry.path not in good)
    check_space(folder, sum(entry.size for entry in rest))
    brought = parallel_map(brings, rest, size_of)
    bad = {
        entry.path: f"its sha256 is not {entry.sha256}" for entry, is_good in brought if not is_good
    }
    for path in bad:
        remove_file(staged[path])
    _raise_for_members(archive, directory, dict(sorted(bad.items())))
    return staged


def _raise_for_members(archive: "Archive", directory: str, damage: "Mapping[str, str]") -> None:
    """Raise for damaged members, naming the parts they lie in, after putting the good parts by."""
    if damage:
        bad = damaged_parts(archive, damage)
        keep_good_parts(archive, directory, bad)
        raise_for_damage(archive, damage, bad)


def damaged_parts(archive: "Archive", damage: "Collection[str]") -> "list[str]":
    """Name the parts to carry again: those that differ from the list of parts, or else those with damaged members."""
    known = archive.volume.bad_parts()
    touched = archive.parts_with(entry for entry in archive.entries if entry.path in damage)
    return sorted(known & set(touched)) or touched


def _check_framing(archive: "Archive", directory: str) -> None:
    """Raise before anything is written unless all is there but, maybe, for the contents."""
    size = archive.volume.size
    cut = {entry.path: "cut off" for entry in archive.entries if entry.end > size}
    if size < archive.size or cut:
        bad = archive.volume.missing_after(archive.size)
        keep_good_parts(archive, directory, bad)
        raise_for_damage(archive, cut or {THE_END: other_size(archive)}, bad)
    if _is_framed(archive):
        return
    time = archive.table.time
    damage = {
        entry.path: read_framing_damage(archive.volume, entry, time) for entry in archive.entries
    }
    damage[THE_END] = end_damage(archive)
    _raise_for_members(archive, directory, {path: what for path, what in damage.items() if what})


def _is_framed(archive: "Archive") -> bool:
    """Whether all between the contents is as it should be: padding and the next header are read as one."""
    volume, time, place = archive.volume, archive.table.time, 0
    for entry in archive.entries:
        if volume.read(place, entry.offset - place) != bytes(entry.start - place) + entry.header(
            time
        ):
            return False
        place = entry.offset + entry.size
    return volume.read(place, archive.size - place + 1) == bytes(archive.size - place)


def _copy_out(volume: "MultipartReader", entry: "Entry", place: str, progress: "Progress") -> str:
    """Write a member's content to a new file at *place*, and return the sha256 of what was written."""
    digest = new_sha256()
    remove_file(place)
    with create_file(place, is_executable=entry.is_executable) as file:
        for chunk in volume.chunks(entry.offset, entry.size):
            digest.update(chunk)
            write_all(file.fileno(), chunk)
            if progress:
                progress(len(chunk))
    return digest.hexdigest()


def held_files(
    directory: "PathLike", files: "Mapping[str, tuple[str, int]]", progress: "Progress" = None
) -> "set[str]":
    """Tell which of *files* (digest and size by path) lie in *directory* as they should, by reading them."""
    directory = os.fspath(directory)
    progress = serialized_progress(progress)

    def is_held(path: str) -> bool:
        sha256, size = files[path]
        place = os.path.join(directory, path)
        try:
            return regular_size(place) == size and file_digest(place, progress) == sha256
        except OSError:
            return False

    largest_first = sorted(files, key=lambda path: -files[path][1])
    return {
        path
        for path, held in parallel_map(is_held, largest_first, lambda path: files[path][1])
        if held
    }
