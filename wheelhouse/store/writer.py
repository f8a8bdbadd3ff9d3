"""Write a bundle: one writer at a time, files staged aside, and one rename that commits.

    with BundleWriter(Path("bundle")) as writer:
        writer.commit(manifest, {"run.py": content, "wheels/numpy-….whl": path_in_the_cache})

Readers need no lock and see the old bundle or the new one; `runtime/disk/commit.py` has the order
of the renames. A killed writer leaves a journal, which the next writer uses to finish or clean up.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    Manifest,
    read_manifest_bytes,
    render_checksums,
)
from offline_bundle.wheelhouse.runtime.bundle.unreadable import (
    manifest_of_files,
    read_journals,
    remove_if_new,
)
from offline_bundle.wheelhouse.runtime.disk.commit import check_is_bundle_folder, commit_files
from offline_bundle.wheelhouse.runtime.disk.files import file_digest, sha256_of
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.runtime.errors import (
    IntegrityError,
    corrupt_bundle,
    translate_os_errors,
)
from offline_bundle.wheelhouse.runtime.names import (
    CHECKSUMS,
    MANIFEST,
    MOST_ANCESTORS,
    SIGNATURE,
    STAGING,
    WRITER,
)
from offline_bundle.wheelhouse.store.staging import link_or_copy, make_executable

_STAGING_WORKERS = 4


class BundleWriter:
    """The only writer of the bundle at `directory`, within the `with` block.

    Raises InputError (2) if `directory` is neither a bundle nor an empty folder.
    """

    def __init__(
        self,
        directory: Path,
        *,
        on_wait: Callable[[], object] | None = None,
        on_unreadable: Callable[[IntegrityError], None] | None = None,
    ) -> None:
        """*on_wait* is called once if another writer has the lock.

        *on_unreadable* is called if the manifest in force cannot be read. It raises, or else the
        first commit replaces the whole bundle.
        """
        self.directory = directory
        self.current: Manifest | None = None
        """The manifest in force; None for a new bundle."""
        self.current_bytes = b""
        """Its bytes on disk."""
        self._abandoned: list[Manifest] = []
        """Journals of killed writers."""
        self._corrupt: set[str] = set()
        self._on_wait = on_wait
        self._on_unreadable = on_unreadable
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Take the lock and read the manifest in force."""
        with self._stack, translate_os_errors(self.directory):
            check_is_bundle_folder(str(self.directory))
            self.directory.mkdir(parents=True, exist_ok=True)
            self._folder = self._stack.enter_context(SafeFolder(self.directory))
            self._folder.make_folder(WRITER)
            lock = FileLock(f"{WRITER}/lock", opener=self._folder.open_lock)
            self._stack.callback(lock.release)
            if not lock.acquire(block=False):
                if self._on_wait:
                    self._on_wait()
                lock.acquire(block=True)
            self._abandoned = read_journals(self._folder)
            if (self.directory / MANIFEST).exists():
                self._read_current()
            self._folder.remove_tree(STAGING)
            self._stack = self._stack.pop_all()  # nothing failed: release all in __exit__
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove staged files, and the folder if nothing was ever committed."""
        with self._stack:
            self._folder.remove_tree(STAGING)
            if self.current is None:
                remove_if_new(self._folder)

    def _read_current(self) -> None:
        document = read_manifest_bytes(self.directory)
        try:
            self.current = Manifest.from_json(document)
        except IntegrityError as error:
            if self._on_unreadable is None:
                raise
            self._on_unreadable(error)
            self._abandoned.append(manifest_of_files(self._folder))
        else:
            self.current_bytes = document

    def mark_corrupt(self, paths: Collection[str]) -> None:
        """Treat the files at *paths* as missing: they were read, and have other bytes."""
        self._corrupt.update(paths)

    def find_file(self, path: str, sha256: str) -> Path | None:
        """Return the bundle's file at *path* if it has this digest, by manifest and size on disk.

        The file is read only if a killed writer may have replaced it.
        """
        entry = self.current.files.get(path) if self.current else None
        if entry is None or entry.sha256 != sha256 or path in self._corrupt:
            return None
        file = self.directory / path
        if _size(file) != entry.size:
            return None
        may_be_replaced = any(
            path in journal.files and journal.files[path].sha256 != sha256
            for journal in self._abandoned
        )
        return None if may_be_replaced and file_digest(file) != sha256 else file

    def is_tracked(self, path: str) -> bool:
        """Return whether the manifest in force, or the journal of a killed writer, names *path*."""
        manifests = [self.current, *self._abandoned] if self.current else self._abandoned
        return any(path in manifest.files for manifest in manifests)

    def commit(  # noqa: PLR0913 - a commit has that many parts
        self,
        manifest: Manifest,
        contents: Mapping[str, bytes | Path],
        *,
        document: bytes | None = None,
        signature: bytes | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        corrupt: Collection[str] = (),
    ) -> bool:
        """Give the bundle exactly the files of *manifest*; return True if anything changed.

        *contents* has the bytes, or a file to take them from, of every file that the bundle does
        not have yet. Files in `.writer/` are moved, others copied. Present files with the right
        digest stay, except *corrupt* ones. Files that only the previous manifest names are removed.

        Generation and ancestors are set here: unchanged if nothing else changes, else the next.
        A *document* (bytes of a manifest from an archive) is taken as is, with its *signature* if
        any. Otherwise *sign* signs the new manifest. Without either, an existing signature is
        removed when the manifest changes.
        """
        if document is None:
            manifest, document = self._next_generation(manifest)
            signature = sign(document) if sign else None
        checksums = render_checksums(manifest, document)
        with translate_os_errors(self.directory):
            new_contents = self._new_contents(manifest, contents, corrupt)
            unchanged = document == self.current_bytes and not (new_contents or self._abandoned)
            if unchanged and self._is_whole(checksums, signature):
                return False
            obsolete = self._obsolete(manifest)
            commit_files(
                self.directory,
                self._stage(new_contents, manifest),
                document=document,
                checksums=checksums,
                journal=replace(manifest, files={**obsolete, **manifest.files}).to_json(),
                signature=signature,
                obsolete=sorted(obsolete),
            )
        self.current, self.current_bytes, self._abandoned = manifest, document, []
        return True

    def replace_signature(self, signature: bytes) -> None:
        """Write `bundle.json.sig` of the manifest in force."""
        staged = f"{STAGING}/{SIGNATURE}"
        with translate_os_errors(self.directory):
            self._folder.make_folder(STAGING)
            self._folder.write(staged, signature, durable=True)
            self._folder.replace(staged, SIGNATURE)

    def _is_whole(self, checksums: bytes, signature: bytes | None) -> bool:
        is_signed = signature is None or self._folder.read(SIGNATURE) == signature
        return is_signed and self._folder.read(CHECKSUMS) == checksums

    def _next_generation(self, manifest: Manifest) -> tuple[Manifest, bytes]:
        """Return *manifest* as successor of the one in force, without clock or random numbers."""
        successor = replace(manifest, generation=1, ancestors=())
        current = self.current
        if current is not None:
            same = replace(manifest, generation=current.generation, ancestors=current.ancestors)
            if same == current or same.to_json() == current.to_json():
                # Its bytes stay: an older version may have laid them out differently, and their
                # signature stays valid.
                return current, self.current_bytes
            ancestors = (sha256_of(self.current_bytes), *current.ancestors)[:MOST_ANCESTORS]
            successor = replace(manifest, generation=current.generation + 1, ancestors=ancestors)
        return successor, successor.to_json()

    @property
    def _staging(self) -> Path:
        return self.directory / STAGING

    def _new_contents(
        self, manifest: Manifest, contents: Mapping[str, bytes | Path], corrupt: Collection[str]
    ) -> dict[str, bytes | Path]:
        """Return the contents of the files to write; raises IntegrityError if some are missing."""
        new: dict[str, bytes | Path] = {}
        missing = []
        for path, file in manifest.files.items():
            if path == CHECKSUMS:
                continue
            if path not in corrupt and self.find_file(path, file.sha256 or ""):
                continue
            if path in contents:
                self._check_untracked(path, file)
                new[path] = contents[path]
            elif path in corrupt or not self._is_in_place(path, file):
                missing.append(path)
        if missing:
            raise corrupt_bundle(self.directory, missing)
        return new

    def _is_in_place(self, path: str, file: BundledFile) -> bool:
        """Return whether a killed writer has put the file in place."""
        on_disk = self.directory / path
        return _size(on_disk) == file.size and file_digest(on_disk) == file.sha256

    def _check_untracked(self, path: str, file: BundledFile) -> None:
        """Accept a file that no manifest names only if its bytes are right; never overwrite it."""
        on_disk = self.directory / path
        if self.is_tracked(path) or not os.path.lexists(on_disk):
            return
        if _size(on_disk) is None or file_digest(on_disk) != file.sha256:
            raise IntegrityError(
                f"{on_disk}: exists with other content, and is not a file of the bundle",
                hint="move it away, or build into another folder",
            )

    def _obsolete(self, manifest: Manifest) -> dict[str, BundledFile]:
        """Return the files that only earlier manifests and journals name."""
        files: dict[str, BundledFile] = {}
        for earlier in (*self._abandoned, *([self.current] if self.current else [])):
            files |= {
                path: file for path, file in earlier.files.items() if path not in manifest.files
            }
        return files

    @property
    def work_folder(self) -> Path:
        """A folder for new files, which `commit` moves instead of copying; removed at the end."""
        self._folder.make_folder(f"{STAGING}/work")
        return self._staging / "work"

    def _stage(self, contents: Mapping[str, bytes | Path], manifest: Manifest) -> dict[str, Path]:
        """Write or copy new files into the staging folder; return where each one is."""
        self._folder.make_folder(STAGING)
        staged = {path: self._staging / str(number) for number, path in enumerate(contents)}
        own_folder = self.directory / WRITER
        staged |= {
            path: content
            for path, content in contents.items()
            if not isinstance(content, bytes) and content.is_relative_to(own_folder)
        }

        def put(path: str) -> None:
            content = contents[path]
            if isinstance(content, bytes):
                self._folder.write(f"{STAGING}/{staged[path].name}", content)
            elif content != staged[path]:
                link_or_copy(content, staged[path])
            if path.startswith("uv/") or manifest.files[path].executable:
                make_executable(staged[path])

        with ThreadPoolExecutor(_STAGING_WORKERS) as pool:
            list(pool.map(put, staged))
        return staged


def _size(path: Path) -> int | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
