"""The manifest, `bundle.json`: the list of everything in a bundle, as frozen dataclasses.

A manifest from a medium is untrusted input: `Manifest.from_json` checks every type, digest, path
and reference, and reports all problems at once. The paths in the result are safe to join to the
bundle's folder.

    manifest = read_manifest(Path("bundle"))
    manifest.scripts["eval"].locks["cp312-x86_64-manylinux_2_28"].packages["numpy"].wheel
"""

import json
import os
from dataclasses import dataclass, field

from ..disk.files import NotRegularError, open_regular, sha256_of
from ..disk.paths import path_problems
from ..errors import InputError, IntegrityError
from ..names import CHECKSUMS, DATA, ENVIRONMENT_MARK, FORMAT, MANIFEST, PROVENANCE
from ..strict_json import JsonTable, Problems, parse_object, shown_value
from ..text import shown
from .manifest_entries import (
    TIME,
    TIME_KIND,
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledPython,
    BundledScript,
    BundledTarget,
    BundledUv,
    Publisher,
    Source,
    file_json,
    read_file,
    read_python,
    read_script,
    script_json,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Union

__all__ = [
    "BundledFile",
    "BundledLock",
    "BundledPackage",
    "BundledPython",
    "BundledScript",
    "BundledTarget",
    "BundledUv",
    "Manifest",
    "Publisher",
    "Source",
    "read_manifest",
    "read_manifest_bytes",
    "render_checksums",
]

_NOT_A_BUNDLE = f"{MANIFEST} does not describe a bundle"
_HINT = "copy the bundle again, or build it again"
_NO_FILES = '\n "files": {}'


@dataclass(frozen=True)
class Manifest:
    """Everything in a bundle. A file is in the bundle if and only if `files` names it."""

    created_by: str
    timestamp: str
    """UTC, ISO 8601 with `Z`."""
    scripts: "Mapping[str, BundledScript]" = field(default_factory=dict)
    targets: "Mapping[str, BundledTarget]" = field(default_factory=dict)
    uv: "Mapping[str, BundledUv]" = field(default_factory=dict)
    """By platform."""
    files: "Mapping[str, BundledFile]" = field(default_factory=dict)
    """By path relative to the bundle."""
    pythons: "Mapping[str, BundledPython]" = field(default_factory=dict)
    """By target name; empty for most bundles."""
    generation: int = 1
    """1 for the first manifest of a bundle; each commit that changes something adds 1."""
    ancestors: "tuple[str, ...]" = ()
    """Digests of the manifests before this one, newest first, at most MOST_ANCESTORS."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size or 0 for file in self.files.values())

    def locks(self) -> "Iterator[tuple[str, str, BundledLock]]":
        """Yield each lock with the names of its script and target, sorted by these."""
        for name, script in sorted(self.scripts.items()):
            for target, lock in sorted(script.locks.items()):
                yield name, target, lock

    def contents(self) -> "dict[str, tuple[str, int]]":
        """Return digest and size by path; SHA256SUMS has none."""
        return {
            path: (file.sha256, file.size)
            for path, file in self.files.items()
            if file.sha256 is not None and file.size is not None
        }

    @classmethod
    def from_json(cls, content: "Union[bytes, str]") -> "Manifest":
        """Read and check a manifest; raise one IntegrityError with all problems.

        Unknown keys are ignored: a later offline-bundle may add some within format 1.
        """
        document = parse_object(content, MANIFEST, hint=_HINT)
        _check_format(document.get("format"))
        problems = Problems()
        manifest = _read_tables(JsonTable(document, (), problems))
        _check_paths(manifest, problems)
        _check_references(manifest, problems)
        problems.raise_if_any(_NOT_A_BUNDLE, _HINT)
        return manifest

    def to_json(self) -> bytes:
        """Render in one way only: the same manifest gives the same bytes.

        Keys are sorted, text is ASCII, and each file is one line, because a manifest is in every
        difference, however small.
        """
        document: dict[str, Any] = {
            "format": FORMAT,
            "created-by": self.created_by,
            "timestamp": self.timestamp,
            "scripts": {name: script_json(script) for name, script in self.scripts.items()},
            "targets": {name: vars(target) for name, target in self.targets.items()},
            "uv": {platform: vars(uv) for platform, uv in self.uv.items()},
            "files": {},
        }
        if self.pythons:
            document["pythons"] = {name: vars(python) for name, python in self.pythons.items()}
        if self.generation > 1:
            document["generation"] = self.generation
        if self.ancestors:
            document["ancestors"] = self.ancestors
        text = json.dumps(document, indent=1, sort_keys=True)
        # why one replacement: only this line has one space before its key; no text has a line break
        return f"{text.replace(_NO_FILES, _render_files(self.files), 1)}\n".encode("ascii")


def _render_files(files: "Mapping[str, BundledFile]") -> str:
    lines = [
        f"\n  {json.dumps(path)}: "
        + json.dumps(file_json(file), separators=(",", ":"), sort_keys=True)
        for path, file in sorted(files.items())
    ]
    return f'\n "files": {{{",".join(lines)}\n }}'


def read_manifest(directory: "Union[str, os.PathLike[str]]") -> Manifest:
    """Read the manifest of the bundle at *directory*.

    Raises InputError if it is missing, IntegrityError if it is faulty.
    """
    return Manifest.from_json(read_manifest_bytes(directory))


def read_manifest_bytes(directory: "Union[str, os.PathLike[str]]") -> bytes:
    """Return `bundle.json` unchecked: the bytes that are signed and that `SHA256SUMS` lists."""
    path = os.path.join(directory, MANIFEST)
    try:
        with open_regular(path) as file:
            return file.read()
    except NotRegularError as error:
        message = f"{path} is not a regular file"
        raise IntegrityError(message, hint="copy the bundle again") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        message = f"there is no folder {directory}"
        if os.path.isdir(directory):
            message = f"{directory} is not a bundle: it has no {MANIFEST}"
        hint = "name the folder that build-offline-bundle wrote (-o), or that unpack created"
        raise InputError(message, hint=hint) from error
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise InputError(message, hint="check its permissions") from error


def render_checksums(manifest: Manifest, manifest_bytes: bytes) -> bytes:
    r"""Render `SHA256SUMS` for `sha256sum -c`: `bundle.json` and every file except itself.

    coreutils escapes backslashes and newlines in names; bundle paths have none (`unsafe_path`).
    """
    digests = {path: file.sha256 for path, file in manifest.files.items() if file.sha256}
    digests[MANIFEST] = sha256_of(manifest_bytes)
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode()


def _check_format(version: object) -> None:
    if type(version) is not int or version < FORMAT:
        message = f"{MANIFEST} has no known format: {shown_value(version)}"
        raise IntegrityError(message, hint=_HINT)
    if version > FORMAT:
        raise IntegrityError(
            f"{MANIFEST} has format {shown_value(version)}; this version reads format {FORMAT}",
            hint="use the offline-bundle that built it, or a newer one",
        )


def _read_tables(table: JsonTable) -> Manifest:
    scripts, targets, uvs = (table.table(key) for key in ("scripts", "targets", "uv"))
    pythons = table.table("pythons").tables(named=True) if table.has("pythons") else ()
    return Manifest(
        created_by=table.text("created-by"),
        timestamp=table.text("timestamp", TIME, TIME_KIND),
        scripts={name: read_script(script) for name, script in scripts.tables(named=True)},
        targets={
            name: BundledTarget(target.text("python"), target.text("platform"))
            for name, target in targets.tables(named=True)
        },
        uv={
            platform: BundledUv(uv.text("version"), uv.text("path"))
            for platform, uv in uvs.tables(named=True)
        },
        files={
            path: read_file(path, file) for path, file in table.table("files").tables(named=False)
        },
        pythons={target: read_python(python) for target, python in pythons},
        generation=(
            table.integer("generation", least=1, kind="a number from 1 on")
            if table.has("generation")
            else 1
        ),
        ancestors=table.digests("ancestors") if table.has("ancestors") else (),
    )


def _check_paths(manifest: Manifest, problems: Problems) -> None:
    """Check that each path is safe, and that no two collide on any file system."""
    for path, reason in path_problems(manifest.files):
        problems.add(("files", path), reason)
    checksums = manifest.files.get(CHECKSUMS)
    if checksums and (checksums.sha256, checksums.size) != (None, None):
        reason = "is rendered from this table, so it has no digest or size"
        problems.add(("files", CHECKSUMS), reason)


def _check_references(manifest: Manifest, problems: Problems) -> None:
    """Check that every file and target that the manifest refers to is in it."""
    for platform, uv in manifest.uv.items():
        _check_listed(manifest, uv.path, ("uv", platform, "path"), problems)
    for target in manifest.pythons:
        _check_python(manifest, target, problems)
    for path, file in manifest.files.items():
        if file.publisher is not None:
            _check_listed(manifest, f"{path}{PROVENANCE}", ("files", path, "publisher"), problems)
    data = {path.split("/")[1] for path in manifest.files if path.startswith(f"{DATA}/")}
    for name, script in manifest.scripts.items():
        keys = ("scripts", name)
        for entry in script.data:
            if entry not in data:
                problems.add((*keys, "data"), f"{shown(f'{DATA}/{entry}')} is not in files")
        _check_listed(manifest, script.path, (*keys, "path"), problems)
        for target, lock in script.locks.items():
            if target not in manifest.targets:
                problems.add((*keys, "locks", target), "is not in targets")
            _check_lock(manifest, lock, (*keys, "locks", target), problems)


def _check_python(manifest: Manifest, target: str, problems: Problems) -> None:
    python, keys = manifest.pythons[target], ("pythons", target)
    _check_listed(manifest, python.path, (*keys, "path"), problems)
    if target not in manifest.targets:
        problems.add(keys, "is not in targets")
        return
    minor = manifest.targets[target].python
    if python.version and minor.rstrip("t") != python.version.rpartition(".")[0]:
        problems.add((*keys, "version"), f"is not of Python {shown(minor)}")


def _check_lock(
    manifest: Manifest, lock: BundledLock, keys: "tuple[str, ...]", problems: Problems
) -> None:
    _check_listed(manifest, lock.lock, (*keys, "lock"), problems)
    _check_listed(manifest, lock.requirements, (*keys, "requirements"), problems)
    if lock.environment is not None:
        mark = f"{lock.environment}/{ENVIRONMENT_MARK}"
        _check_listed(manifest, mark, (*keys, "environment"), problems)
    if lock.image is not None:
        _check_listed(manifest, lock.image, (*keys, "image"), problems)
    for name, package in lock.packages.items():
        if package.wheel not in manifest.files:
            _check_listed(manifest, package.wheel, (*keys, "packages", name, "wheel"), problems)


def _check_listed(
    manifest: Manifest, path: str, keys: "tuple[str, ...]", problems: Problems
) -> None:
    if path not in manifest.files:
        problems.add(keys, f"{shown(path)} is not in files")
