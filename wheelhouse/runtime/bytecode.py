"""Bytecode files of a bundle: their names, and their content, which is untrusted.

    bytecode/cp312/numpy-2.5.5-….whl.tar.gz      the modules of one wheel, compiled by Python 3.12

The tar has regular files only, named as below site-packages: `numpy/__pycache__/x.cpython-312.pyc`.
"""

import io
import tarfile
import zlib

from .disk.paths import is_plain
from .errors import IntegrityError
from .text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BYTECODE = "bytecode/"
LARGEST_CONTENT = 1024**3
_WBITS_GZIP = 31


def bytecode_path(wheel: str, python: str) -> str:
    """Return the path of the bytecode of *wheel* (`wheels/...`) for *python* (3.12, or 3.13t)."""
    return f"{BYTECODE}cp{python.replace('.', '')}/{wheel.rpartition('/')[2]}.tar.gz"


def split_bytecode_path(path: str) -> "tuple[str, str]":
    """Return the path of the wheel, and the Python, of the bytecode at *path*."""
    tag, _, name = path[len(BYTECODE) :].partition("/")
    return f"wheels/{name[: -len('.tar.gz')]}", f"{tag[2:3]}.{tag[3:]}"


def read_modules(content: bytes, largest: int = LARGEST_CONTENT) -> "Iterator[tuple[str, bytes]]":
    """Yield name and content of each `.pyc` file; raise IntegrityError for anything else."""
    data = _decompress(content, largest)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                yield _checked_name(member), _read(archive, member)
    except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:
        raise _unsafe(f"it cannot be read: {error}") from None


def source_of(name: str) -> str:
    """Return the path of the source file that the `.pyc` file *name* belongs to."""
    folder, _, file = name.rpartition("__pycache__/")
    return f"{folder}{file.rsplit('.', 2)[0]}.py"


def _unsafe(message: str) -> IntegrityError:
    return IntegrityError(message, hint="copy the bundle again; the file is not used")


def _decompress(content: bytes, largest: int) -> bytes:
    decompressor = zlib.decompressobj(_WBITS_GZIP)
    try:
        data = decompressor.decompress(content, largest)
    except zlib.error as error:
        raise _unsafe(f"it cannot be read: {error}") from None
    if decompressor.unconsumed_tail:
        raise _unsafe(f"it unpacks to more than {largest} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise _unsafe("it is cut short, or something follows it")
    return data


def _checked_name(member: tarfile.TarInfo) -> str:
    """Return the name of a member; raise unless it is a `.pyc` file below site-packages."""
    name = member.name
    parts = name.split("/")
    is_inside = not {"", ".", ".."}.intersection(parts)
    is_bytecode = parts[-2:-1] == ["__pycache__"] and parts[-1].endswith(".pyc")
    if not (is_plain(name) and is_inside and is_bytecode and parts[-1].count(".") > 1):
        raise _unsafe(f"the name {shown(name)} is not that of bytecode of a package")
    if not member.isreg() or member.issparse():
        raise _unsafe(f"{shown(name)} is not a regular file")
    return name


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise _unsafe(f"{shown(member.name)} is cut short")
    return content
