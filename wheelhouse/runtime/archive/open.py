"""Find and open archives and their parts."""

import os
import re
from contextlib import ExitStack, contextmanager

from ..disk.files import read_named
from ..errors import IntegrityError
from ..names import PART_INDEX
from .multipart import PART_NAME, MultipartReader, Part
from .reader import Archive, read_archive_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Optional, Union

    PathLike = Union[str, os.PathLike[str]]

_LISTED_PART = re.compile(r"([0-9a-f]{64})  (.+)\.([0-9]{3,6})")


@contextmanager
def open_archives(files: "Iterable[PathLike]") -> "Iterator[list[Archive]]":
    """Open the archives in *files* for the `with` block: each a whole one, a part, or a part list.

    Parts are ordered by the number in their names, and also searched beside those named.
    Differences come after the bundles that they may be based on. Raises IntegrityError that names
    parts which are missing or do not match their list.
    """
    with ExitStack() as stack:
        archives = []
        for source in _open_sources([os.fspath(file) for file in files]):
            stack.callback(source.close)
            archives.append(_open_archive(source))
        yield sorted(
            archives, key=lambda archive: (archive.base is not None, archive.manifest.generation)
        )


def _open_archive(source: MultipartReader) -> Archive:
    """Read the beginning of an archive; if it is damaged, name the parts."""
    try:
        return read_archive_head(source)
    except IntegrityError as error:
        if not PART_NAME.fullmatch(source.parts[0].name):
            raise
        damaged = [f"damaged: {name}" for name in sorted(source.damaged_parts())]
        problems = damaged or [f"it begins in {source.parts[0].name}"]
        error.problems = (*error.problems, *problems)
        raise


def _open_sources(files: "list[str]") -> "Iterator[MultipartReader]":
    """Open the parts of each archive, also those beside the named ones."""
    whole: list[str] = []
    named: list[tuple[str, str]] = []
    for file in files:
        archive = _archive_of_part(file)
        if archive is None:
            whole.append(file)
        else:
            named.append((file, archive))
    beside = [(path, archive) for file, archive in named for path in _parts_beside(file, archive)]
    sets: dict[str, _PartSet] = {}
    for path, archive in [*beside, *named]:  # a file that is named replaces one beside it
        sets.setdefault(archive, _PartSet(archive)).add(path)
    for file in whole:
        yield MultipartReader(os.path.basename(file), [Part.open(file)])
    for parts in sets.values():
        yield parts.open()


def _archive_of_part(file: str) -> "Optional[str]":
    """Return the name of the archive that *file* is a part or list of; None for a whole one."""
    name = os.path.basename(file)
    if name.endswith(PART_INDEX):
        return name[: -len(PART_INDEX)]
    match = PART_NAME.fullmatch(name)
    if match:
        return match["archive"]
    is_split = any(os.path.exists(file + ending) for ending in (PART_INDEX, ".001"))
    return name if is_split and not os.path.exists(file) else None


def _parts_beside(file: str, archive: str) -> "list[str]":
    folder = os.path.dirname(file) or "."
    if not os.path.isdir(folder):
        return []
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name != archive]
    return [path for path in paths if _archive_of_part(path) == archive]


class _PartSet:
    """The files found of one split archive."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.paths: dict[int, str] = {}
        self.index: Optional[str] = None

    def add(self, path: str) -> None:
        """Add a part, or the list of parts."""
        match = PART_NAME.fullmatch(os.path.basename(path))
        if match:
            self.paths[int(match["number"])] = path
        elif path.endswith(PART_INDEX):
            first = self.index = self.index or path
            if first != path and read_named(first) != read_named(path):
                raise IntegrityError(
                    f"{first} and {path} differ: they belong to two archives, or one is damaged",
                    hint="unpack one archive at a time, each from its own folder; "
                    "or move the damaged list away",
                )

    def open(self) -> MultipartReader:
        """Open all parts in order. Raises IntegrityError if parts are missing."""
        listed = _read_part_list(self.index, self.archive) if self.index else {}
        numbers = sorted(listed) or range(1, max(self.paths, default=1) + 1)
        parts = [
            Part.open(self.paths[number], sha256=listed.get(number))
            for number in numbers
            if number in self.paths
        ]
        source = MultipartReader(self.archive, parts)
        missing = [f"{self.archive}.{n:03}" for n in numbers if n not in self.paths]
        if missing:
            damaged = sorted(source.damaged_parts())
            source.close()
            raise IntegrityError(
                f"{self.archive}: {len(missing) + len(damaged)} of its parts are missing or "
                "damaged",
                hint="copy these again, beside the other parts, and run the command again",
                problems=[
                    *(f"missing: {name}" for name in missing),
                    *(f"damaged: {name}" for name in damaged),
                ],
            )
        return source


def _read_part_list(path: str, archive: str) -> "dict[int, str]":
    """Return the digest of each part, by number. Raises IntegrityError for a damaged list."""
    listed = {}
    for number, line in enumerate(read_named(path).decode("ascii", "replace").splitlines(), 1):
        match = _LISTED_PART.fullmatch(line)
        if not match or match[2] != archive or int(match[3]) != number:
            raise IntegrityError(
                f"{path}: line {number} is damaged",
                hint="copy it again; or move it away, and the parts are ordered by their names",
            )
        listed[number] = match[1]
    return listed
