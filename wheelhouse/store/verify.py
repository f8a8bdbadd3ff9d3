"""Verification: whether a bundle on disk holds what its manifest names, all of it, and nothing else.

    report = verify(Path("bundle"))
    raise_for_problems(report)      # IntegrityError (exit 5) that names every missing, changed and extra file

Nothing in the bundle is trusted on the way: symbolic links are not followed, fifos and devices not opened.
What the manifest itself is worth, its signature tells.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from offline_bundle.wheelhouse.runtime.commit import journal_paths
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.manifest import (
    CHECKSUMS,
    MANIFEST,
    SIGNATURE,
    WRITER,
    Manifest,
    open_regular,
    read_manifest_bytes,
    render_checksums,
)
from offline_bundle.wheelhouse.runtime.paths import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import FileIO
    from pathlib import Path

_CHUNK = 1024 * 1024
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Change:
    """A file that is not what the manifest says."""

    path: str
    expected: str
    """What should be there: a digest, a size, a kind of file."""
    actual: str
    """What is there instead, in the same terms, or why it could not be read."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """All that a verification found; paths are relative to the bundle and sorted."""

    files: int
    """How many files the manifest names."""
    size: int
    """Their bytes altogether."""
    missing: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    extra: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    """Files of an update that was interrupted, or is under way, as `.writer/pending.json` has them."""

    @property
    def ok(self) -> bool:
        """Whether the bundle is what its manifest says, or was when an update of it was cut short.

        An update that was killed leaves files of its own beside the old bundle, and the journal accounts for them. The
        journal is not signed: who trusts a signature and not the place must ask for `is_settled` too.
        """
        return not (self.missing or self.changed or self.extra)

    @property
    def is_settled(self) -> bool:
        """Whether no update was cut short: then every file is one that the manifest names."""
        return not self.pending

    @property
    def problems(self) -> tuple[str, ...]:
        """One printable line per problem."""
        return (
            *(f"missing: {printable(path)}" for path in self.missing),
            *(
                f"changed: {printable(c.path)} (expected {c.expected}, found {c.actual})"
                for c in self.changed
            ),
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
    """Compare the bundle at *directory* with its manifest, in one pass over all of its files.

    *workers* threads hash (default: one per usable CPU); *progress* is called with the bytes hashed since its
    last call, by one thread at a time. *document* is the manifest to go by, where its signature was checked before.
    Raises InputError when there is no bundle, IntegrityError when its manifest is broken.
    """
    content = read_manifest_bytes(directory) if document is None else document
    manifest = Manifest.from_json(content)
    wanted = _wanted(manifest, content)
    journals = [_read_journal(directory, path) for path in journal_paths(directory)]
    tree = _read_tree(directory)
    candidates = {
        path: [known[path] for known in (wanted, *journals) if path in known]
        for path in tree.files
        if any(path in known for known in (wanted, *journals))
    }
    found = _inspect_all(directory, candidates, workers or _usable_cpus(), progress)
    pending = {
        path for path, state in found.items() if state.matched and state.matched != wanted.get(path)
    }
    known = wanted.keys() | pending | (tree.files & {MANIFEST, SIGNATURE})
    unreadable = [
        Change(path or ".", "a readable folder", why) for path, why in tree.unreadable.items()
    ]
    return VerifyReport(
        files=len(manifest.files),
        size=sum(file.size or 0 for file in manifest.files.values()),
        missing=tuple(sorted(path for path in wanted if not tree.holds(path))),
        changed=tuple(
            sorted([*_changes(wanted, found, tree), *unreadable], key=lambda change: change.path)
        ),
        extra=tuple(sorted((tree.files | tree.others.keys()) - known)),
        pending=tuple(sorted(pending)),
    )


def raise_for_problems(report: VerifyReport) -> None:
    """Raise one IntegrityError that names every file at fault; return when the report is in order."""
    if report.ok:
        return
    kinds = {"missing": report.missing, "changed": report.changed, "extra": report.extra}
    counts = ", ".join(f"{len(paths)} {kind}" for kind, paths in kinds.items() if paths)
    raise IntegrityError(
        f"the bundle does not match its manifest: {counts}",
        hint="carry the bundle over again; remove extra files, or find out who put them there",
        problems=report.problems,
    )


class _Content(NamedTuple):
    """What a file should hold."""

    sha256: str
    size: int


class _State(NamedTuple):
    """What a file holds: the content it matched, or else what differs."""

    matched: _Content | None
    expected: str = ""
    actual: str = ""


@dataclass
class _Tree:
    """What lies on disk, by path relative to the bundle; nothing was opened to find out."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    others: dict[str, str] = field(default_factory=dict)
    """Links, fifos, devices: path to kind."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders that could not be listed: path to reason."""

    def holds(self, path: str) -> bool:
        """Whether anything lies at *path*, as far as can be seen."""
        if path in self.files or path in self.others or path in self.folders:
            return True
        return any(not folder or path.startswith(f"{folder}/") for folder in self.unreadable)


