"""Archives: a bundle, or the difference between two, as one tar or as parts, and back into a bundle that may be live.

    pack(Path("bundle"), Path("bundle.tar"), since=Path("carried-last-time.tar"))
    unpack([Path("bundle.tar")], Path("share/bundle"))

What an archive is to the byte, `wheelhouse/unpack.py` knows; it reads it, alone on a far side that has nothing of ours,
and here. This module writes archives, and unpacks into bundles that hold something else already.
"""

from __future__ import annotations

import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING, NoReturn

from offline_bundle.wheelhouse.runtime.archive.check import check_archive, damage_of
from offline_bundle.wheelhouse.runtime.archive.extract import extract_entries, held_files
from offline_bundle.wheelhouse.runtime.archive.file_table import Table, read_table
from offline_bundle.wheelhouse.runtime.archive.folded import goes_in_head
from offline_bundle.wheelhouse.runtime.archive.kept_parts import forget_parts
from offline_bundle.wheelhouse.runtime.archive.multipart import MultipartReader, Part
from offline_bundle.wheelhouse.runtime.archive.open import open_archives
from offline_bundle.wheelhouse.runtime.archive.reader import Archive, render_delta
from offline_bundle.wheelhouse.runtime.archive.tar import Entry, header_digest, lay_out
from offline_bundle.wheelhouse.runtime.archive.unpack import (
    archive_relation,
    raise_missing,
    raise_rollback,
)
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    InputError,
    IntegrityError,
    translate_os_errors,
)
from offline_bundle.wheelhouse.runtime.files import check_space, copy_range, remove_tree, sha256_of
from offline_bundle.wheelhouse.runtime.manifest import (
    CHECKSUMS,
    MANIFEST,
    SIGNATURE,
    Manifest,
    NotRegularError,
    open_regular,
    read_manifest_bytes,
)
from offline_bundle.wheelhouse.runtime.names import (
    DELTA,
    INCOMING,
    LARGEST_LISTS,
    LISTS,
    PART_INDEX,
)
from offline_bundle.wheelhouse.runtime.parallel import (
    is_small,
    parallel_map,
    serialized_progress,
    usable_workers,
)
from offline_bundle.wheelhouse.store.shipped import unpacker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from offline_bundle.wheelhouse.runtime.manifest import BundledFile
    from offline_bundle.wheelhouse.store.verify import VerifyReport
    from offline_bundle.wheelhouse.store.writer import BundleWriter
    from offline_bundle.wheelhouse.transport.merge import Side

_BLOCK = 512
_PIECE = 4 * 1024 * 1024
"""So many bytes are copied before others read them."""
_FAT32_LARGEST = 2**32 - 1
"""The largest file of FAT32, in bytes."""
_SMALLEST_PART = 64 * 1024
_LARGEST_SIGNATURE = 64 * 1024
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class PackReport:
    """What was packed."""

    files: tuple[Path, ...]
    """What to carry: the archive or its parts and their list, and the script that unpacks it."""
    members: int
    """Files of the bundle in it."""
    left_out: int
    """Files of the bundle that the base has already."""
    size: int
    """Bytes of the archive, in all its parts."""


@dataclass(frozen=True)
class Unpacked:
    """What came of one archive."""

    archive: str
    relation: str
    """What its bundle was to the one in place: new, same, newer, older, or other for two that were merged."""
    changed: bool
    """False when everything was there already."""
    unsigned: bool
    """True when the bundle's signature is gone: the manifest of a merged bundle is one that nobody has signed."""


