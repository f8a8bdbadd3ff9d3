"""Writing a bundle: one writer at a time, files staged aside, and one rename that commits.

    with BundleWriter(Path("bundle")) as writer:
        writer.commit(manifest, {"run.py": launcher_bytes, "wheels/numpy-….whl": path_in_the_cache})

Readers need no lock and see the old bundle or the new one. `docs/architecture.md` says how a kill is survived.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wheelhouse.errors import BundleError, InputError, IntegrityError
from wheelhouse.manifest import CHECKSUMS, MANIFEST, WRITER, Manifest, read_manifest_bytes, render_checksums
from wheelhouse.prepare import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from wheelhouse.manifest import BundledFile

PENDING = f"{WRITER}/pending.json"
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
        self._current_bytes = b""
        self._abandoned: Manifest | None = None
        self._on_wait = on_wait
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        """Take the lock; read what is in force."""
        with _plain_os_errors(self.directory):
            _refuse_foreign(self.directory)
            (self.directory / WRITER).mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(str(self.directory / WRITER / "lock"))
            if not self._lock.acquire(block=False):
                if self._on_wait:
                    self._on_wait()
                self._lock.acquire(block=True)
            if (self.directory / MANIFEST).exists():
                self._current_bytes = read_manifest_bytes(self.directory)
                self.current = Manifest.from_json(self._current_bytes)
            self._abandoned = self._read_abandoned()
            shutil.rmtree(self._staging, ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no staged file behind, and no folder where nothing was committed."""
        shutil.rmtree(self._staging, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
        if self.current is None:
            self._remove_if_empty()

    def holds(self, path: str, sha256: str) -> Path | None:
        """The file at *path* when the bundle has it with that digest, by the manifest and the size on disk."""
        known = self.current.files.get(path) if self.current else None
        if known is None or known.sha256 != sha256:
            return None
        place = self.directory / path
        return place if _size(place) == known.size else None

    def commit(self, manifest: Manifest, contents: Mapping[str, bytes | Path]) -> bool:
        """Make the bundle hold exactly what *manifest* names; True when anything changed.

        *contents* has the bytes, or a file to take them from, of at least every file that is not there yet. What is
        there with its digest is not touched. Files that the manifest before named and this one does not are removed
        after the commit.
        """
        document = manifest.to_json()
        checksums = render_checksums(manifest, document)
        with _plain_os_errors(self.directory):
            wanted = self._to_write(manifest, contents)
            unchanged = document == self._current_bytes and not wanted and self._abandoned is None
            if unchanged and _read(self.directory / CHECKSUMS) == checksums:
                return False
            obsolete = self._obsolete(manifest)
            staged = self._stage(wanted)
            journal = replace(manifest, files={**obsolete.files, **manifest.files}) if obsolete else manifest
            _write_durably(self.directory / PENDING, journal.to_json())
            for path, temporary in staged.items():
                destination = self.directory / path
                destination.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(destination)
            self._replace(CHECKSUMS, checksums)
            self._replace(MANIFEST, document, durable=True)
            self._remove(obsolete)
            (self.directory / PENDING).unlink()
        self.current, self._current_bytes, self._abandoned = manifest, document, None
        return True

    @property
    def _staging(self) -> Path:
        return self.directory / WRITER / "tmp"

    def _read_abandoned(self) -> Manifest | None:
        """The journal of a writer that was killed: what it may have left behind."""
        try:
            return Manifest.from_json((self.directory / PENDING).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, IntegrityError):
            with suppress(OSError):
                (self.directory / PENDING).unlink()
            return None

    def _to_write(self, manifest: Manifest, contents: Mapping[str, bytes | Path]) -> dict[str, bytes | Path]:
        wanted: dict[str, bytes | Path] = {}
        lost = []
        for path, file in manifest.files.items():
            if path == CHECKSUMS or self.holds(path, file.sha256 or ""):
                continue
            if path not in contents:
                lost.append(path)
                continue
            self._refuse_other_bytes(path, file.sha256 or "")
            wanted[path] = contents[path]
        if lost:
            raise IntegrityError(
                f"{self.directory} is damaged: {len(lost)} of its files are missing or changed",
                problems=lost,
                hint=f"see `offline-bundle verify {self.directory}`; build its scripts again into a new folder",
            )
        return wanted

    def _refuse_other_bytes(self, path: str, sha256: str) -> None:
        """A file that no manifest accounts for is somebody's: taken when its bytes are right, never overwritten."""
        place = self.directory / path
        accounted = [manifest for manifest in (self.current, self._abandoned) if manifest and path in manifest.files]
        if accounted or not place.exists():
            return
        if not place.is_file() or hashlib.sha256(place.read_bytes()).hexdigest() != sha256:
            raise IntegrityError(
                f"{place} is there already with other content, and the bundle does not know it",
                hint="move it away, or build into another folder",
            )

    def _obsolete(self, manifest: Manifest) -> Manifest | None:
        """Files on disk that only the manifests before account for."""
        files: dict[str, BundledFile] = {}
        for before in (self._abandoned, self.current):
            files |= {path: file for path, file in before.files.items() if path not in manifest.files} if before else {}
        return replace(manifest, files=files) if files else None

    def _remove(self, obsolete: Manifest | None) -> None:
        folders = set()
        for path in obsolete.files if obsolete else ():
            (self.directory / path).unlink(missing_ok=True)
            folders |= {parent for parent in Path(path).parents if parent != Path()}
        for folder in sorted(folders, key=lambda place: len(place.parts), reverse=True):
            with suppress(OSError):  # it is not empty: others live there
                (self.directory / folder).rmdir()

    def _stage(self, wanted: Mapping[str, bytes | Path]) -> dict[str, Path]:
        self._staging.mkdir(parents=True, exist_ok=True)
        staged = {path: self._staging / str(number) for number, path in enumerate(wanted)}

        def put(path: str) -> None:
            content = wanted[path]
            if isinstance(content, bytes):
                staged[path].write_bytes(content)
            else:
                link_or_copy(content, staged[path])
            if path.startswith("uv/"):
                _make_executable(staged[path])

        with ThreadPoolExecutor(_STAGING_WORKERS) as pool:
            list(pool.map(put, staged))
        return staged

    def _replace(self, path: str, content: bytes, *, durable: bool = False) -> None:
        temporary = self._staging / Path(path).name
        if durable:
            _write_durably(temporary, content)
        else:
            temporary.write_bytes(content)
        temporary.replace(self.directory / path)
        if durable:
            _flush_folder(self.directory)

    def _remove_if_empty(self) -> None:
        """A build that failed before its first commit leaves no folder behind."""
        with suppress(OSError):
            if self._abandoned is None and not (self.directory / PENDING).exists():
                (self.directory / WRITER / "lock").unlink(missing_ok=True)
                (self.directory / WRITER).rmdir()
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


def _refuse_foreign(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file, not a folder", hint="name a folder with -o")
    if not directory.is_dir() or (directory / MANIFEST).exists() or (directory / WRITER).is_dir():
        return
    if any(directory.iterdir()):
        raise InputError(
            f"{directory} is not empty and holds no {MANIFEST}: it is not a bundle",
            hint="name a new or empty folder, or a bundle, with -o",
        )


@contextmanager
def _plain_os_errors(directory: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an error with a next step (exit 1)."""
    hints = {
        errno.ENOSPC: "free some space, or name another folder with -o; the bundle in place is as it was",
        errno.EDQUOT: "your quota is used up: free some space, or name another folder with -o",
        errno.EROFS: "the file system is read-only: name another folder with -o",
        errno.EACCES: "you may not write there: name another folder with -o",
        errno.EPERM: "you may not write there: name another folder with -o",
    }
    try:
        yield
    except OSError as error:
        place = error.filename or directory
        reason = error.strerror or str(error)
        raise BundleError(f"{place}: {reason}", hint=hints.get(error.errno or 0)) from error


def _size(path: Path) -> int | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if path.is_file() and not path.is_symlink() else None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write_durably(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _flush_folder(folder: Path) -> None:
    """Make the renames in *folder* survive a power cut, where the platform can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
