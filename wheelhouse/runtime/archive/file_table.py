"""The file table of a manifest, as far as an archive goes."""

from ..errors import IntegrityError, first_problems
from ..files import is_digest, sha256_of
from ..names import CHECKSUMS, COPY_AGAIN_HINT, FORMAT, LARGEST_SIZE, MANIFEST
from ..paths import path_problems, shown
from ..strict_json import parse_object
from .tar import Entry, tar_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


class Table:
    """What of a manifest tells the bytes of an archive."""

    def __init__(self, document: bytes, fields: "dict[str, Any]") -> None:
        self._fields = fields
        self.digest = sha256_of(document)
        """Of the manifest itself."""
        self.raw_files: dict[str, Any] = fields["files"]
        self.files = {
            path: (file.get("sha256", ""), file.get("size", 0))
            for path, file in self.raw_files.items()
        }
        """Digest and size by path; empty and 0 for SHA256SUMS."""
        self.time = tar_time(fields["timestamp"])
        self.generation: int = fields.get("generation", 1)
        self.ancestors: tuple[str, ...] = tuple(fields.get("ancestors", ()))
        digests = {path: sha256 for path, (sha256, _) in self.files.items() if path != CHECKSUMS}
        self.checksums = render_checksums(digests, self.digest)

    def entry(self, path: str) -> Entry:
        """Return the member of an archive that brings the file at *path*."""
        is_executable = path.startswith("uv/") or self.raw_files[path].get("executable") is True
        return Entry(path, *self.files[path], is_executable=is_executable)

    def with_files(self, others: "Mapping[str, Any]") -> bytes:
        """Render the manifest with *others* among its files, for a journal."""
        import json

        document = {**self._fields, "files": {**others, **self.raw_files}}
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")


def read_table(document: bytes) -> Table:
    """Read a manifest's table of files and its lineage; raises Refusal that names what is wrong."""
    fields = parse_object(document, MANIFEST)
    if type(fields.get("format")) is not int or fields["format"] != FORMAT:
        hint = "use the offline-bundle that built it, or a newer one"
        raise IntegrityError(f"{MANIFEST} has another format than {FORMAT}", hint=hint)
    problems = [*_table_problems(fields), *_file_problems(fields.get("files"))]
    if problems:
        raise IntegrityError(
            f"{MANIFEST} does not describe a bundle",
            hint=COPY_AGAIN_HINT,
            problems=first_problems(problems),
        )
    return Table(document, fields)


def _table_problems(fields: "Mapping[str, Any]") -> "Iterator[str]":
    if not isinstance(fields.get("timestamp"), str):
        yield "timestamp: must be a time"
    generation, ancestors = fields.get("generation", 1), fields.get("ancestors", [])
    if type(generation) is not int or not 0 < generation <= LARGEST_SIZE:
        yield "generation: must be a positive number"
    if not isinstance(ancestors, list) or not all(is_digest(a) for a in ancestors):
        yield "ancestors: must be digests"


def _file_problems(files: object) -> "Iterator[str]":
    if not isinstance(files, dict) or CHECKSUMS not in files:
        yield f"files: must be an object that names {CHECKSUMS}"
        return
    for path, reason in path_problems(files):
        yield f"{shown(path)}: {reason}"
    for path, file in files.items():
        if path == CHECKSUMS:
            if not isinstance(file, dict) or "sha256" in file or "size" in file:
                yield f"{CHECKSUMS}: has no digest or size"
        elif not isinstance(file, dict) or not _is_content(file.get("sha256"), file.get("size")):
            yield f"{shown(path)}: must have a sha256 and a size"


def _is_content(sha256: object, size: object) -> bool:
    return is_digest(sha256) and type(size) is int and 0 <= size <= LARGEST_SIZE


def render_checksums(digests: "Mapping[str, str]", manifest_digest: str) -> bytes:
    r"""Render `SHA256SUMS` for `sha256sum -c`: every file of the bundle but itself, and `bundle.json`.

    coreutils escapes backslashes and newlines in names; no path of a bundle has them (`unsafe_path`).
    """
    lines = {**digests, MANIFEST: manifest_digest}
    return "".join(f"{lines[path]}  {path}\n" for path in sorted(lines)).encode()