def _recorded(manifest: Manifest) -> dict[str, _Content]:
    files = manifest.files.items()
    return {
        path: _Content(f.sha256, f.size)
        for path, f in files
        if f.sha256 is not None and f.size is not None
    }


def _wanted(manifest: Manifest, content: bytes) -> dict[str, _Content]:
    rendered = {CHECKSUMS: _content_of(render_checksums(manifest, content))}
    return _recorded(manifest) | (rendered if CHECKSUMS in manifest.files else {})


def _read_journal(directory: Path, path: str) -> dict[str, _Content]:
    """Read what an interrupted update was about to write: nothing when it is garbled."""
    try:
        with open_regular(path) as file:
            pending = Manifest.from_json(file.read())
    except (OSError, IntegrityError):
        return {}
    journal = _recorded(pending)
    checksums = _read_pending_checksums(directory, pending)
    return {**journal, CHECKSUMS: _content_of(checksums)} if checksums else journal


def _read_pending_checksums(directory: Path, pending: Manifest) -> bytes | None:
    """Return `SHA256SUMS` if it lists nothing but what the journal has.

    It may list less: the journal also has the files that the update will remove, and `bundle.json` is not
    there yet.
    """
    rendered = render_checksums(pending, b"")
    try:
        with open_regular(directory / CHECKSUMS) as file:
            content = file.read(len(rendered) + 1)
    except OSError:
        return None
    known = set(rendered.splitlines())
    lines = [line for line in content.splitlines() if line[66:] != MANIFEST.encode()]
    return content if len(content) <= len(rendered) and known.issuperset(lines) else None


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
    wanted: Mapping[str, _Content], found: Mapping[str, _State], tree: _Tree
) -> Iterator[Change]:
    for path in wanted:
        if path in tree.others or path in tree.folders:
            yield Change(path, "a file", tree.others.get(path, "a folder"))
        elif path in tree.files and found[path].matched is None:
            yield Change(path, found[path].expected, found[path].actual)


def _inspect_all(
    directory: Path,
    candidates: Mapping[str, list[_Content]],
    workers: int,
    progress: Callable[[int], None] | None,
) -> dict[str, _State]:
    """Inspect files in parallel, the largest first, so that none is left to one thread at the end."""
    queue = deque(sorted(candidates, key=lambda path: -candidates[path][0].size))
    found: dict[str, _State] = {}
    advance = _one_at_a_time(progress)

    def work() -> None:
        buffer = bytearray(_CHUNK)
        while (path := _take(queue)) is not None:
            found[path] = _inspect(directory / path, candidates[path], buffer, advance)

    with ThreadPoolExecutor(workers, thread_name_prefix="verify") as pool:
        try:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()
        finally:
            queue.clear()  # so that an interrupted verification stops after the files at hand
    return found


def _take(queue: deque[str]) -> str | None:
    try:
        return queue.popleft()
    except IndexError:
        return None


def _inspect(
    path: Path, candidates: list[_Content], buffer: bytearray, advance: Callable[[int], None]
) -> _State:
    """Say which of *candidates* the file holds; when its size is none of theirs, without reading it."""
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


def _one_at_a_time(progress: Callable[[int], None] | None) -> Callable[[int], None]:
    if progress is None:
        return lambda _: None
    lock = Lock()

    def advance(count: int) -> None:
        with lock:
            progress(count)

    return advance


def _content_of(content: bytes) -> _Content:
    return _Content(hashlib.sha256(content).hexdigest(), len(content))


def _usable_cpus() -> int:
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(_MOST_WORKERS, usable)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
