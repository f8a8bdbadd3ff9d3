"""Compare an archive with its manifest, byte for byte."""

from ..disk.files import digest_of
from ..errors import IntegrityError
from ..names import MANIFEST
from ..parallel import is_small, parallel_map, serialized_progress
from ..text import printable
from .tar import END, largest_first, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Optional

    from .multipart import MultipartReader
    from .reader import Archive
    from .tar import Entry

    Progress = Optional[Callable[[int], None]]

THE_END = "the end of the archive"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a fifo",
    b"L": "a GNU long name",
    b"K": "a GNU long link",
    b"S": "a sparse file",
    b"g": "a global header",
    b"x": "an extended header",
}


def check_archive(archive: "Archive", progress: "Progress" = None) -> "dict[str, str]":
    """Check every byte of *archive*; return what is wrong, by path of the member."""
    cut = cut_members(archive)
    damage = find_damage(
        archive.source,
        [entry for entry in archive.entries if entry.path not in cut],
        archive.time,
        progress,
    )
    end = None if cut else end_damage(archive)
    return {**cut, **damage, **({THE_END: end} if end else {})}


def find_damage(
    source: "MultipartReader", entries: "Sequence[Entry]", time: int, progress: "Progress" = None
) -> "dict[str, str]":
    """Check members of an archive: header, content and padding. Return what is wrong, by path."""
    progress = serialized_progress(progress)

    def check(entry: "Entry") -> "Optional[str]":
        return _member_damage(source, entry, time, progress)

    checked = parallel_map(check, largest_first(entries), size_of)
    return {entry.path: problem for entry, problem in checked if problem}


def cut_members(archive: "Archive") -> "dict[str, str]":
    """Return the members that are not complete because the archive ends before."""
    return {entry.path: "cut off" for entry in archive.entries if entry.end > archive.source.size}


def raise_for_damage(
    archive: "Archive", damage: "Mapping[str, str]", parts: "Sequence[str]" = ()
) -> None:
    """Raise IntegrityError if there is damage; name the members, and the *parts* to copy again."""
    if not damage:
        return
    names = parts or [archive.name]
    raise IntegrityError(
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} damaged or missing: "
        f"{len(damage)} members do not match {MANIFEST}",
        hint=f"copy {'it' if len(names) == 1 else 'them'} again, and run the command again",
        problems=[f"{printable(path)}: {problem}" for path, problem in damage.items()],
    )


def _member_damage(
    source: "MultipartReader", entry: "Entry", time: int, progress: "Progress"
) -> "Optional[str]":
    if is_small(entry.size):  # one read
        member = memoryview(source.read(entry.start, entry.end - entry.start))
        header, content = member[: entry.header_size], member[entry.header_size :][: entry.size]
        framing = _framing_damage(entry, time, header, member[entry.header_size + entry.size :])
        chunks: Iterable[memoryview] = [content]
    else:
        framing = read_framing_damage(source, entry, time)
        chunks = source.chunks(entry.offset, entry.size)
    if framing:
        return framing
    digest = digest_of(chunks, progress)
    return None if digest == entry.sha256 else f"expected sha256 {entry.sha256}, found {digest}"


def read_framing_damage(source: "MultipartReader", entry: "Entry", time: int) -> "Optional[str]":
    """Check the header of a member and the padding after it; return what is wrong."""
    header = source.read(entry.start, entry.header_size)
    padding = source.read(entry.offset + entry.size, entry.end - entry.offset - entry.size)
    return _framing_damage(entry, time, memoryview(header), memoryview(padding))


def _framing_damage(
    entry: "Entry", time: int, header: memoryview, padding: memoryview
) -> "Optional[str]":
    if header != entry.header(time):
        return f"its header is not what `pack` writes: {_describe_header(bytes(header))}"
    return "the padding after it is not zero" if bytes(padding).strip(b"\0") else None


def _describe_header(header: bytes) -> str:
    if header[257:262] != b"ustar":
        return "not a header"
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    return f"{_KINDS.get(header[156:157], 'a file')} named {printable(name)}"


def end_damage(archive: "Archive") -> "Optional[str]":
    """Check the end of an archive; return what is wrong."""
    if archive.source.read(archive.size - END, END + 1) == bytes(END):
        return None
    return f"{size_damage(archive)} that end in zeros"


def size_damage(archive: "Archive") -> str:
    """Describe an archive that is longer or shorter than it should be."""
    return f"it has {archive.source.size} bytes, expected {archive.size}"
