"""Verify that a bundle on disk has all files of its manifest, unchanged, and no others.

    report = verify(Path("bundle"))
    raise_for_problems(report)      # IntegrityError (exit code 5) that names every file

Nothing in the bundle is trusted: links are not followed, fifos and devices not opened. Authenticity
comes from the manifest's signature. The journal of an update (`.writer/pending.json`) has none, so
it explains problems but excuses nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    Manifest,
    read_manifest_bytes,
    render_checksums,
)
from offline_bundle.wheelhouse.runtime.disk.commit import journal_paths
from offline_bundle.wheelhouse.runtime.disk.files import open_regular, sha256_of
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS, MANIFEST, SIGNATURE, WRITER
from offline_bundle.wheelhouse.runtime.parallel import cpus, serialized_progress
from offline_bundle.wheelhouse.runtime.text import printable

_CHUNK = 1024 * 1024
_MOST_WORKERS = 8


@dataclass(frozen=True)
class ChangedFile:
    """A file that does not match the manifest."""

    path: str
    expected: str
    """A digest, a size, or a kind of file."""
    actual: str
    """The same of the file on disk, or why it could not be read."""
    pending: bool = False
    """True if an interrupted update wrote it, according to the journal."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """The results of a verification; paths are relative to the bundle and sorted."""

    files: int
    """Number of files that were compared with the manifest."""
    size: int
    """Their bytes."""
    left_out: int = 0
    """Number of files in the manifest that an archive leaves out, as a difference."""
    missing: tuple[str, ...] = ()
    changed: tuple[ChangedFile, ...] = ()
    extra: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    """Files that only the journal of an interrupted or running update names."""

    @property
    def ok(self) -> bool:
        """True if the bundle has exactly the files of its manifest."""
        return not (self.missing or self.changed or self.extra or self.pending)

    @property
    def is_interrupted(self) -> bool:
        """True if an interrupted update explains all problems, according to the journal."""
        changed = all(change.pending for change in self.changed)
        return not self.ok and changed and not (self.missing or self.extra)

    @property
    def problems(self) -> tuple[str, ...]:
        """One printable line per problem."""
        return (
            *(f"missing: {printable(path)}" for path in self.missing),
            *map(_change_line, self.changed),
            *(f"extra: {printable(path)}" for path in self.extra),
            *(f"pending: {printable(path)}" for path in self.pending),
        )


def verify(
    directory: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    document: bytes | None = None,
) -> VerifyReport:
    """Compare the bundle at *directory* with its manifest, in one pass over all files.

    *workers* threads compute digests (default: one per usable CPU). One thread at a time calls
    *progress* with the bytes since its last call. *document* is the manifest if its signature was
    checked before. Raises InputError if there is no bundle, IntegrityError for an invalid manifest.
    """
    content = read_manifest_bytes(directory) if document is None else document
    manifest = Manifest.from_json(content)
    expected = _expected_contents(manifest, content)
    with SafeFolder(directory) as folder:
        journals = [_read_journal(folder, path) for path in journal_paths(folder)]
    tree = _read_tree(directory)
    candidates = {
        path: [contents[path] for contents in (expected, *journals) if path in contents]
        for path in tree.files
        if any(path in contents for contents in (expected, *journals))
    }
    states = _inspect_all(directory, candidates, workers or cpus(_MOST_WORKERS), progress)
    pending = {path for path in states if path not in expected and states[path].matched}
    named = expected.keys() | pending | (tree.files & {MANIFEST, SIGNATURE})
    changes = _changes(expected, states, tree)
    return VerifyReport(
        files=len(manifest.files),
        size=manifest.size,
        missing=tuple(sorted(path for path in expected if not tree.may_have(path))),
        changed=tuple(sorted(changes, key=lambda change: change.path)),
        extra=tuple(sorted((tree.files | tree.others.keys()) - named)),
        pending=tuple(sorted(pending)),
    )


def raise_for_problems(report: VerifyReport, *, allow_pending: bool = False) -> None:
    """Raise one IntegrityError that names every problem; with *allow_pending*, not for those."""
    kinds = {
        "missing": len(report.missing),
        "changed": len(report.changed),
        "extra": len(report.extra),
        "pending": 0 if allow_pending else len(report.pending),
    }
    if not any(kinds.values()):
        return
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if number)
    message = f"the bundle does not match its manifest: {counts}"
    hint = "copy the bundle again, or remove extra files after finding out where they come from"
    if report.is_interrupted:
        message = f"an update of the bundle was interrupted: {counts}"
        hint = "run the update again to finish it; --allow-pending accepts pending files"
    raise IntegrityError(message, hint=hint, problems=report.problems)


def _change_line(change: ChangedFile) -> str:
    origin = ", written by an interrupted update" if change.pending else ""
    details = f"(expected {change.expected}, found {change.actual}{origin})"
    return f"changed: {printable(change.path)} {details}"


class _Content(NamedTuple):
    """The content of a file."""

    sha256: str
    size: int


class _State(NamedTuple):
    """The content of a file on disk: which of the candidates it matches, and what differs."""

    matched: _Content | None
    expected: str = ""
    actual: str = ""


@dataclass
class _Tree:
    """All paths on disk, relative to the bundle; nothing was opened."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    others: dict[str, str] = field(default_factory=dict)
    """Links, fifos and devices: path to kind."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders that could not be listed: path to reason."""

    def may_have(self, path: str) -> bool:
        """Return False if certainly nothing is at *path*."""
        if path in self.files or path in self.others or path in self.folders:
            return True
        return any(not folder or path.startswith(f"{folder}/") for folder in self.unreadable)


