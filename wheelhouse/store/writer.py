"""Writing a bundle: one writer at a time, files staged aside, and one rename that commits.

    with BundleWriter(Path("bundle")) as writer:
        writer.commit(manifest, {"run.py": launcher_bytes, "wheels/numpy-….whl": path_in_the_cache})

Readers need no lock and see the old bundle or the new one. `docs/architecture.md` says how a kill is survived.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from offline_bundle.wheelhouse.runtime.commit import (
    check_is_bundle_folder,
    commit_files,
    journal_paths,
)
from offline_bundle.wheelhouse.runtime.errors import (
    IntegrityError,
    corrupt_bundle,
    translate_os_errors,
)
from offline_bundle.wheelhouse.runtime.files import file_digest, sha256_of
from offline_bundle.wheelhouse.runtime.locks import FileLock
from offline_bundle.wheelhouse.runtime.manifest import (
    Manifest,
    read_manifest_bytes,
    render_checksums,
)
from offline_bundle.wheelhouse.runtime.names import (
    CHECKSUMS,
    MANIFEST,
    MOST_ANCESTORS,
    PENDING,
    SIGNATURE,
    STAGING,
    WRITER,
)
from offline_bundle.wheelhouse.runtime.safe_folder import SafeFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType

    from offline_bundle.wheelhouse.runtime.manifest import BundledFile

__all__ = ["PENDING", "BundleWriter", "link_or_copy"]

_STAGING_WORKERS = 4
# linux/fs.h: clone a file's blocks instead of copying them (btrfs, XFS, bcachefs).
_FICLONE = 0x40049409


class BundleWriter:
    """The one writer of the bundle at `directory`, from entering to leaving the `with` block.

    Raises InputError (exit 2) when `directory` is something else than a bundle or an empty folder.
    """

    def __init__(self, directory: Path, *, on_wait: Callable[[], None] | None = None) -> None:
        """*on_wait* is called once when another writer has to be waited for."""
        self.directory = directory
        self.current: Manifest | None = None
        """The manifest in force; None for a new bundle."""
        self.current_bytes = b""
        """The same as it lies there."""
        self._abandoned: list[Manifest] = []
        self._distrusted: set[str] = set()
        self._on_wait = on_wait
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Take the lock; read what is in force."""
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
            if (self.directory / MANIFEST).exists():
                self.current_bytes = read_manifest_bytes(self.directory)
                self.current = Manifest.from_json(self.current_bytes)
            self._abandoned = self._read_abandoned()
            self._folder.remove_tree(STAGING)
            self._stack = self._stack.pop_all()  # nothing failed: release all in __exit__
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no staged file behind, and no folder where nothing was committed."""
        with self._stack:
            self._folder.remove_tree(STAGING)
            if self.current is None:
                self._remove_if_empty()

    def distrust(self, paths: Collection[str]) -> None:
        """From now on the bundle does not hold the files at *paths*: somebody read them and found other bytes."""
        self._distrusted.update(paths)

    def holds(self, path: str, sha256: str) -> Path | None:
        """The file at *path* when the bundle has it with that digest, by the manifest and the size on disk.

        Where a writer was killed, a file that it may have put there is read.
        """
        known = self.current.files.get(path) if self.current else None
        if known is None or known.sha256 != sha256 or path in self._distrusted:
            return None
        place = self.directory / path
        if _size(place) != known.size:
            return None
        doubtful = any(
            path in before.files and before.files[path].sha256 != sha256
            for before in self._abandoned
        )
        return None if doubtful and file_digest(place) != sha256 else place

    def accounts_for(self, path: str) -> bool:
        """Whether a manifest, in force or of a killed writer, says that what lies at *path* is the bundle's."""
        known = [self.current, *self._abandoned] if self.current else self._abandoned
        return any(path in manifest.files for manifest in known)

    def commit(  # noqa: PLR0913
        self,
        manifest: Manifest,
        contents: Mapping[str, bytes | Path],
        *,
        document: bytes | None = None,
        signature: bytes | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        distrusted: Collection[str] = (),
    ) -> bool:
        """Make the bundle hold exactly what *manifest* names; True when anything changed.

        *contents* has the bytes, or a file to take them from, of at least every file that is not there yet; a file in
        `.writer/` is moved, another is left. What is there with its digest is not touched, *distrusted* paths apart.
        Files that the manifest before named and this one does not are removed after the commit.

        The manifest is given its generation and its ancestors here: unchanged where nothing else changes, else one
        further than the manifest in force. A *document* is taken as it is: it came over the gap, perhaps with its
        *signature*. One that is made here is signed by *sign*, given its bytes. Without either, the signature of
        the manifest before goes when the manifest changes.
        """
        if document is None:
            manifest = self._descend(manifest)
            # One by an older offline-bundle may be laid out in another way: it stays as it is, and so its signature.
            document = self.current_bytes if manifest is self.current else manifest.to_json()
            signature = sign(document) if sign else None
        checksums = render_checksums(manifest, document)
        with translate_os_errors(self.directory):
            wanted = self._to_write(manifest, contents, distrusted)
            unchanged = document == self.current_bytes and not wanted and not self._abandoned
            if unchanged and self._is_whole(checksums, signature):
                return False
            obsolete = self._obsolete(manifest)
            commit_files(
                self.directory,
                self._stage(wanted, manifest),
                document=document,
                checksums=checksums,
                journal=replace(manifest, files={**obsolete, **manifest.files}).to_json(),
                signature=signature,
                obsolete=sorted(obsolete),
            )
        self.current, self.current_bytes, self._abandoned = manifest, document, []
        return True

    def _is_whole(self, checksums: bytes, signature: bytes | None) -> bool:
        is_signed = signature is None or _read(self.directory / SIGNATURE) == signature
        return is_signed and _read(self.directory / CHECKSUMS) == checksums

    def _descend(self, manifest: Manifest) -> Manifest:
        """Give *manifest* its place after the one in force: the same steps give the same, without clock or chance."""
        first = replace(manifest, generation=1, ancestors=())
        if self.current is None:
            return first
        same = replace(first, generation=self.current.generation, ancestors=self.current.ancestors)
        if same == self.current or same.to_json() == self.current.to_json():
            return self.current
        ancestors = (sha256_of(self.current_bytes), *self.current.ancestors)
        return replace(
            first, generation=self.current.generation + 1, ancestors=ancestors[:MOST_ANCESTORS]
        )

    @property
    def _staging(self) -> Path:
        return self.directory / WRITER / "tmp"

    def _read_abandoned(self) -> list[Manifest]:
        """The journals of writers that were killed: what they may have left behind."""
        journals = []
        for path in journal_paths(self._folder):
            try:
                journals.append(Manifest.from_json(self._folder.read(path) or b""))
            except IntegrityError:
                with suppress(OSError):
                    self._folder.remove(path)
        return journals

    def _lies_there(self, path: str, file: BundledFile) -> bool:
        """Whether the file is in place already, though no manifest in force says so: a killed writer brought it."""
        place = self.directory / path
        return _size(place) == file.size and file_digest(place) == file.sha256

    def _to_write(
        self, manifest: Manifest, contents: Mapping[str, bytes | Path], distrusted: Collection[str]
    ) -> dict[str, bytes | Path]:
        wanted: dict[str, bytes | Path] = {}
        lost = []
        for path, file in manifest.files.items():
            if path == CHECKSUMS or (
                path not in distrusted and self.holds(path, file.sha256 or "")
            ):
                continue
            if path not in contents:
                if path in distrusted or not self._lies_there(path, file):
                    lost.append(path)
                continue
            self._refuse_other_bytes(path, file.sha256 or "")
            wanted[path] = contents[path]
        if lost:
            raise corrupt_bundle(self.directory, lost)
        return wanted

    def _refuse_other_bytes(self, path: str, sha256: str) -> None:
        """A file that no manifest accounts for is somebody's: taken when its bytes are right, never overwritten."""
        place = self.directory / path
        if self.accounts_for(path) or not os.path.lexists(place):
            return
        if _size(place) is None or file_digest(place) != sha256:
            raise IntegrityError(
                f"{place} is there already with other content, and the bundle does not know it",
                hint="move it away, or build into another folder",
            )

    def _obsolete(self, manifest: Manifest) -> dict[str, BundledFile]:
        """Files on disk that only the manifests before account for."""
        files: dict[str, BundledFile] = {}
        for before in (*self._abandoned, *([self.current] if self.current else [])):
            files |= {
                path: file for path, file in before.files.items() if path not in manifest.files
            }
        return files

    @property
    def workplace(self) -> Path:
        """A folder for what a build makes: its files are moved, not copied, into the bundle; gone afterwards."""
        self._folder.make_folder(f"{STAGING}/work")
        return self._staging / "work"

    def _stage(self, wanted: Mapping[str, bytes | Path], manifest: Manifest) -> dict[str, Path]:
        self._folder.make_folder(STAGING)
        staged = {path: self._staging / str(number) for number, path in enumerate(wanted)}
        own = self.directory / WRITER
        staged |= {
            path: file
            for path, file in wanted.items()
            if isinstance(file, Path) and file.is_relative_to(own)
        }

        def put(path: str) -> None:
            content = wanted[path]
            if isinstance(content, bytes):
                self._folder.write(f"{STAGING}/{staged[path].name}", content)
            elif content != staged[path]:
                link_or_copy(content, staged[path])
            if path.startswith("uv/") or manifest.files[path].executable:
                _make_executable(staged[path])

        with ThreadPoolExecutor(_STAGING_WORKERS) as pool:
            list(pool.map(put, staged))
        return staged

    def _remove_if_empty(self) -> None:
        """A build that failed before its first commit leaves no folder behind."""
        with suppress(OSError):
            if self._folder.names(WRITER) == ["lock"]:
                self._folder.remove(f"{WRITER}/lock")
                self._folder.remove_folder(WRITER)
                self.directory.rmdir()


def link_or_copy(source: Path, destination: Path) -> None:
    """Give *destination* the content of *source* at the least cost: reflink, hard link, or copy.

    A hard link is only made to a file without write permission (the download cache's), so that no one changes both
    by mistake.
    """
    if _reflink(source, destination):
        return
    if not source.stat().st_mode & 0o222:
        with suppress(OSError):
            os.link(source, destination)
            return
    shutil.copyfile(source, destination)


def _reflink(source: Path, destination: Path) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - absent on Windows

    try:
        with source.open("rb") as reader, destination.open("wb") as writer:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError as error:
        destination.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise
        return False
    return True


def _make_executable(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & 0o111:
        return
    if path.stat().st_nlink > 1:  # never touch the mode of the cache's own file
        copy = path.with_suffix(".copy")
        shutil.copyfile(path, copy)
        copy.replace(path)
        mode = path.stat().st_mode
    path.chmod(mode | ((mode & 0o444) >> 2))


def _size(path: Path) -> int | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
