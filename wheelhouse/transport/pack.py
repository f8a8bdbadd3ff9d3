"""Pack a bundle, or its difference from another one, as an archive.

pack(Path("bundle"), Path("bundle.tar"), since=Path("transferred-last-time.tar"))

`wheelhouse.runtime.archive` defines every byte of an archive; it reads archives, here and in the
unpacker beside them. This module writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import NoReturn

from offline_bundle.wheelhouse.runtime.archive.check import THE_END, find_damage
from offline_bundle.wheelhouse.runtime.archive.extract import intact_files
from offline_bundle.wheelhouse.runtime.archive.reader import (
    ArchiveHead,
    ArchiveLayout,
    render_delta,
)
from offline_bundle.wheelhouse.runtime.archive.tar import END, Entry
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, read_manifest_bytes
from offline_bundle.wheelhouse.runtime.disk.commit import journal_paths
from offline_bundle.wheelhouse.runtime.disk.files import NotRegularError, sha256_of
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    InputError,
    IntegrityError,
    translate_os_errors,
)
from offline_bundle.wheelhouse.runtime.names import LARGEST_HEADER_FILE, MANIFEST, SIGNATURE
from offline_bundle.wheelhouse.store.shipped import unpacker
from offline_bundle.wheelhouse.transport.open import read_manifest_document
from offline_bundle.wheelhouse.transport.output import ArchiveOutput, open_output


@dataclass(frozen=True)
class PackReport:
    """Result of packing."""

    files: tuple[Path, ...]
    """Files to transfer: the archive, or its parts and their list, and the unpacker."""
    members: int
    """Files of the manifest in it."""
    left_out: int
    """Files of the manifest that the base has already."""
    size: int
    """Bytes of the archive, in all its parts."""


def pack(
    directory: Path,
    output: Path,
    *,
    since: Path | None = None,
    split_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> PackReport:
    """Write the bundle at *directory* as the archive *output*, or what it has more than *since*.

    *since* is a bundle, its manifest, or an archive. With *split_size* (bytes) *output* becomes
    OUTPUT.001 and so on. Every byte is read back and checked before any file gets its name;
    *progress* receives the bytes checked. The same bundle gives the same bytes. Raises InputError
    (2), IntegrityError (5) that names damaged files, BundleError (1).
    """
    _check_output(directory, output)
    base = None if since is None else read_manifest_document(since)
    document = read_manifest_bytes(directory)
    manifest = Manifest.from_json(document)
    with translate_os_errors(output.parent), SafeFolder(directory) as bundle:
        source = _Source(bundle, document, manifest, base)
        source.check_sizes()
        layout = source.layout
        with open_output(output, layout.size, split_size, unpacker()) as target:
            source.write_to(target)
            target.check_sizes()
            damage = find_damage(target.reader, layout.entries, source.head.time, progress)
            if target.reader.read(layout.size - END, END + 1) != bytes(END):
                damage[THE_END] = "it does not end in zeros"
            if damage:
                source.raise_for_damage(output, damage)
            files = target.put_in_place()
    members = len(layout.included) + 1  # SHA256SUMS is in the head of every archive
    left_out = len(source.head.manifest.files) - members
    return PackReport(tuple(files), members, left_out, layout.size)


class _Source:
    """A bundle that is packed: its head and layout in the archive, and its files."""

    def __init__(
        self, bundle: SafeFolder, document: bytes, manifest: Manifest, base: bytes | None
    ) -> None:
        self._bundle = bundle
        self.head = ArchiveHead(document, manifest, signature=_read_signature(bundle))
        if base is not None:
            old = Manifest.from_json(base)
            old_contents, contents = old.contents(), manifest.contents()
            changed = [path for path in contents if old_contents.get(path) != contents[path]]
            self.head.delta = render_delta(sha256_of(base), old.generation, changed)
        self._check_unchanged()  # the signature, read after it, must be of this manifest
        self.layout = ArchiveLayout(self.head)

    def check_sizes(self) -> None:
        """Find the damage that can be found without reading the files."""
        problems = []
        for entry in self._file_entries():
            size = self._bundle.size(entry.path)
            if size is None:
                problems.append(f"{entry.path}: missing, or not a regular file")
            elif size != entry.size:
                problems.append(f"{entry.path}: expected {entry.size} bytes, found {size}")
        self._raise_for_bundle(problems)

    def write_to(self, target: ArchiveOutput) -> None:
        """Write all members and the end."""
        time = self.head.time
        contents = self.head.contents()
        for entry in self.layout.entries:
            target.write(entry.header(time))
            if entry.path in contents:
                target.write(contents[entry.path])
            else:
                self._write_file(target, entry)
            target.write(bytes(entry.end - entry.offset - entry.size))
        target.write(bytes(END))

    def raise_for_damage(self, output: Path, damage: Mapping[str, str]) -> None:
        """Raise for members that read back differently: the bundle, or the medium, is at fault."""
        damaged = [entry for entry in self._file_entries() if entry.path in damage]
        files = {entry.path: (entry.sha256, entry.size) for entry in damaged}
        bad = sorted(files.keys() - intact_files(self._bundle, files))
        self._raise_for_bundle([f"{path}: its sha256 is not {files[path][0]}" for path in bad])
        raise BundleError(
            f"{output}: what was written reads back differently",
            problems=[f"{path}: {problem}" for path, problem in damage.items()],
            hint="the medium is faulty: use another one",
        )

    def _file_entries(self) -> Sequence[Entry]:
        return [entry for entry in self.layout.entries if entry.path in self.layout.included]

    def _write_file(self, target: ArchiveOutput, entry: Entry) -> None:
        try:
            with self._bundle.open(entry.path) as file:
                copied = target.write_file(file, entry.size)
        except FileNotFoundError:
            copied = 0
        if copied < entry.size:
            self._raise_for_bundle([f"{entry.path}: became shorter while it was packed"])

    def _check_unchanged(self) -> None:
        if self._bundle.read(MANIFEST) != self.head.document:
            self._raise_changed()

    def _raise_changed(self) -> NoReturn:
        raise BundleError(
            f"{self._bundle.path} was changed while it was packed",
            hint="run `pack` again when the update is complete",
        )

    def _raise_for_bundle(self, problems: Collection[str]) -> None:
        """Raise if there are *problems* with files, because of damage or of an update."""
        if not problems:
            return
        path = self._bundle.path
        # An update replaces files before it replaces the manifest; until then it has a journal.
        if journal_paths(self._bundle):
            self._raise_changed()
        self._check_unchanged()
        raise IntegrityError(
            f"{path} is damaged and was not packed: {len(problems)} files do not match its "
            f"{MANIFEST}",
            problems=tuple(problems),
            hint=f"see `offline-bundle verify {quote(str(path))}`; build it again",
        )


def _read_signature(bundle: SafeFolder) -> bytes | None:
    try:
        with bundle.open(SIGNATURE) as file:
            return file.read(LARGEST_HEADER_FILE)
    except FileNotFoundError:
        return None
    except NotRegularError as error:
        raise IntegrityError(
            f"{bundle.full_path(SIGNATURE)} is not a regular file", hint="sign the bundle again"
        ) from error


def _check_output(directory: Path, output: Path) -> None:
    if output.suffix != ".tar" or output.name == ".tar":
        raise InputError(f"{output} does not end in .tar", hint="name the archive FILE.tar")
    if output.is_dir():
        raise InputError(f"{output} is a folder", hint="name a file that ends in .tar")
    if output.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{output} is in the bundle itself", hint="name a file elsewhere")
    if not output.parent.is_dir():
        raise InputError(
            f"{output.parent} does not exist", hint="create the folder, or mount the medium"
        )
