"""Unpack the interpreter that an offline bundle includes, once per node.

    unpack(content, "/cache/python/DIGEST")      # content: matches its digest in bundle.json

The archive is a python-build-standalone `install_only` tar.gz: one folder, python/, with files,
folders and links. It is untrusted, and not every Python 3.9 has the filters of
`tarfile.extractall`, so the rules are here:

- every name is below python/, and no two members have the same;
- files and folders are created first, each file newly (O_EXCL), links last: nothing is written
  through a link;
- a symbolic link leads to something inside python/, relative to its folder; a hard link to a file
  before it in the archive;
- devices, fifos, sparse files and all other types are refused;
- archives that unpack to more than any interpreter, in total or in one read, are refused.
"""

import gzip
import io
import os
import sys
import tarfile
import zlib

from ...disk.paths import is_plain
from ...errors import IntegrityError
from ...text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

TOP = "python"
MOST_MEMBERS = 100_000
LARGEST_TREE = 4 * 1024**3
_LARGEST_READ = 16 * 1024**2
_CHUNK = 1024**2
_TAIL = 1024


def unpack(content: bytes, folder: str) -> "dict[str, list[int]]":
    """Unpack the archive into the new, empty *folder*; after an error, remove that folder.

    Return the checksums of its files by path. Raises IntegrityError for a bad archive, OSError for
    a problem of the file system.
    """
    stream = _Bounded(gzip.GzipFile(fileobj=io.BytesIO(content)))
    try:
        with tarfile.TarFile(fileobj=stream) as archive:  # type: ignore[arg-type]
            return _extract(archive, folder)
    except FileExistsError as error:  # two spellings that are one name to the file system
        raise _unsafe(f"{error.filename} occurs twice") from None
    except (
        tarfile.TarError,
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        ValueError,
        RecursionError,
    ) as error:
        raise _unsafe(f"it cannot be read: {error}") from None


def interpreter_path(
    folder: str, minor: "tuple[int, ...]", *, free_threaded: bool, system: str = sys.platform
) -> str:
    """Return the path of the interpreter in an archive that was unpacked to *folder*."""
    if system == "win32":
        return os.path.join(folder, TOP, "python.exe")
    name = "python" + ".".join(str(number) for number in minor) + ("t" if free_threaded else "")
    return os.path.join(folder, TOP, "bin", name)


def _unsafe(message: str) -> IntegrityError:
    return IntegrityError(message, hint="copy the bundle again; nothing of the archive was used")


class _Bounded:
    """A decompressed stream that ends with an error beyond the size of any interpreter.

    It seeks back by a block or less, as `tarfile` does between members, and not farther.
    """

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._position = 0
        self._tail = b""
        self._behind = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise _unsafe("a member has an oversized header")
        start = len(self._tail) - self._behind
        again = self._tail[start : start + size]
        self._behind -= len(again)
        chunk = self._stream.read(size - len(again)) if size > len(again) else b""
        self._position += len(chunk)
        if self._position > LARGEST_TREE:
            raise _unsafe(f"it unpacks to more than {LARGEST_TREE} bytes")
        self._tail = (self._tail + chunk)[-_TAIL:] if len(chunk) < _TAIL else chunk[-_TAIL:]
        return again + chunk

    @property
    def _offset(self) -> int:
        return self._position - self._behind

    def tell(self) -> int:  # words: allow
        return self._offset

    def seek(self, offset: int) -> int:
        """Seek back a little, or forward by reading, so that skipped bytes count too."""
        back = self._position - offset
        if back > len(self._tail):
            raise _unsafe("it is not a plain tar")
        self._behind = max(back, 0)
        while self._offset < offset and self.read(min(_CHUNK, offset - self._offset)):
            pass
        return self._offset


def _extract(archive: tarfile.TarFile, folder: str) -> "dict[str, list[int]]":
    folders = {""}
    files: dict[str, list[int]] = {}
    links: dict[str, str] = {}
    total = 0
    for count, member in enumerate(archive):
        name = _checked_name(member.name)
        total += member.size
        if count >= MOST_MEMBERS or total > LARGEST_TREE:
            raise _unsafe(f"it unpacks to more than {LARGEST_TREE} bytes or {MOST_MEMBERS} members")
        if name in files or name in links:
            raise _unsafe(f"{shown(name)} occurs twice")
        parent = os.path.dirname(name)
        _make_folders(folder, name if member.isdir() else parent, folders, (files, links))
        if member.isdir():
            continue
        if name in folders:
            raise _unsafe(f"{shown(name)} occurs twice")
        if member.issym():
            links[name] = _checked_link(name, member.linkname)
        elif member.islnk():
            source = _checked_name(member.linkname)
            _link_again(folder, source, name, files)
            files[name] = files[source]
        elif member.isreg() and not member.issparse() and member.type != b"7":
            files[name] = _write(archive, member, os.path.join(folder, name))
        else:
            raise _unsafe(f"{shown(name)} is not a file, folder or link")
    for name, target in links.items():
        os.symlink(target, os.path.join(folder, name))
    return files


def _checked_name(name: str) -> str:
    """Return a member's name; raise unless it stays below python/ on every system."""
    parts = name.split("/")
    if not is_plain(name) or parts[0] != TOP or {"", ".", ".."} & set(parts):
        raise _unsafe(f"the name {shown(name)} leaves the folder {TOP}, or is not portable")
    return name


def _checked_link(name: str, target: str) -> str:
    """Return the target of a symbolic link; raise unless it stays below python/."""
    inside = os.path.normpath(os.path.join(os.path.dirname(name), target)).replace(os.sep, "/")
    is_inside = target[:1] not in {"", "/"} and inside.split("/")[0] == TOP
    if not is_plain(target) or not is_inside or _climbs_late(target):
        raise _unsafe(f"the link {shown(name)} leads out, to {shown(target)}")
    return target


def _climbs_late(target: str) -> bool:
    """Return whether a `..` follows a name, which may be a link and lead elsewhere."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    return ".." in parts[climbs:]


def _make_folders(
    folder: str, name: str, folders: "set[str]", others: "tuple[Collection[str], ...]"
) -> None:
    parts = name.split("/") if name else []
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        if any(path in names for names in others):
            raise _unsafe(f"{shown(path)} occurs as a folder and as something else")
        if path not in folders:
            os.mkdir(os.path.join(folder, path), 0o755)
            folders.add(path)


def _link_again(folder: str, source: str, name: str, files: "Collection[str]") -> None:
    if source not in files:
        raise _unsafe(
            f"the hard link {shown(name)} leads to {shown(source)}, which is not a file before it"
        )
    os.link(os.path.join(folder, source), os.path.join(folder, name))


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> "list[int]":
    """Write a member; return its checksums, as `contents.checksums` does."""
    stream = archive.extractfile(member)
    mode = 0o755 if member.mode & 0o111 else 0o644
    left, crc = member.size, 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        while stream is not None and left:
            chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                raise _unsafe(f"{shown(member.name)} is cut short")
            file.write(chunk)
            crc = zlib.crc32(chunk, crc)
            left -= len(chunk)
    return [member.size, crc]