def pack(
    directory: Path,
    output: Path,
    *,
    since: Path | None = None,
    split_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> PackReport:
    """Write the bundle at *directory* as the archive *output*, or what it has more than *since*.

    *since* is a bundle, its manifest, or an archive; with *split_size* (bytes) *output* becomes OUTPUT.001 and so on.
    Every byte is read back and checked before anything takes its name; *progress* is told the bytes checked. The same
    bundle gives the same bytes. Raises InputError (2), IntegrityError (5) that names what is damaged, BundleError (1).
    """
    _refuse_output(directory, output)
    document = read_manifest_bytes(directory)
    Manifest.from_json(document)
    with translate_os_errors(output.parent):
        table = read_table(document)
        contents = _leading_members(directory, document, table)
        names = sorted(table.files.keys() - {CHECKSUMS})
        everything = len(names)
        if since is not None:
            base = _read_base(since)
            names = [path for path in names if base.files.get(path) != table.files[path]]
            contents[DELTA] = render_delta(base.digest, base.generation, names)
        _refuse_damaged_sizes(directory, table, names)
        entries = [
            *map(_leading_entry, contents, contents.values()),
            *map(table.entry, names),
        ]
        if since is not None:
            entries, contents = _fold(directory, output, entries, contents, table.time)
        size = lay_out(entries)[-1].end + 2 * _BLOCK
        check_space(output.parent, size)
        with _open_output(output, size, split_size) as volume:
            damaged = _write(volume, directory, entries, contents, table.time, progress)
            if damaged:
                _explain(directory, output, document, damaged)
            files = _put_in_place(volume, output, is_split=split_size is not None)
    return PackReport(tuple(files), len(names), everything - len(names), size)


def unpack(  # noqa: PLR0913
    files: Sequence[Path],
    output: Path,
    *,
    allow_rollback: bool = False,
    replace_scripts: bool = False,
    trust: Callable[[bytes, bytes | None], None] | None = None,
    progress: Callable[[int], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> tuple[Unpacked, ...]:
    """Unpack the archives that *files* are into the bundle at *output*, new or live, one commit for each.

    *trust* is called with each manifest and its signature before anything is written, and raises when it is not to be
    trusted. Of a script that both bundles have, the incoming one is taken when its bundle descends from the other's, or
    with *replace_scripts*. *on_wait* is called when another writer has to be waited for. Raises InputError (2),
    IntegrityError (5) for whatever is not as it should be, BundleError (1); the bundle in place is then as it was, or
    holds whole archives of those given.
    """
    from offline_bundle.wheelhouse.store.writer import BundleWriter  # noqa: PLC0415 -- packing does without

    with translate_os_errors(output), open_archives(files, output) as archives:
        manifests = [_manifest_of(archive) for archive in archives]
        for archive in archives:
            if trust is not None:
                trust(archive.document, archive.signature)
        with BundleWriter(output, on_wait=on_wait) as writer:
            options = _Options(allow_rollback=allow_rollback, replace_scripts=replace_scripts)
            return tuple(
                _unpack_one(archive, manifest, writer, options, progress)
                for archive, manifest in zip(archives, manifests, strict=True)
            )


def verify_archive(
    files: Sequence[Path], *, progress: Callable[[int], None] | None = None
) -> VerifyReport:
    """Compare archives with the manifests in them, to the last byte; parts also with their list.

    Raises InputError when there is none, IntegrityError when it does not begin like one or parts are missing.
    """
    from offline_bundle.wheelhouse.store.verify import Change, VerifyReport  # noqa: PLC0415 -- packing and unpacking do without

    with translate_os_errors(Path()), open_archives(files) as archives:
        for archive in archives:
            _manifest_of(archive)
        damage = {
            path: what
            for archive in archives
            for path, what in check_archive(archive, progress).items()
        }
        parts = [name for archive in archives for name in sorted(archive.volume.bad_parts())]
        size = sum(size for archive in archives for _, size in archive.table.files.values())
        return VerifyReport(
            files=sum(len(archive.table.files) for archive in archives),
            size=size,
            changed=(
                *(
                    Change(path, f"as {MANIFEST} says", what)
                    for path, what in sorted(damage.items())
                ),
                *(Change(name, "as the list of parts says", "another sha256") for name in parts),
            ),
        )


def is_archive(place: Path) -> bool:
    """Whether *place* is to be read as an archive, or one of its parts, and not as a bundle's folder."""
    return place.is_file() or (not place.exists() and place.suffix == ".tar")


def read_archive(files: Sequence[Path]) -> tuple[bytes, bytes | None]:
    """Return `bundle.json` and its signature, if any, of the archive that *files* are, as they stand there."""
    with translate_os_errors(Path()), open_archives(files) as archives:
        if len(archives) != 1:
            raise InputError(
                f"these are {len(archives)} archives", hint="name one, or all of its parts"
            )
        return archives[0].document, archives[0].signature


def parse_size(text: str) -> int:
    """Read a size such as `700M` or `4G`, in powers of 1024; InputError when it is none."""
    match = re.fullmatch(r"([0-9]{1,12})([kmgt]?)(i?b)?", text.strip().lower())
    if not match:
        raise InputError(f"{text!r} is no size", hint="write it like 700M or 4G")
    return int(match[1]) * _UNITS[match[2]]


def _manifest_of(archive: Archive) -> Manifest:
    """Read all of the manifest in *archive*: what refers to what, and the names of its wheels."""
    from offline_bundle.wheelhouse.derived.simple_index import wheel_name_problems  # noqa: PLC0415 -- packaging; packing does without

    manifest = Manifest.from_json(archive.document)
    if problems := wheel_name_problems(manifest.files):
        raise IntegrityError(
            f"{archive.name} holds wheels that are none by their names",
            problems=problems,
            hint="carry it over again, or build it anew",
        )
    return manifest


def _refuse_output(directory: Path, output: Path) -> None:
    if output.suffix != ".tar" or output.name == ".tar":
        raise InputError(f"{output} does not end in .tar", hint="name the archive FILE.tar")
    if output.is_dir():
        raise InputError(f"{output} is a folder", hint="name a file that ends in .tar")
    if output.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{output} lies in the bundle itself", hint="name a file elsewhere")
    if not output.parent.is_dir():
        raise InputError(
            f"there is no folder {output.parent}", hint="make it, or mount the medium, first"
        )


def _leading_members(directory: Path, document: bytes, table: Table) -> dict[str, bytes]:
    contents = {MANIFEST: document, CHECKSUMS: table.checksums}
    try:
        with open_regular(directory / SIGNATURE) as file:
            contents[SIGNATURE] = file.read(_LARGEST_SIGNATURE)
    except FileNotFoundError:
        pass
    except NotRegularError as error:
        raise IntegrityError(
            f"{directory / SIGNATURE} is not a regular file", hint="sign the bundle again"
        ) from error
    return contents


def _leading_entry(path: str, content: bytes) -> Entry:
    comment = None if path in {MANIFEST, CHECKSUMS} else header_digest(content)
    return Entry(path, sha256_of(content), len(content), comment=comment)


def _fold(
    directory: Path, output: Path, entries: list[Entry], contents: dict[str, bytes], time: int
) -> tuple[list[Entry], dict[str, bytes]]:
    """Put the members of a difference that grow with the bundle into one; leave them as they are if they are huge."""
    lists: list[Entry] = []
    rest: list[Entry] = []
    for entry in entries:
        (lists if entry.path in contents or goes_in_head(entry.path) else rest).append(entry)
    if lay_out(lists)[-1].end > LARGEST_LISTS:
        return entries, contents
    import gzip  # noqa: PLC0415 -- only a difference needs it

    folded, damaged = io.BytesIO(), []
    with gzip.GzipFile("", "wb", fileobj=folded, mtime=0) as tar:
        for entry in lists:
            content = (
                contents[entry.path]
                if entry.path in contents
                else _read_regular(directory / entry.path)
            )
            if sha256_of(content) != entry.sha256:
                damaged.append(entry)
            tar.write(entry.header(time) + content + bytes(entry.end - entry.offset - entry.size))
        tar.write(bytes(2 * _BLOCK))
    if damaged:
        _explain(directory, output, contents[MANIFEST], damaged)
    content = folded.getvalue()
    return [_leading_entry(LISTS, content), *rest], {LISTS: content}


def _read_regular(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def _read_base(since: Path) -> Table:
    """Read the manifest of what a difference is from: a bundle, a manifest alone, or an archive."""
    document = read_manifest_bytes(since) if since.is_dir() else _read_base_file(since)
    Manifest.from_json(document)
    return read_table(document)


def _read_base_file(since: Path) -> bytes:
    with suppress(OSError), since.open("rb") as file:
        if file.read(1) == b"{":
            return since.read_bytes()
    return read_archive([since])[0]


def _refuse_damaged_sizes(directory: Path, table: Table, names: Sequence[str]) -> None:
    """Find what can be found without reading the files."""
    problems = []
    for path in names:
        try:
            with open_regular(directory / path) as file:
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            problems.append(f"{path}: {error.strerror or error}")
            continue
        if size != table.files[path][1]:
            problems.append(f"{path}: expected {table.files[path][1]} bytes, found {size}")
    if problems:
        _refuse_damaged(directory, problems)


def _refuse_damaged(directory: Path, problems: Sequence[str]) -> None:
    raise IntegrityError(
        f"{directory} is damaged and was not packed: {len(problems)} files do not match its {MANIFEST}",
        problems=problems,
        hint=f"see `offline-bundle verify {directory}`; build it anew",
    )


@contextmanager
def _open_output(output: Path, size: int, split_size: int | None) -> Iterator[_GrowingVolume]:
    """Open what is to become the archive, under temporary names that the next run would use again."""
    lengths = _part_sizes(size, split_size) if split_size is not None else [size]
    width = max(3, len(str(len(lengths))))
    names = (
        [f"{output.name}.{n:0{width}}" for n in range(1, len(lengths) + 1)]
        if split_size
        else [output.name]
    )
    parts: list[Part] = []
    with ExitStack() as stack:
        for name, length in zip(names, lengths, strict=True):
            place = output.with_name(f".{name}.partial")
            target = _open_alone(place)
            stack.callback(place.unlink, missing_ok=True)
            stack.callback(os.close, target)
            part = Part(
                os.open(place, os.O_RDONLY | getattr(os, "O_BINARY", 0)), str(place), length
            )
            stack.callback(os.close, part.descriptor)
            part.target = target
            part.name = name
            parts.append(part)
        yield _GrowingVolume(output.name, parts)


def _part_sizes(size: int, split_size: int) -> list[int]:
    """Whole blocks to a part; 4G means as much of it as FAT32 takes in one file."""
    if split_size < _SMALLEST_PART:
        raise InputError(
            f"parts of {split_size} bytes are too small", hint="make them 64k or larger"
        )
    length = (_FAT32_LARGEST if split_size == _FAT32_LARGEST + 1 else split_size) // _BLOCK * _BLOCK
    return [min(length, size - start) for start in range(0, size, length)]


def _open_alone(place: Path) -> int:
    """Open a file for writing, empty; nobody else may be writing it."""
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(place, flags, 0o666)
    try:
        _lock_alone(descriptor, place)
        if os.fstat(
            descriptor
        ).st_size:  # ext4 flushes what was truncated when it is closed: not for nothing
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock_alone(descriptor: int, place: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415 -- absent on Windows

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BundleError(
            f"another `pack` is writing {place}", hint="wait for it, or name another file"
        ) from error
    except (ImportError, OSError):  # some media cannot lock
        return


class _GrowingVolume(MultipartReader):
    """An archive while it is written: who reads what is not there yet waits for it."""

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        super().__init__(name, parts)
        self._grown = Condition()
        self.length = 0
        """Bytes that are written."""
        self._is_complete = False

    def grow(self, count: int) -> None:
        """Note that *count* more bytes are there."""
        with self._grown:
            self.length += count
            self._grown.notify_all()

    def complete(self) -> None:
        """Note that no more will come: nobody waits any longer."""
        with self._grown:
            self._is_complete = True
            self._grown.notify_all()

    def chunks(self, offset: int, count: int) -> Iterator[memoryview]:
        """Read as `Volume` does, once it is there."""
        for start in range(offset, offset + count, _PIECE):
            end = min(start + _PIECE, offset + count)
            self._wait_until(end)
            yield from super().chunks(start, end - start)

    def _wait_until(self, length: int) -> None:
        with self._grown:
            self._grown.wait_for(lambda: self.length >= length or self._is_complete)


def _write(  # noqa: PLR0913, PLR0917
    volume: _GrowingVolume,
    directory: Path,
    entries: Sequence[Entry],
    contents: Mapping[str, bytes],
    time: int,
    progress: Callable[[int], None] | None,
) -> list[Entry]:
    """Write all members; return those that, read back, are not what the manifest says.

    Reading follows close behind writing, in other threads but for small members; this one joins them when all is
    written, and begins with the largest, or that would be read alone at the end.
    """
    tell = serialized_progress(progress)

    def damage(entry: Entry) -> str | None:
        return damage_of(volume, entry, time, tell)

    checks: list[tuple[Entry, Future[str | None]]] = []
    damaged = []
    with ThreadPoolExecutor(max(1, usable_workers() - 1)) as pool:
        try:
            for entry in entries:
                if not is_small(entry.size):
                    checks.append((entry, pool.submit(damage, entry)))
                _append_member(
                    volume, entry, time, contents.get(entry.path, directory / entry.path)
                )
                if is_small(entry.size) and damage(entry):
                    damaged.append(entry)
            _append(volume, bytes(2 * _BLOCK))
            volume.complete()
            checks.sort(key=lambda check: check[0].size, reverse=True)
            damaged += [entry for entry, check in checks if check.cancel() and damage(entry)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            volume.complete()
    damaged += [entry for entry, check in checks if not check.cancelled() and check.result()]
    is_ended = volume.read(entries[-1].end, 3 * _BLOCK) == bytes(2 * _BLOCK)
    is_exact = all(os.fstat(part.descriptor).st_size == part.size for part in volume.parts)
    return damaged if is_ended and is_exact else list(entries)


def _append_member(volume: _GrowingVolume, entry: Entry, time: int, content: bytes | Path) -> None:
    padding = bytes(entry.end - entry.offset - entry.size)
    if not isinstance(content, bytes) and is_small(entry.size):
        content = _read_small(content, entry.size)
    if isinstance(content, bytes):
        _append(volume, entry.header(time) + content + padding)
        return
    _append(volume, entry.header(time))
    _append_file(volume, entry, content)
    _append(volume, padding)


def _read_small(path: Path, size: int) -> bytes:
    with open_regular(path) as file:
        content = file.read(size)
    if len(content) < size:
        _refuse_shorter(path)
    return content


def _refuse_shorter(path: Path) -> NoReturn:
    raise IntegrityError(f"{path} became shorter while it was packed", hint="run it again")


def _append(volume: _GrowingVolume, content: bytes) -> None:
    view = memoryview(content)
    for part, _, length in volume.spans(volume.length, len(content)):
        written = 0
        while written < length:
            written += os.write(part.target, view[written:length])
        view = view[length:]
    volume.grow(len(content))


def _append_file(volume: _GrowingVolume, entry: Entry, path: Path) -> None:
    with open_regular(path) as file:
        for start in range(0, entry.size, _PIECE):
            place = start
            for part, _, length in volume.spans(volume.length, min(_PIECE, entry.size - start)):
                copied = copy_range(file.fileno(), place, length, part.target)
                if copied < length:  # what follows must keep its place
                    _refuse_shorter(path)
                place += length
            volume.grow(place - start)


def _explain(directory: Path, output: Path, document: bytes, damaged: Sequence[Entry]) -> None:
    """Raise for what, read back, does not match: the fault of the bundle, of a writer at work, or of the medium."""
    if read_manifest_bytes(directory) != document:
        raise BundleError(f"{directory} was changed while it was packed", hint="run it again")
    files = {entry.path: (entry.sha256, entry.size) for entry in damaged if entry.comment is None}
    bad = sorted(files.keys() - held_files(directory, files) - {MANIFEST, CHECKSUMS})
    if bad:
        _refuse_damaged(directory, [f"{path}: its sha256 is not {files[path][0]}" for path in bad])
    raise BundleError(
        f"{output}: what was written reads back differently",
        problems=[entry.path for entry in damaged],
        hint="the medium is faulty: use another one",
    )


def _put_in_place(volume: MultipartReader, output: Path, *, is_split: bool) -> list[Path]:
    """Give the archive its name; of parts the list comes last, so that it never speaks of parts that are not there."""
    index = output.with_name(f"{output.name}{PART_INDEX}")
    before = _listed_parts(index)
    lines = (
        [f"{digest}  {part.name}\n" for part, digest in parallel_map(Part.digest, volume.parts)]
        if is_split
        else []
    )
    files = [output.with_name(part.name) for part in volume.parts]
    index.unlink(missing_ok=True)
    for part, place in zip(volume.parts, files, strict=True):
        Path(part.path).replace(place)
    for name in before - {place.name for place in files}:
        output.with_name(name).unlink(missing_ok=True)
    if is_split:
        _write_beside(index, "".join(lines).encode())
        files.append(index)
    script = output.with_name(f"{output.name}.unpack.py")
    _write_beside(script, unpacker())
    return [*files, script]


def _listed_parts(index: Path) -> set[str]:
    """Name the parts of an earlier archive of the same name."""
    try:
        lines = index.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    archive = re.escape(index.name.removesuffix(PART_INDEX))
    return {
        match[1]
        for line in lines
        if (match := re.fullmatch(rf"[0-9a-f]{{64}}  ({archive}\.[0-9]{{3,6}})", line))
    }


def _write_beside(place: Path, content: bytes) -> None:
    temporary = place.with_name(f".{place.name}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class _Options:
    allow_rollback: bool
    replace_scripts: bool


@dataclass(frozen=True)
class _Plan:
    """What the bundle is to become."""

    relation: str
    manifest: Manifest
    document: bytes
    signature: bytes | None
    pages: Mapping[str, bytes]
    """The index of a merged bundle: contents by path."""
    sides: tuple[Side, Side] | None = None
    """What is merged, ours first; None for a bundle that comes as it is."""


def _unpack_one(
    archive: Archive,
    incoming: Manifest,
    writer: BundleWriter,
    options: _Options,
    progress: Callable[[int], None] | None,
) -> Unpacked:
    plan = _plan(archive, incoming, writer, options)
    directory = writer.directory
    wanted = {
        path: content for path, file in plan.manifest.files.items() if (content := _content(file))
    }
    lost = wanted.keys() - held_files(directory, wanted, progress)
    needed = lost - plan.pages.keys()
    entries = [
        e for e in archive.entries if e.path in needed and (e.sha256, e.size) == wanted[e.path]
    ]
    lacking = sorted(needed - {entry.path for entry in entries})
    if lacking:
        raise_missing(archive, directory, lacking)
    staged = extract_entries(archive, entries, directory, progress)
    contents: dict[str, bytes | Path] = {
        **plan.pages,
        **{path: Path(place) for path, place in staged.items()},
    }
    if plan.sides is not None:
        plan, contents = _finish_merge(plan, plan.sides, contents, writer)
    was_signed = (directory / SIGNATURE).exists()
    changed = writer.commit(
        plan.manifest, contents, document=plan.document, signature=plan.signature, distrusted=lost
    )
    forget_parts(archive, directory)
    remove_tree(str(directory / INCOMING))  # of a run that was killed after its commit
    is_signed = (directory / SIGNATURE).exists()
    return Unpacked(
        archive.name,
        plan.relation,
        changed,
        (was_signed or bool(archive.signature)) and not is_signed,
    )


def _finish_merge(
    plan: _Plan, sides: tuple[Side, Side], contents: dict[str, bytes | Path], writer: BundleWriter
) -> tuple[_Plan, dict[str, bytes | Path]]:
    """Render the inventories of a merged bundle, where one of the two had any, and give it its place after both."""
    from offline_bundle.wheelhouse.derived.complete import INVENTORIES  # noqa: PLC0415 -- only merging needs it
    from offline_bundle.wheelhouse.derived.inventories import add_inventories, gather_metadata  # noqa: PLC0415 -- the same
    from offline_bundle.wheelhouse.transport.merge import with_lineage  # noqa: PLC0415 -- the same

    manifest, inventories = plan.manifest, dict[str, bytes]()
    if any(side.manifest.files.keys() & INVENTORIES for side in sides):
        manifest, inventories = add_inventories(
            manifest, lambda: gather_metadata(plan.manifest, contents, writer.directory), writer.current
        )
    manifest = with_lineage(manifest, *sides)
    document = writer.current_bytes if manifest == writer.current else manifest.to_json()
    return replace(plan, manifest=manifest, document=document), {**contents, **inventories}


def _content(file: BundledFile) -> tuple[str, int] | None:
    return None if file.sha256 is None or file.size is None else (file.sha256, file.size)


def _plan(archive: Archive, incoming: Manifest, writer: BundleWriter, options: _Options) -> _Plan:
    as_it_is = _Plan("new", incoming, archive.document, archive.signature, {})
    current = writer.current
    if current is None:
        return as_it_is
    from offline_bundle.wheelhouse.transport.merge import Side, merge, refuse_other_wheels  # noqa: PLC0415 -- of no use to most archives

    refuse_other_wheels(current, incoming)
    digest = sha256_of(writer.current_bytes)
    relation = archive_relation(archive.digest, incoming.ancestors, digest, current.ancestors)
    is_merged = any(script.origins for script in current.scripts.values())
    is_in = any(archive.digest in script.origins for script in current.scripts.values())
    goes_back = relation == "older" and not is_in
    if goes_back and not options.allow_rollback:
        raise_rollback(archive, writer.directory, current.generation)
    if relation in {"same", "newer"} or (goes_back and not is_merged):
        return _Plan(relation, incoming, archive.document, archive.signature, {})
    ours, theirs = Side(current, digest), Side(incoming, archive.digest)
    merged = merge(ours, theirs, replaces=goes_back or options.replace_scripts)
    return _Plan(relation, merged.manifest, b"", None, merged.pages, (ours, theirs))
