"""Find and open archives and their parts."""

import os
import re

from ..errors import BundleError, IntegrityError
from ..files import read_given
from ..names import PART_INDEX
from .kept_parts import keep_parts, kept_parts, part_store
from .multipart import PART_NAME, MultipartReader, Part
from .reader import Archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn, Optional, Union

    PathLike = Union[str, os.PathLike[str]]


class OpenArchives:
    """The archives that FILEs are, open as long as the `with` block lasts."""

    def __init__(self, volumes: "Sequence[MultipartReader]") -> None:
        self._volumes = volumes

    def __enter__(self) -> "list[Archive]":
        """Open them, differences after the bundles that they may be from."""
        try:
            archives = [_read_archive(volume) for volume in self._volumes]
        except BaseException:
            self.__exit__()
            raise
        return sorted(
            archives, key=lambda archive: (archive.base is not None, archive.table.generation)
        )

    def __exit__(self, *_: object) -> None:
        """Close them."""
        for volume in self._volumes:
            volume.close()


def _read_archive(volume: MultipartReader) -> Archive:
    """Read the beginning of an archive; where it is damaged, the good parts are kept and the others named."""
    try:
        return Archive(volume)
    except BundleError as refusal:
        if refusal.exit_code != 5 or not volume.parts[0].number:
            raise
        bad = sorted(volume.bad_parts())
        keep_parts(
            volume.store,
            {p.number: p.path for p in volume.parts if p.name not in bad},
            volume.index,
        )
        blame = [f"damaged: {name}" for name in bad] or [f"it begins in {volume.parts[0].name}"]
        raise IntegrityError(
            refusal.message, hint=refusal.hint, problems=[*refusal.problems, *blame]
        ) from None


def open_archives(
    files: "Iterable[PathLike]", directory: "Optional[PathLike]" = None
) -> OpenArchives:
    """Find the archives that *files* are: each a whole one, a part, or a list of parts.

    Parts are put in order by the number in their names, and looked for beside each other. When some are missing or
    differ from the list of parts, they are named, and the good ones kept in *directory*, so that the next time those
    that were named will do. Raises Refusal.
    """
    wholes: list[str] = []
    sets: dict[str, dict[int, str]] = {}
    lists: dict[str, str] = {}
    named: list[tuple[str, str]] = []
    for file in [os.fspath(file) for file in files]:
        name = _archive_of_part(file)
        if name is None:
            wholes.append(file)
        else:
            named.append((file, name))
    beside = [(place, name) for file, name in named for place in _beside(file, name)]
    for place, name in [
        *beside,
        *named,
    ]:  # what is named counts, and not what lies beside another part
        _sort_in(place, sets.setdefault(name, {}), lists, name)
    volumes = [MultipartReader(os.path.basename(file), [Part.open(file)]) for file in wholes]
    for name, found in sets.items():
        store = None if directory is None else part_store(directory, name)
        volumes.append(_volume_of_parts(name, found, lists.get(name), store))
    return OpenArchives(volumes)


def _archive_of_part(file: str) -> "Optional[str]":
    """Name the archive that *file* is a part, or the list of parts, of; None for a whole one."""
    name = os.path.basename(file)
    if name.endswith(PART_INDEX):
        return name[: -len(PART_INDEX)]
    match = PART_NAME.fullmatch(name)
    if match:
        return match["archive"]
    is_split = any(os.path.exists(file + ending) for ending in (PART_INDEX, ".001"))
    return name if is_split and not os.path.exists(file) else None


def _beside(file: str, archive: str) -> "list[str]":
    folder = os.path.dirname(file) or "."
    if not os.path.isdir(folder):
        return []
    names = [
        name
        for name in sorted(os.listdir(folder))
        if _archive_of_part(os.path.join(folder, name)) == archive
    ]
    return [os.path.join(folder, name) for name in names if name != archive]


def _sort_in(file: str, parts: "dict[int, str]", lists: "dict[str, str]", archive: str) -> None:
    match = PART_NAME.fullmatch(os.path.basename(file))
    if match:
        parts[int(match["number"])] = file
    elif file.endswith(PART_INDEX):
        other = lists.setdefault(archive, file)
        if other != file and read_given(other) != read_given(file):
            raise IntegrityError(
                f"{other} and {file} differ: they are of two archives, or one of them is damaged",
                hint="unpack one archive at a time, each from its own folder; or move the damaged list away",
            )


def _volume_of_parts(
    name: str, found: "dict[int, str]", index: "Optional[str]", store: "Optional[str]"
) -> MultipartReader:
    kept = kept_parts(store)
    kept_index = kept.pop(0, None)
    index = index or kept_index
    listed = _read_part_list(index, name) if index else {}
    places = {**kept, **found}
    wanted = sorted(listed) or list(range(1, max(places, default=1) + 1))
    parts = []
    for number in wanted:
        if number in places:
            part = Part.open(places[number])
            part.number = number
            part.name, part.sha256 = listed.get(number, (f"{name}.{number:03}", None))
            parts.append(part)
    volume = MultipartReader(name, parts, index)
    volume.store = store
    missing = [listed[n][0] if listed else f"{name}.{n:03}" for n in wanted if n not in places]
    if missing:
        bad = sorted(volume.bad_parts())
        keep_parts(store, {part.number: part.path for part in parts if part.name not in bad}, index)
        volume.close()
        _raise_for_parts(name, missing, bad, store)
    return volume


def _raise_for_parts(
    name: str, missing: "Sequence[str]", bad: "Sequence[str]", store: "Optional[str]"
) -> "NoReturn":
    kept = "; the others are kept in the bundle's .writer/ until then" if store else ""
    raise IntegrityError(
        f"{name}: {len(missing) + len(bad)} of its parts are missing or damaged",
        hint=f"carry these over again, and name them: only these are needed{kept}",
        problems=[*(f"missing: {part}" for part in missing), *(f"damaged: {part}" for part in bad)],
    )


def _read_part_list(path: str, archive: str) -> "dict[int, tuple[str, str]]":
    """Read a list of parts: name and digest by number. Raises Refusal for anything but all parts in order."""
    listed: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(read_given(path).decode("ascii", "replace").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)\.([0-9]{3,6})", line)
        if not match or match[2] != archive or int(match[3]) != number:
            raise IntegrityError(
                f"{path}: line {number} is damaged",
                hint="carry it over again, or do without: move it away, and the parts are put in order by their names",
            )
        listed[number] = (f"{match[2]}.{match[3]}", match[1])
    return listed