def _recorded(manifest: Manifest) -> dict[str, _Content]:
    return {path: _Content(*content) for path, content in manifest.contents().items()}


def _expected_contents(manifest: Manifest, content: bytes) -> dict[str, _Content]:
    rendered = {CHECKSUMS: _content_of(render_checksums(manifest, content))}
    return _recorded(manifest) | (rendered if CHECKSUMS in manifest.files else {})


def _read_journal(folder: SafeFolder, path: str) -> dict[str, _Content]:
    """Return the contents that an interrupted update writes or removes; none if it is invalid."""
    try:
        pending = Manifest.from_json(folder.read(path) or b"")
    except IntegrityError:
        return {}
    journal = _recorded(pending)
    checksums = _read_pending_checksums(folder, pending)
    return {**journal, CHECKSUMS: _content_of(checksums)} if checksums else journal


def _read_pending_checksums(folder: SafeFolder, pending: Manifest) -> bytes | None:
    """Return `SHA256SUMS` on disk if it lists files of the journal only.

    It may list fewer: the journal also has the files that the update removes.
    """
    rendered = render_checksums(pending, b"")
    try:
        with folder.open(CHECKSUMS) as file:
            content = file.read(len(rendered) + 1)
    except OSError:
        return None
    journal_lines = set(rendered.splitlines())
    lines = [line for line in content.splitlines() if line[66:] != MANIFEST.encode()]
    return content if len(content) <= len(rendered) and journal_lines.issuperset(lines) else None


def _read_tree(directory: Path) -> _Tree:
    tree = _Tree()
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(directory / folder) as entries:
                for entry in entries:
                    _note(entry, f"{folder}/{entry.name}" if folder else entry.name, tree, folders)
        except OSError as error:
            tree.unreadable[folder] = _reason(error)
    return tree


def _note(entry: os.DirEntry[str], path: str, tree: _Tree, folders: list[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        if path != WRITER:
            tree.folders.add(path)
            folders.append(path)
    elif entry.is_file(follow_symlinks=False):
        tree.files.add(path)
    else:
        tree.others[path] = "a symbolic link" if entry.is_symlink() else "a fifo, socket or device"


def _changes(
    expected: Mapping[str, _Content], states: Mapping[str, _State], tree: _Tree
) -> Iterator[ChangedFile]:
    for path, reason in tree.unreadable.items():
        yield ChangedFile(path or ".", "a readable folder", reason)
    for path, content in expected.items():
        if path in tree.others or path in tree.folders:
            yield ChangedFile(path, "a file", tree.others.get(path, "a folder"))
        elif path in tree.files and states[path].matched != content:
            state = states[path]
            yield ChangedFile(path, state.expected, state.actual, pending=state.matched is not None)


def _inspect_all(
    directory: Path,
    candidates: Mapping[str, list[_Content]],
    workers: int,
    progress: Callable[[int], None] | None,
) -> dict[str, _State]:
    # The largest first, so that no thread has one left at the end.
    queue = deque(sorted(candidates, key=lambda path: -candidates[path][0].size))
    states: dict[str, _State] = {}
    advance = serialized_progress(progress) or (lambda _: None)

    def work() -> None:
        buffer = bytearray(_CHUNK)
        while (path := _take(queue)) is not None:
            states[path] = _inspect(directory / path, candidates[path], buffer, advance)

    with ThreadPoolExecutor(workers, thread_name_prefix="verify") as pool:
        try:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()
        finally:
            queue.clear()  # an interrupted verification stops after the current files
    return states


def _take(queue: deque[str]) -> str | None:
    try:
        return queue.popleft()
    except IndexError:
        return None


def _inspect(
    path: Path, candidates: list[_Content], buffer: bytearray, advance: Callable[[int], None]
) -> _State:
    """Return which of *candidates* the file matches; it is not read if its size matches none."""
    expected = candidates[0]
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            plausible = [content for content in candidates if content.size == size]
            if not plausible:
                return _State(None, f"{expected.size} bytes", f"{size} bytes")
            digest = _digest(file, buffer, advance)
    except OSError as error:
        return _State(None, "a readable file", _reason(error))
    matched = next((content for content in plausible if content.sha256 == digest), None)
    return _State(matched, f"sha256 {expected.sha256}", f"sha256 {digest}")


def _digest(file: FileIO, buffer: bytearray, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    view = memoryview(buffer)
    while count := file.readinto(buffer):
        digest.update(view[:count])
        advance(count)
    return digest.hexdigest()


def _content_of(content: bytes) -> _Content:
    return _Content(sha256_of(content), len(content))


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
