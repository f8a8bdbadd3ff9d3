"""Copy members of an archive into the staging folder of a bundle."""

from ..disk.files import check_space, new_sha256, open_file_digest, sha256_of, write_all
from ..names import INCOMING
from ..parallel import parallel_map, serialized_progress
from .check import (
    THE_END,
    cut_members,
    end_damage,
    raise_for_damage,
    read_framing_damage,
    size_damage,
)
from .tar import largest_first, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Optional

    from ..disk.safe_folder import SafeFolder
    from .multipart import MultipartReader
    from .reader import Archive
    from .tar import Entry

    Progress = Optional[Callable[[int], None]]


def extract_entries(
    archive: "Archive",
    entries: "Sequence[Entry]",
    folder: "SafeFolder",
    progress: "Progress" = None,
) -> "dict[str, str]":
    """Copy *entries* to files in .writer/ of *folder*, and return their paths by member.

    Members that an interrupted run left there are checked and used. Raises IntegrityError that
    names every damaged member; the good ones stay for the next run.
    """
    progress = serialized_progress(progress)
    _check_framing(archive)
    if not entries:
        return {}
    folder.make_folder(INCOMING)
    staged = {entry.path: f"{INCOMING}/{sha256_of(entry.path.encode())[:32]}" for entry in entries}
    wanted = {staged[entry.path]: (entry.sha256, entry.size) for entry in entries}
    complete = intact_files(folder, wanted, progress)
    missing = largest_first(entry for entry in entries if staged[entry.path] not in complete)
    check_space(folder.full_path(INCOMING), sum(entry.size for entry in missing))

    def copy(entry: "Entry") -> str:
        return _copy_member(archive.source, entry, folder, staged[entry.path], progress)

    damage = {}
    for entry, digest in parallel_map(copy, missing, size_of):
        if digest != entry.sha256:
            damage[entry.path] = f"its sha256 is not {entry.sha256}"
            folder.remove(staged[entry.path])
    raise_for_damage(archive, dict(sorted(damage.items())), _damaged_parts(archive, damage))
    return staged


def _damaged_parts(archive: "Archive", damage: "Collection[str]") -> "list[str]":
    """Return the parts that differ from their list, or else those with damaged members."""
    if not damage:
        return []
    touched = archive.parts_with(entry for entry in archive.entries if entry.path in damage)
    return sorted(archive.source.damaged_parts() & set(touched)) or touched


def _check_framing(archive: "Archive") -> None:
    """Raise before anything is written if something other than a content is damaged."""
    size = archive.source.size
    cut = cut_members(archive)
    if size < archive.size or cut:
        missing = archive.source.missing_after(archive.size)
        raise_for_damage(archive, cut or {THE_END: size_damage(archive)}, missing)
    if _is_framed(archive):
        return
    damage: dict[str, Optional[str]] = {
        entry.path: read_framing_damage(archive.source, entry, archive.time)
        for entry in archive.entries
    }
    damage[THE_END] = end_damage(archive)
    problems = {path: problem for path, problem in damage.items() if problem}
    raise_for_damage(archive, problems, _damaged_parts(archive, problems))


def _is_framed(archive: "Archive") -> bool:
    """Compare padding and header between contents at once: one read per member."""
    source, time, position = archive.source, archive.time, 0
    for entry in archive.entries:
        expected = bytes(entry.start - position) + entry.header(time)
        if source.read(position, entry.offset - position) != expected:
            return False
        position = entry.offset + entry.size
    return source.read(position, archive.size - position + 1) == bytes(archive.size - position)


def _copy_member(
    source: "MultipartReader",
    entry: "Entry",
    folder: "SafeFolder",
    path: str,
    progress: "Progress",
) -> str:
    """Write the content of a member to a new file; return the sha256 of what was written."""
    digest = new_sha256()
    with folder.create(path, is_executable=entry.is_executable) as file:
        for chunk in source.chunks(entry.offset, entry.size):
            digest.update(chunk)
            write_all(file.fileno(), chunk)
            if progress:
                progress(len(chunk))
    return digest.hexdigest()


def intact_files(
    folder: "SafeFolder", files: "Mapping[str, tuple[str, int]]", progress: "Progress" = None
) -> "set[str]":
    """Return which of *files* (digest and size by path) are in *folder*, by reading them."""
    progress = serialized_progress(progress)

    def is_intact(path: str) -> bool:
        sha256, size = files[path]
        if folder.size(path) != size:
            return False
        try:
            with folder.open(path) as file:
                return open_file_digest(file, progress) == sha256
        except OSError:
            return False

    paths: Iterable[str] = sorted(files, key=lambda path: -files[path][1])
    checked = parallel_map(is_intact, paths, lambda path: files[path][1])
    return {path for path, intact in checked if intact}
