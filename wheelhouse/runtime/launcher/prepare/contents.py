"""What environments and interpreters in the cache contain, to find damage later."""

import base64
import binascii
import csv
import json
import os

from ...disk.file_identity import read_regular
from ...disk.files import CHUNK_SIZE, file_digest, has_digest, open_regular, sha256_of, write_atomic
from ...errors import IntegrityError
from ...names import ENVIRONMENT_MARK
from ..images.mount import FOLDER
from ..trusted_bundle import DAMAGED_HINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .plan import Plan

    FileTable = Mapping[str, Sequence[int]]
    """Path -> size in bytes and CRC-32. The cache is private: this finds accidents."""

CONTENTS = "contents.json"
_REWRITTEN = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"}


def checksums(content: bytes) -> "list[int]":
    """Return what a file table has for a file with this content."""
    return [len(content), binascii.crc32(content)]


def file_checksums(path: str) -> "list[int]":
    """Return what a file table has for the file at *path*, which may be larger than the memory."""
    size = checksum = 0
    with open_regular(path, follow_links=True) as file:
        for chunk in iter(lambda: file.read(CHUNK_SIZE), b""):
            size, checksum = size + len(chunk), binascii.crc32(chunk, checksum)
    return [size, checksum]


def changed_files(folder: str, table: "FileTable", *, read: bool = True) -> "Iterator[str]":
    """Yield the files of *table* that are missing or changed; compare sizes only without *read*."""
    for name, expected in table.items():
        path = os.path.join(folder, name)
        try:
            is_same = os.stat(path).st_size == expected[0]
            if is_same and read:
                is_same = file_checksums(path) == list(expected)
        except OSError:
            is_same = False
        if not is_same:
            yield path


def write_contents(home: str, site_packages: "Sequence[str]", files: "FileTable") -> None:
    """Record what *home* has: the digest of each RECORD, other *files* by path, and pyvenv.cfg.

    A RECORD has the digests of the other files of its package (PEP 376).
    """
    real_home, records = os.path.join(os.path.realpath(home), ""), {}
    for folder in site_packages:
        for name in os.listdir(folder):
            path = os.path.join(folder, name, "RECORD")
            if name.endswith(".dist-info") and os.path.isfile(path):
                with open(path, "rb") as file:
                    digest = sha256_of(file.read())
                records[os.path.relpath(os.path.realpath(path), real_home)] = digest
    table = {path.removeprefix(real_home): list(files[path]) for path in files}
    mark = os.path.join(home, "env", ENVIRONMENT_MARK)
    if os.path.exists(mark):
        table[os.path.join("env", ENVIRONMENT_MARK)] = file_checksums(mark)
    document = {"records": records, "files": table}
    write_atomic(os.path.join(home, CONTENTS), json.dumps(document).encode())


def changed_in_environment(home: str) -> "Iterator[str]":
    """Yield the files that differ from what `write_contents` recorded. Raises OSError, ValueError.

    An unpacked image has a record of its own. Of an environment without one, nothing is known.
    """
    for folder in (home, os.path.join(home, FOLDER)):
        if not os.path.exists(os.path.join(folder, CONTENTS)):
            return
        contents = json.loads(read_regular(os.path.join(folder, CONTENTS)))
        for record, digest in contents.get("records", {}).items():
            path = os.path.join(folder, record)
            if not has_digest(path, digest):
                yield path
                return
            yield from changed_of_record(path)
        yield from changed_files(folder, contents.get("files", {}))


def changed_of_record(record: str) -> "Iterator[str]":
    """Yield the files that differ from a RECORD, the list of an installed package (PEP 376)."""
    root = os.path.dirname(os.path.dirname(record))
    with open(record, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) >= 2 and row[1]]
    for name, digest, *_ in rows:
        path = os.path.join(root, name)
        algorithm, _, expected = digest.partition("=")
        if not os.path.isfile(path) or (algorithm == "sha256" and _base64(path) != expected):
            yield path


def _base64(path: str) -> str:
    """Return the sha256 of a file as a RECORD has it."""
    digest = binascii.unhexlify(file_digest(os.path.realpath(path)))
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def truncated_files(plan: "Plan", site_packages: str) -> "list[str]":
    """Return the installed files that do not have the size that their wheel lists for them.

    uv installs from its cache of unpacked wheels without reading the wheels again.
    """
    import zipfile  # slow, and seldom needed

    sizes: dict[str, set[int]] = {}
    for package in plan.lock.packages.values():
        path = plan.bundle.path(package.wheel)
        try:
            with zipfile.ZipFile(path) as wheel:
                members = wheel.infolist()
        except (OSError, zipfile.BadZipFile):
            message = f"{path} does not match its digest in bundle.json"
            raise IntegrityError(message, hint=DAMAGED_HINT) from None
        for member in members:
            name = _installed_name(member.filename)
            if name and not member.is_dir():
                sizes.setdefault(name, set()).add(member.file_size)
    return [
        path
        for name, expected in sizes.items()
        for path in [os.path.join(site_packages, *name.split("/"))]
        if not os.path.isfile(path) or os.path.getsize(path) not in expected
    ]


def _installed_name(name: str) -> str:
    """Return the path below site-packages of a wheel's file (binary format, PEP 427).

    Return an empty string for what installers rewrite, install elsewhere, or leave out.
    """
    top, _, inner = name.partition("/")
    if top.endswith(".data"):
        scheme, _, name = inner.partition("/")
        return name if scheme in {"purelib", "platlib"} else ""
    is_rewritten = top.endswith(".dist-info") and inner in _REWRITTEN
    return "" if is_rewritten or "\\" in name or {"", ".."} & set(name.split("/")) else name
