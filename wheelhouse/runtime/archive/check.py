"""Compare an archive with its manifest, byte for byte."""

from ..errors import IntegrityError
from ..files import digest_of
from ..names import COPY_AGAIN_HINT, MANIFEST
from ..parallel import is_small, parallel_map, serialized_progress
from ..paths import printable
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


def check_archive(archive: "Archive", progress: "Progress" = None) -> "dict[str, str]":
    """Check every byte of *archive*; return what is wrong, by path of the member; empty when all is well."""
    progress = serialized_progress(progress)

    def damage(entry: "Entry") -> "Optional[str]":
        return damage_of(archive.volume, entry, archive.table.time, progress)

    cut = {entry.path: "cut off" for entry in archive.entries if entry.end > archive.volume.size}
    whole = [entry for entry in archive.entries if entry.path not in cut]
    found = {
        entry.path: what
        for entry, what in parallel_map(damage, largest_first(whole), size_of)
        if what
    }
    end = None if cut else end_damage(archive)
    if end:
        found[THE_END] = end
    return {**cut, **found}


def raise_for_damage(
    archive: "Archive", damage: "Mapping[str, str]", parts: "Sequence[str]" = ()
) -> None:
    """Raise when there is any, naming each member and the *parts* to carry again."""
    if not damage:
        return
    names = parts or [archive.name]
    raise IntegrityError(
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} damaged or missing: "
        f"{len(damage)} members are not as {MANIFEST} says",
        hint=COPY_AGAIN_HINT,
        problems=[f"{printable(path)}: {what}" for path, what in damage.items()],
    )


def damage_of(
    volume: "MultipartReader", entry: "Entry", time: int, progress: "Progress" = None
) -> "Optional[str]":
    """Say what is wrong with one member, its header, content and padding; None when nothing is."""
    if is_small(entry.size):
        member = memoryview(volume.read(entry.start, entry.end - entry.start))
        header, content = member[: entry.header_size], member[entry.header_size :][: entry.size]
        framing = _framing_damage(entry, time, header, member[entry.header_size + entry.size :])
        chunks: "Iterable[memoryview]" = [content]
    else:
        framing = read_framing_damage(volume, entry, time)
        chunks = volume.chunks(entry.offset, entry.size)
    if framing:
        return framing
    digest = digest_of(chunks, progress)
    return None if digest == entry.sha256 else f"expected sha256 {entry.sha256}, found {digest}"


def read_framing_damage(volume: "MultipartReader", entry: "Entry", time: int) -> "Optional[str]":
    header = volume.read(entry.start, entry.header_size)
    padding = volume.read(entry.offset + entry.size, entry.end - entry.offset - entry.size)
    return _framing_damage(entry, time, memoryview(header), memoryview(padding))


def _framing_damage(
    entry: "Entry", time: int, header: memoryview, padding: memoryview
) -> "Optional[str]":
    if header != entry.header(time):
        return f"its header is not what `pack` writes: {_describe(bytes(header))}"
    return "the padding after it is not zero" if bytes(padding).strip(b"\0") else None


def _describe(header: bytes) -> str:
    """Say what a strange header may be meant for."""
    kinds = {
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
    if header[257:262] != b"ustar":
        return "no header at all"
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    return f"{kinds.get(header[156:157], 'a file')} named {printable(name)}"


def end_damage(archive: "Archive") -> "Optional[str]":
    if archive.volume.read(archive.size - END, END + 1) == bytes(END):
        return None
    return f"{other_size(archive)} that end in zeros"


def other_size(archive: "Archive") -> str:
    volume = archive.volume
    return f"it has {volume.stored(volume.size)} bytes, and not {volume.stored(archive.size)}"
