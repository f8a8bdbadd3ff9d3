"""Tar headers (ustar and pax) and the layout of members."""

import re

from ..disk.files import sha256_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Optional


BLOCK = 512
END = 2 * BLOCK
"""Bytes of zeros after the last member."""
_LARGEST_USTAR = 8**11 - 1  # what eleven octal digits express


class Entry:
    """One member of an archive: its position, and the content that it must have."""

    __slots__ = ("comment", "header_size", "is_executable", "path", "sha256", "size", "start")

    def __init__(
        self,
        path: str,
        sha256: str,
        size: int,
        *,
        comment: "Optional[str]" = None,
        is_executable: bool = False,
    ) -> None:
        self.path = path
        self.sha256 = sha256
        self.size = size
        self.comment = comment
        self.is_executable = is_executable
        self.header_size = header_size(path, size, comment=comment)
        """Bytes before its content."""
        self.start = 0
        """Offset of its header in the archive."""

    def header(self, time: int) -> bytes:
        """Render what is before its content; *time* in seconds since 1970."""
        return render_header(
            self.path, self.size, time, is_executable=self.is_executable, comment=self.comment
        )

    @property
    def offset(self) -> int:
        """Offset of its content in the archive."""
        return self.start + self.header_size

    @property
    def end(self) -> int:
        """Offset of the next member in the archive."""
        return padded(self.offset + self.size)


def header_digest(content: bytes) -> str:
    """Return the pax comment with the digest of a member that SHA256SUMS does not list."""
    return f"sha256={sha256_of(content)}"


def lay_out(entries: "list[Entry]") -> "list[Entry]":
    """Set the position of each entry, one after the other."""
    start = 0
    for entry in entries:
        entry.start = start
        start = entry.end
    return entries


def render_header(
    path: str, size: int, time: int, *, is_executable: bool = False, comment: "Optional[str]" = None
) -> bytes:
    """Render a member's header: one ustar block, after a pax one for what ustar cannot express."""
    records = _pax_records(path, size, comment)
    mode = 0o755 if is_executable else 0o644
    prefix, name = _split(path) or ("", _ascii(path)[:100])
    own = _ustar(name, prefix, mode, 0 if size > _LARGEST_USTAR else size, time, b"0")
    if not records:
        return own
    pax = _ustar("PaxHeaders/" + _ascii(path)[:80], "", 0o644, len(records), time, b"x")
    return pax + records.ljust(padded(len(records)), b"\0") + own


def header_size(path: str, size: int, *, comment: "Optional[str]" = None) -> int:
    """Return the length of what `render_header` returns."""
    records = _pax_records(path, size, comment)
    return 2 * BLOCK + padded(len(records)) if records else BLOCK


def padded(size: int) -> int:
    """Return *size* rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def tar_time(timestamp: str) -> int:
    """Return a manifest's timestamp in seconds since 1970, within the limits of ustar."""
    import calendar

    try:
        seconds = calendar.timegm(
            tuple(int(number) for number in re.findall("[0-9]+", timestamp)[:6])
        )
    except (ValueError, OverflowError):
        return 0
    return min(max(seconds, 0), _LARGEST_USTAR)


def _ustar(name: str, prefix: str, mode: int, size: int, time: int, kind: bytes) -> bytes:  # noqa: PLR0913, PLR0917
    fields = [
        name.encode().ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % time,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        prefix.encode().ljust(155, b"\0"),
    ]
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split(path: str) -> "Optional[tuple[str, str]]":
    """Split *path* into ustar's prefix and name; None if it does not fit."""
    if not path.isascii():
        return None
    if len(path) <= 100:
        return "", path
    cut = path.find("/", max(0, len(path) - 101))
    return None if cut < 0 or cut > 155 else (path[:cut], path[cut + 1 :])


def _pax_records(path: str, size: int, comment: "Optional[str]") -> bytes:
    records = {"comment": comment} if comment is not None else {}
    if _split(path) is None:
        records["path"] = path
    if size > _LARGEST_USTAR:
        records["size"] = str(size)
    return b"".join(_pax_record(key, value) for key, value in sorted(records.items()))


def _pax_record(key: str, value: str) -> bytes:
    """Render one `LENGTH KEY=VALUE` line; the length includes its own digits."""
    text = f" {key}={value}\n".encode()
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length = len(str(length)) + len(text)
    return str(length).encode() + text


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def largest_first(entries: "Iterable[Entry]") -> "list[Entry]":
    """Sort them so that threads do not end with one large entry."""
    return sorted(entries, key=size_of, reverse=True)


def size_of(entry: "Entry") -> int:
    """Return the size of its content."""
    return entry.size
