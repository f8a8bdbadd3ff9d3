"""Check or unpack an archive of an offline bundle, with nothing but the standard library of Python 3.9 or newer.

    python3 FILE.tar.unpack.py FILE.tar -o DIR         make the bundle DIR, or bring it up to date
    python3 FILE.tar.unpack.py FILE.tar --verify       check every byte of the archive; nothing is written

`pack` puts this file beside each archive, so that a site which has nothing of ours can review it and use it; the
command `offline-bundle unpack` runs the same functions, and can merge bundles besides. What it does:

1. reads bundle.json, at its beginning, and knows from it each byte of the archive but the contents (`Archive`);
   whatever differs from that is refused: there is nothing else in a tar for a hostile medium to play with;
2. copies each file it needs to DIR/.writer/incoming, taking its sha256 on the way, and checks that;
3. checks the files that stay, then renames the new ones into place, bundle.json last (`install`).

What it never does: follow a link, write outside DIR, run anything, or touch the bundle in place before all of the
new files are there and match. Killed at any moment, it is simply started again. `docs/archive-format.md` has the rest.
"""

import errno
import os
import re
import stat
import sys
import unicodedata

TYPE_CHECKING = False  # `typing` is slow to import, and this is imported wherever a manifest is read
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
    from io import FileIO
    from types import ModuleType
    from typing import Any, NoReturn, Optional, TypeVar, Union

    _Item = TypeVar("_Item")
    _Result = TypeVar("_Result")
    Progress = Optional[Callable[[int], None]]
    PathLike = Union[str, os.PathLike[str]]

if sys.version_info < (3, 9):  # noqa: UP036
    sys.exit(f"error: this needs Python 3.9 or newer; {sys.executable} is {sys.version.split()[0]}")

FORMAT = 1
MANIFEST = "bundle.json"
SIGNATURE = "bundle.json.sig"
CHECKSUMS = "SHA256SUMS"
SBOM = "sbom.cdx.json"
REPORT = "report.html"
WRITER = ".writer"
"""The folder inside a bundle that belongs to its one writer."""
PENDING = f"{WRITER}/pending.json"
INCOMING = f"{WRITER}/incoming"
"""Files on their way out of an archive: each is complete when its digest says so."""
DELTA = f"{WRITER}/delta.json"
"""The member that makes an archive a difference: which files it brings, and for which bundle."""
LISTS = f"{WRITER}/lists.tar.gz"
"""The first member of a difference: what grows with the bundle and not with the change, as a tar of its own."""
LARGEST_LISTS = 128 * 1024 * 1024
"""Bytes of that tar, at the most: what would be longer is not folded."""
PART_INDEX = ".parts.sha256"
"""What follows an archive's name in that of the list of its parts, for `sha256sum -c`."""
MOST_ANCESTORS = 100

_STAGING = f"{WRITER}/tmp"  # noqa: S108 -- inside the bundle, and nobody else's
_BLOCK = 512
_END = 2 * _BLOCK
_CHUNK = 1024 * 1024
_SMALL = 128 * 1024
_LARGEST_MANIFEST = 256 * 1024 * 1024
_LARGEST_MARK = 64 * 1024 * 1024
_LARGEST_USTAR = 8**11 - 1
_LARGEST_SIZE = 2**63 - 1
_LONGEST_PATH = 1024
_LONGEST_SHOWN = 120
_MOST_PROBLEMS = 20
_MOST_WORKERS = 4
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.+!-]*[A-Za-z0-9_+!-](/[A-Za-z0-9_.+!-]*[A-Za-z0-9_+!-])*")
_THE_END = "the end of the archive"
_SEEKING: "dict[int, Any]" = {}
_WHEEL = re.compile(r"wheels/[^-/\s]+-[^-/\s]*[0-9][^-/\s]*(-[0-9][^-/\s]*)?(-[^-/\s]+){3}\.whl")
"""What every installer takes for a wheel's name, and then some: `offline-bundle` looks closer."""
_FOREIGN = frozenset('\\:<>"|?*')
_DEVICE = re.compile(r"/(?i:con|prn|aux|nul|com[0-9]|lpt[0-9]) *(?:\.[^/]*)?(?:/|$)")
_JOURNAL = re.compile(r"pending(-[0-9a-f]{16})?\.json")
_PART = re.compile(r"(?P<archive>.+\.tar)\.(?P<number>[0-9]{3,6})", re.DOTALL)
_AGAIN = "carry it over again; what is good already need not be"


class Refusal(Exception):  # noqa: N818 -- most often it is the archive that is at fault, not this program
    """Something that will not be done. *code* is the exit code, *hint* what to do next."""

    def __init__(self, code: int, message: str, hint: "Optional[str]" = None, problems: "Sequence[str]" = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)


# --- command line -------------------------------------------------------------------------------------------


def main(argv: "Optional[Sequence[str]]" = None) -> int:
    """Do what the command line says; return the exit code."""
    import argparse

    parser = argparse.ArgumentParser(description="Check or unpack an archive of an offline bundle.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="an archive, or its parts in any order")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("-o", "--output", metavar="DIR", help="the bundle to make or to bring up to date")
    task.add_argument("--verify", action="store_true", help="only check the archive; write nothing")
    parser.add_argument("--allow-rollback", action="store_true", help="also accept what is older than the bundle")
    options = parser.parse_args(argv)
    try:
        with open_archives(options.files, options.output) as archives:
            for archive in archives:
                _ask_site(archive)
                if options.verify:
                    refuse_damage(archive, check(archive))
                    print(f"{archive.name}: {len(archive.entries)} members, all as {MANIFEST} says")
                else:
                    changed = unpack_archive(archive, options.output, allow_rollback=options.allow_rollback)
                    print(f"{archive.name}: {'unpacked to' if changed else 'is there already, in'} {options.output}")
    except Refusal as error:
        print("error: " + "\n  ".join([error.message, *error.problems]), file=sys.stderr)
        if error.hint:
            print("hint: " + error.hint, file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"error: {error}\nhint: {os_hint(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


def _ask_site(archive: "Archive") -> None:
    """Refuse what the site's policy on signatures does not allow; ask nothing where there is no policy."""
    if not os.environ.get("OFFLINE_BUNDLE_POLICY") and not os.path.lexists("/etc/offline-bundle/policy.json"):
        return
    policy = _load_policy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "policy.py"))
    try:
        policy.enforce(archive.document, archive.signature)
    except policy.UntrustedError as error:
        raise Refusal(error.code, f"{archive.name}: {error.message}", error.hint) from None


def _load_policy(place: str) -> "ModuleType":
    """Load the module that knows signatures: the file beside this one, and no other of that name on the path."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("policy", place)
    if spec is None or spec.loader is None or not os.path.isfile(place):
        raise Refusal(
            6,
            f"this site asks for signatures, and there is no {place}, which knows them",
            "put a reviewed copy of policy.py, which every bundle has, there; or use `offline-bundle unpack`",
        )
    policy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(policy)
    return policy


def os_hint(error: OSError) -> str:
    """Say what to do when the operating system refuses."""
    hints = {
        errno.ENOSPC: "free some space, or name another folder with -o",
        errno.EDQUOT: "your quota is used up: free some space, or name another folder with -o",
        errno.EROFS: "the file system is read-only: name another folder with -o",
        errno.EACCES: "you may not write there: name another folder with -o",
        errno.EPERM: "you may not write there: name another folder with -o",
    }
    default = "see to it and run this again"
    return f"{hints.get(error.errno or 0, default)}; the bundle in place is as it was"


# --- unpacking one archive into a bundle that it makes or replaces -------------------------------------------


def unpack_archive(archive: "Archive", directory: "PathLike", *, allow_rollback: bool = False) -> bool:
    """Make the bundle at *directory* the one that *archive* holds; True when anything changed.

    A bundle that the archive's does not descend from is refused: merging two is the work of `offline-bundle unpack`.
    """
    directory = os.fspath(directory)
    refuse_foreign(directory)
    os.makedirs(directory, exist_ok=True)
    real_folder(directory, WRITER)
    lock = _lock(os.path.join(directory, WRITER, "lock"))
    try:
        current = _read_table_at(os.path.join(directory, MANIFEST))
        _refuse_relation(archive, directory, current, allow_rollback=allow_rollback)
        changed = _replace_bundle(archive, directory, current)
        forget_parts(archive, directory)
        remove_tree(os.path.join(directory, INCOMING))  # of a run that was killed after its commit
        return changed
    finally:
        _remove_if_empty(directory)
        os.close(lock)


def relation(digest: str, ancestors: "Container[str]", current: str, older: "Container[str]") -> str:
    """Tell what the bundle with *digest* is to the *current* one: same, newer, older or other.

    *ancestors* are digests of the manifests it descends from, *older* those of the current one.
    """
    if digest == current:
        return "same"
    if current in ancestors:
        return "newer"
    return "older" if digest in older else "other"


def refuse_rollback(archive: "Archive", directory: "PathLike", generation: int) -> "NoReturn":
    """Raise for an archive of a bundle that the one in place descends from."""
    raise Refusal(
        5,
        f"{archive.name} is older than the bundle in {os.fspath(directory)}: "
        f"generation {archive.table.generation} against {generation}",
        "unpack the newest archive; --allow-rollback goes back to the older one on purpose",
    )


def refuse_lacking(archive: "Archive", directory: "PathLike", lacking: "Sequence[str]") -> "NoReturn":
    """Raise for a difference that leaves out files which the bundle in place lacks."""
    base = f"generation {archive.base[1]} of the bundle, sha256 {archive.base[0]}" if archive.base else "another one"
    raise Refusal(
        5,
        f"{archive.name} is a difference from {base}, and leaves out {len(lacking)} files that "
        f"{os.fspath(directory)} lacks, or has damaged",
        "unpack the archives before it first, or pack a whole one (without --since)",
        [f"lacking: {printable(path)}" for path in lacking],
    )


def refuse_foreign(directory: str) -> None:
    """Raise when *directory* is something else than a bundle, an unfinished one, or an empty folder."""
    if not os.path.lexists(directory):
        return
    if not os.path.isdir(directory):
        raise Refusal(2, f"{directory} is a file, not a folder", "name a folder with -o")
    names = set(os.listdir(directory))
    if names and not names & {MANIFEST, WRITER}:
        hint = "name a new or empty folder, or a bundle, with -o"
        raise Refusal(2, f"{directory} is not empty and holds no {MANIFEST}: it is not a bundle", hint)


def _refuse_relation(archive: "Archive", directory: str, current: "Optional[Table]", *, allow_rollback: bool) -> None:
    if current is None:
        return
    found = relation(archive.digest, archive.table.ancestors, current.digest, current.ancestors)
    if found == "older" and not allow_rollback:
        refuse_rollback(archive, directory, current.generation)
    if found == "other":
        raise Refusal(
            5,
            f"the bundle in {directory} is another one than that of {archive.name}, or both have changed since",
            "name another folder, or merge them with `offline-bundle unpack`",
        )


def _replace_bundle(archive: "Archive", directory: str, current: "Optional[Table]") -> bool:
    table = archive.table
    contents = {path: content for path, content in table.files.items() if path != CHECKSUMS}
    kept = held_files(directory, contents)
    lacking = sorted(contents.keys() - kept - archive.brought)
    if lacking:
        refuse_lacking(archive, directory, lacking)
    entries = [entry for entry in archive.entries if entry.path in contents and entry.path not in kept]
    abandoned = _read_journals(directory)
    known = [current, *abandoned] if current else abandoned
    if current and current.digest == archive.digest and not entries and not abandoned:
        return False
    obsolete = {path: file for before in known for path, file in before.raw_files.items() if path not in table.files}
    accounted = {path for before in known for path in before.files}
    _refuse_other_bytes(directory, [entry.path for entry in entries if entry.path not in accounted])
    install(
        directory,
        extract(archive, entries, directory),
        document=archive.document,
        checksums=table.checksums,
        journal=table.with_files(obsolete),
        signature=archive.signature,
        obsolete=sorted(obsolete),
    )
    return True


def _refuse_other_bytes(directory: str, paths: "Iterable[str]") -> None:
    found = [path for path in paths if os.path.lexists(os.path.join(directory, path))]
    if found:
        raise Refusal(
            5,
            f"{directory} holds files with other content that no manifest knows",
            "move them away, or name another folder with -o",
            [printable(path) for path in found],
        )


def _lock(path: str) -> int:
    """Wait for the bundle's one writer to be this process; the descriptor that is returned holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _read_table_at(path: str) -> "Optional[Table]":
    try:
        with open_regular(path) as file:
            return read_table(file.read())
    except FileNotFoundError:
        return None


def _read_journals(directory: str) -> "list[Table]":
    journals = []
    for path in journal_paths(directory):
        try:
            journals.append(_read_table_at(path))
        except (OSError, Refusal):
            _remove(path)
    return [journal for journal in journals if journal]


def _remove_if_empty(directory: str) -> None:
    """What was refused before anything came of it leaves no folder behind."""
    if os.path.lexists(os.path.join(directory, MANIFEST)) or journal_paths(directory):
        return
    try:
        for folder in (INCOMING, _STAGING):
            if os.path.isdir(os.path.join(directory, folder)):
                os.rmdir(os.path.join(directory, folder))
        if os.listdir(os.path.join(directory, WRITER)) == ["lock"]:
            _remove(os.path.join(directory, WRITER, "lock"))
            os.rmdir(os.path.join(directory, WRITER))
            os.rmdir(directory)
    except OSError:  # there is something worth keeping
        pass


# --- the commit ---------------------------------------------------------------------------------------------


def install(  # noqa: PLR0913
    directory: "PathLike",
    staged: "Mapping[str, PathLike]",
    *,
    document: bytes,
    checksums: bytes,
    journal: bytes,
    signature: "Optional[bytes]" = None,
    obsolete: "Iterable[str]" = (),
) -> None:
    """Move *staged* files into the bundle at *directory*, and make *document* its manifest: the last rename commits.

    *journal* is a manifest of all that may lie there if this is killed on the way: verification tells such files from
    somebody else's, and the next writer finishes or removes them. *obsolete* files are removed after the commit.
    """
    directory = os.fspath(directory)
    folders = {os.path.dirname(path) for path in staged}
    for folder in sorted(folders | {_STAGING}):
        real_folder(directory, folder)
    _write_journal(directory, journal)
    for path, file in staged.items():
        os.replace(file, os.path.join(directory, path))
    _put(directory, CHECKSUMS, checksums)
    changes = _read_whole(os.path.join(directory, MANIFEST)) != document
    before = (_read_whole(os.path.join(directory, SIGNATURE)) or b"") if changes else b""
    if signature is not None:  # two files cannot be renamed as one: until the commit, the signatures of both are there
        _put(directory, SIGNATURE, before if signature in before else before + signature)
    _put(directory, MANIFEST, document, is_durable=True)
    _flush_folder(directory)
    if signature is not None and before:
        _put(directory, SIGNATURE, signature)
    elif changes and signature is None:
        _remove(os.path.join(directory, SIGNATURE))
    for path in obsolete:
        _remove_with_folders(directory, path)
    for path in journal_paths(directory):
        _remove(path)
    remove_tree(os.path.join(directory, INCOMING))


def journal_paths(directory: "PathLike") -> "list[str]":
    """Find the journals of writers that were killed in *directory*, in no order that matters."""
    folder = os.path.join(os.fspath(directory), WRITER)
    if os.path.islink(folder):
        return []
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if _JOURNAL.fullmatch(name)]


def _write_journal(directory: str, journal: bytes) -> None:
    """Note what is about to be; what a killed writer noted stays beside it, for some of that may lie in place."""
    before = _read_whole(os.path.join(directory, PENDING))
    if before is not None and before != journal:
        aside = f"pending-{sha256_of(before)[:16]}.json"
        os.replace(os.path.join(directory, PENDING), os.path.join(directory, WRITER, aside))
    _put(directory, PENDING, journal, is_durable=True)


def refuse_without_space(folder: "PathLike", needed: int) -> None:
    """Raise OSError (ENOSPC) before anything is written where *needed* bytes do not fit into what is free.

    Quotas, and others who write meanwhile, are not known here: a write may still fail.
    """
    if not hasattr(os, "statvfs"):
        return
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if found.f_blocks and needed > free:
        reason = f"{os.strerror(errno.ENOSPC)}: {needed:,} bytes are needed, {free:,} are free"
        raise OSError(errno.ENOSPC, reason, os.fspath(folder))


def real_folder(directory: str, folder: str) -> str:
    """Make *folder* below *directory* and return it; raises Refusal where a link or a file is on the way there."""
    place = directory
    for name in folder.split("/") if folder else ():
        place = os.path.join(place, name)
        try:
            os.mkdir(place)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                hint = "find out who put it there, and move it away; nothing was written through it"
                raise Refusal(5, f"{place} is a link or a file where the bundle has a folder", hint) from None
    return place


def _put(directory: str, path: str, content: bytes, *, is_durable: bool = False) -> None:
    """Write aside and rename; durable: after a power cut, too, it is the old or the new."""
    temporary = os.path.join(directory, _STAGING, path.rsplit("/", 1)[-1])
    _remove(temporary)
    with create(temporary) as file:
        file.write(content)
        if is_durable:
            os.fsync(file.fileno())
    os.replace(temporary, os.path.join(directory, path))


def _flush_folder(folder: str) -> None:
    """Make the renames in *folder* survive a power cut, where the platform can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _remove_with_folders(directory: str, path: str) -> None:
    folder = os.path.dirname(path)
    place = directory
    for name in path.split("/")[:-1]:  # never through a link
        place = os.path.join(place, name)
        if not os.path.isdir(place) or os.path.islink(place):
            return
    _remove(os.path.join(directory, path))
    while folder:
        try:
            os.rmdir(os.path.join(directory, folder))
        except OSError:  # others live there
            return
        folder = os.path.dirname(folder)


def remove_tree(folder: str) -> None:
    """Remove what an interrupted run left, if anything."""
    if os.path.lexists(folder):
        import shutil  # slow to import, and most often of no use

        shutil.rmtree(folder, ignore_errors=True)


# --- the archive --------------------------------------------------------------------------------------------


class Entry:
    """One member of an archive: where it lies, and what it must hold."""

    __slots__ = ("comment", "header_size", "is_executable", "path", "sha256", "size", "start")

    def __init__(
        self, path: str, sha256: str, size: int, *, comment: "Optional[str]" = None, is_executable: bool = False
    ) -> None:
        self.path = path
        self.sha256 = sha256
        self.size = size
        self.comment = comment
        self.is_executable = is_executable
        self.header_size = header_size(path, size, comment=comment)
        """Bytes before its content."""
        self.start = 0
        """Offset of its header in the archive."""

    def header(self, time: int) -> bytes:
        """What stands before its content; *time* in seconds since 1970."""
        return render_header(self.path, self.size, time, is_executable=self.is_executable, comment=self.comment)

    @property
    def offset(self) -> int:
        """Where its content begins."""
        return self.start + self.header_size

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return padded(self.offset + self.size)


class Archive:
    """An archive, open for reading: what it must be to the byte, from its manifest.

    Its members, in this order: bundle.json, SHA256SUMS, then bundle.json.sig and .writer/delta.json where there are
    any, then the files by path. In a difference the first ones, inventories and locks are folded into one, and read
    as if they were not. Raises Refusal where the beginning is not that.
    """

    def __init__(self, volume: "Volume") -> None:
        self.name = volume.name
        lists = read_lists(volume)
        self.volume = Unfolded(volume, lists) if lists else volume
        self.document = self._read_document()
        """bundle.json, as it stands there."""
        self.table = read_table(self.document)
        self.digest = self.table.digest
        first = Entry(MANIFEST, self.digest, len(self.document))
        sums = self.table.checksums
        second = Entry(CHECKSUMS, sha256_of(sums), len(sums))
        self.entries = lay_out([first, second])
        if self._read_header(first) != first.header(self.table.time):
            self._refuse_start(f"the header of {MANIFEST} is not what `pack` writes")
        if lists and lists.time != self.table.time:
            refuse_lists(self.name, "the time in its header is not the bundle's")
        if self.volume.read(second.offset, second.size) != sums:
            raise Refusal(5, f"{self.name}: {MANIFEST} and {CHECKSUMS} do not match, or one of them is cut off", _AGAIN)
        self.signature = self._read_mark(SIGNATURE)
        delta = self._read_mark(DELTA)
        names = sorted(self.table.files.keys() - {CHECKSUMS})
        self.base: Optional[tuple[str, int]] = None
        """Digest and generation of the manifest that a difference is from; None for a whole bundle."""
        if delta is not None:
            base, generation, names = read_delta(delta, self.table)
            self.base = (base, generation)
        self.brought = frozenset(names)
        """Paths of the bundle's files that it holds, SHA256SUMS apart."""
        leading = len(self.entries)
        listed = [path for path in names if lists and is_listed(path)]
        names = [*listed, *(path for path in names if not (lists and is_listed(path)))]
        self.entries = lay_out([*self.entries, *map(self.table.entry, names)])
        if lists and (delta is None or self.entries[leading + len(listed) - 1].end != len(lists.content)):
            refuse_lists(self.name, "it does not hold what it should")
        self.size = self.entries[-1].end + _END
        """What it must have, in bytes, to the end of the last part."""

    def parts_with(self, entries: "Iterable[Entry]") -> "list[str]":
        """Name the parts in which any of *entries* lie."""
        return sorted({name for each in entries for name in self.volume.parts_at(each.start, each.end - each.start)})

    def _read_document(self) -> bytes:
        header = self.volume.read(0, _BLOCK)
        if header[:12] != b"bundle.json\0" or not re.fullmatch(rb"[0-7]{11}\0", header[124:136]):
            self._refuse_start("it is no archive of a bundle, or its beginning is damaged")
        size = int(header[124:135], 8)
        if size > _LARGEST_MANIFEST:
            self._refuse_start(f"{MANIFEST} has {size} bytes there, more than {_LARGEST_MANIFEST}")
        document = self.volume.read(_BLOCK, size)
        if len(document) != size:
            self._refuse_start(f"it is cut off in {MANIFEST}")
        return document

    def _refuse_start(self, what: str) -> "NoReturn":
        raise Refusal(5, f"{self.name} does not begin with {MANIFEST}: {what}", _AGAIN)

    def _read_header(self, entry: Entry) -> bytes:
        return self.volume.read(entry.start, entry.header_size)

    def _read_mark(self, path: str) -> "Optional[bytes]":
        """Read the member *path* if it comes next: SHA256SUMS does not list it, so its header has its digest."""
        start = self.entries[-1].end
        blocks = self.volume.read(start, 3 * _BLOCK)
        name = render_header(path, 0, 0, comment="")[:100]
        if blocks[:100] != name or not re.fullmatch(rb"[0-7]{11}\0", blocks[2 * _BLOCK + 124 : 2 * _BLOCK + 136]):
            return None
        size = int(blocks[2 * _BLOCK + 124 : 2 * _BLOCK + 135], 8)
        content = self.volume.read(start + 3 * _BLOCK, min(size, _LARGEST_MARK))
        entry = Entry(path, sha256_of(content), len(content), comment=mark_comment(content))
        if entry.size != size or blocks != entry.header(self.table.time):
            raise Refusal(5, f"{self.name}: {path} is damaged", _AGAIN)
        self.entries = lay_out([*self.entries, entry])
        return content


class Lists:
    """What the first member of a difference holds, unfolded."""

    def __init__(self, content: bytes, end: int, time: int) -> None:
        self.content = content
        """A tar, without the zeros at its end."""
        self.end = end
        """Where that member ends in the archive."""
        self.time = time
        """What its header says, in seconds since 1970."""


def is_listed(path: str) -> bool:
    """Whether the file at *path* changes with every package, however few of them change."""
    return path in (REPORT, SBOM) or path.startswith("locks/")


def read_lists(volume: "Volume") -> "Optional[Lists]":
    """Unfold the first member of a difference; None where another one stands. Raises Refusal for a damaged one."""
    start = 3 * _BLOCK
    blocks = volume.read(0, start)
    if blocks[:100] != render_header(LISTS, 0, 0, comment="")[:100]:
        return None
    fields = re.fullmatch(rb"([0-7]{11})\0([0-7]{11})\0", blocks[2 * _BLOCK + 124 : 2 * _BLOCK + 148])
    if not fields:
        refuse_lists(volume.name, "its header is not what `pack` writes")
    size, time = int(fields[1], 8), int(fields[2], 8)
    content = volume.read(start, min(size, 2 * LARGEST_LISTS))
    entry = Entry(LISTS, "", size, comment=mark_comment(content))
    if len(content) != size or blocks != entry.header(time):
        refuse_lists(volume.name, "it is cut off, or its sha256 is not what its header says")
    if volume.read(start + size, entry.end - start - size).strip(b"\0"):
        refuse_lists(volume.name, "the padding after it is not zero")
    return Lists(_unfold(volume.name, content), entry.end, time)


def _unfold(name: str, content: bytes) -> bytes:
    """Inflate a tar that is one gzip stream and nothing more, up to its end."""
    try:
        import zlib
    except ImportError:
        raise Refusal(1, f"{sys.executable} has no zlib, which a difference needs", "use another Python") from None
    inflater = zlib.decompressobj(wbits=31)
    try:
        tar = inflater.decompress(content, LARGEST_LISTS + _END + 1)
    except zlib.error as error:
        refuse_lists(name, str(error))
    if not inflater.eof or inflater.unused_data or tar[-_END:] != bytes(_END):
        refuse_lists(name, f"it is not one tar of at most {LARGEST_LISTS} bytes")
    return tar[:-_END]


def refuse_lists(name: str, what: str) -> "NoReturn":
    """Raise for a difference that does not begin as it should."""
    raise Refusal(5, f"{name}: {LISTS} is damaged: {what}", _AGAIN)


def mark_comment(content: bytes) -> str:
    """Say in a member's header what its digest is, where SHA256SUMS does not."""
    return f"sha256={sha256_of(content)}"


def lay_out(entries: "list[Entry]") -> "list[Entry]":
    """Give each entry its place, one after the other."""
    start = 0
    for entry in entries:
        entry.start = start
        start = entry.end
    return entries


def render_delta(base: str, generation: int, paths: "Iterable[str]") -> bytes:
    """Render the member that makes an archive a difference from the manifest with the digest *base*."""
    import json

    document = {"format": FORMAT, "base": base, "base-generation": generation, "files": sorted(paths)}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")


def read_delta(content: bytes, table: "Table") -> "tuple[str, int, list[str]]":
    """Return digest and generation of the base, and the paths the archive brings; raises Refusal."""
    document = parse_object(content, DELTA)
    base, generation, files = (document.get(key) for key in ("base", "base-generation", "files"))
    known = table.files.keys() - {CHECKSUMS}
    if (
        not (isinstance(base, str) and _DIGEST.fullmatch(base))
        or not (type(generation) is int and generation > 0)
        or not (isinstance(files, list) and all(isinstance(path, str) and path in known for path in files))
        or content != render_delta(base, generation, set(files))
    ):
        raise Refusal(5, f"{DELTA} does not describe a difference", _AGAIN)
    return base, generation, files


def check(archive: Archive, progress: "Progress" = None) -> "dict[str, str]":
    """Check every byte of *archive*; return what is wrong, by path of the member; empty when all is well."""
    progress = one_at_a_time(progress)

    def damage(entry: Entry) -> "Optional[str]":
        return damage_of(archive.volume, entry, archive.table.time, progress)

    cut = {entry.path: "cut off" for entry in archive.entries if entry.end > archive.volume.size}
    whole = [entry for entry in archive.entries if entry.path not in cut]
    found = {entry.path: what for entry, what in each(damage, _largest_first(whole), _size_of) if what}
    end = None if cut else _end_damage(archive)
    if end:
        found[_THE_END] = end
    return {**cut, **found}


def refuse_damage(archive: Archive, damage: "Mapping[str, str]", parts: "Sequence[str]" = ()) -> None:
    """Raise when there is any, naming each member and the *parts* to carry again."""
    if not damage:
        return
    names = parts or [archive.name]
    raise Refusal(
        5,
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} damaged or missing: "
        f"{len(damage)} members are not as {MANIFEST} says",
        _AGAIN,
        [f"{printable(path)}: {what}" for path, what in damage.items()],
    )


def damage_of(volume: "Volume", entry: Entry, time: int, progress: "Progress" = None) -> "Optional[str]":
    """Say what is wrong with one member, its header, content and padding; None when nothing is."""
    if is_small(entry.size):
        member = memoryview(volume.read(entry.start, entry.end - entry.start))
        header, content = member[: entry.header_size], member[entry.header_size :][: entry.size]
        framing = _framing_damage(entry, time, header, member[entry.header_size + entry.size :])
        chunks: Iterable[memoryview] = [content]
    else:
        framing = _read_framing_damage(volume, entry, time)
        chunks = volume.chunks(entry.offset, entry.size)
    if framing:
        return framing
    digest = _digest_of(chunks, progress)
    return None if digest == entry.sha256 else f"expected sha256 {entry.sha256}, found {digest}"


def _read_framing_damage(volume: "Volume", entry: Entry, time: int) -> "Optional[str]":
    header = volume.read(entry.start, entry.header_size)
    padding = volume.read(entry.offset + entry.size, entry.end - entry.offset - entry.size)
    return _framing_damage(entry, time, memoryview(header), memoryview(padding))


def _framing_damage(entry: Entry, time: int, header: memoryview, padding: memoryview) -> "Optional[str]":
    if header != entry.header(time):
        return f"its header is not what `pack` writes: {_describe(bytes(header))}"
    return "the padding after it is not zero" if bytes(padding).strip(b"\0") else None


def _describe(header: bytes) -> str:
    """Say what a strange header may be meant for."""
    kinds = {
        b"1": "a hard link",
        b"2": "a symbolic link",
        b"3": "a character device",
        b"4": "a block device",
        b"5": "a folder",
        b"6": "a fifo",
        b"L": "a GNU long name",
        b"K": "a GNU long link",
        b"S": "a sparse file",
        b"g": "a global header",
        b"x": "an extended header",
    }
    if header[257:262] != b"ustar":
        return "no header at all"
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    return f"{kinds.get(header[156:157], 'a file')} named {printable(name)}"


def extract(
    archive: Archive, entries: "Sequence[Entry]", directory: "PathLike", progress: "Progress" = None
) -> "dict[str, str]":
    """Copy *entries* to files of their own in .writer/ of *directory*, check each there, and return them by path.

    What an interrupted run has put there is checked and used. Raises Refusal that names every damaged member; what is
    good, members and parts, stays there for the next run.
    """
    directory = os.fspath(directory)
    progress = one_at_a_time(progress)
    _refuse_framing(archive, directory)
    if not entries:
        return {}
    folder = real_folder(directory, INCOMING)
    staged = {entry.path: os.path.join(folder, sha256_of(entry.path.encode())[:32]) for entry in entries}

    def holds(entry: Entry) -> bool:
        return file_digest(staged[entry.path], progress) == entry.sha256

    def brings(entry: Entry) -> bool:
        return _copy_out(archive.volume, entry, staged[entry.path], progress) == entry.sha256

    left = [entry for entry in entries if _regular_size(staged[entry.path]) == entry.size]
    good = {entry.path for entry, is_good in each(holds, _largest_first(left), _size_of) if is_good}
    rest = _largest_first(entry for entry in entries if entry.path not in good)
    refuse_without_space(folder, sum(entry.size for entry in rest))
    brought = each(brings, rest, _size_of)
    bad = {entry.path: f"its sha256 is not {entry.sha256}" for entry, is_good in brought if not is_good}
    for path in bad:
        _remove(staged[path])
    _refuse_members(archive, directory, dict(sorted(bad.items())))
    return staged


def _largest_first(entries: "Iterable[Entry]") -> "list[Entry]":
    """Put them in the order in which no thread is left alone with a large one at the end."""
    return sorted(entries, key=_size_of, reverse=True)


def _size_of(entry: Entry) -> int:
    return entry.size


def _refuse_members(archive: Archive, directory: str, damage: "Mapping[str, str]") -> None:
    """Raise for damaged members, naming the parts they lie in, after putting the good parts by."""
    if damage:
        bad = damaged_parts(archive, damage)
        keep_good_parts(archive, directory, bad)
        refuse_damage(archive, damage, bad)


def damaged_parts(archive: Archive, damage: "Collection[str]") -> "list[str]":
    """Name the parts to carry again: those that differ from the list of parts, or else those with damaged members."""
    known = archive.volume.bad_parts()
    touched = archive.parts_with(entry for entry in archive.entries if entry.path in damage)
    return sorted(known & set(touched)) or touched


def _refuse_framing(archive: Archive, directory: str) -> None:
    """Raise before anything is written unless all is there but, maybe, for the contents."""
    size = archive.volume.size
    cut = {entry.path: "cut off" for entry in archive.entries if entry.end > size}
    if size < archive.size or cut:
        bad = archive.volume.missing_after(archive.size)
        keep_good_parts(archive, directory, bad)
        refuse_damage(archive, cut or {_THE_END: _other_size(archive)}, bad)
    if _is_framed(archive):
        return
    time = archive.table.time
    damage = {entry.path: _read_framing_damage(archive.volume, entry, time) for entry in archive.entries}
    damage[_THE_END] = _end_damage(archive)
    _refuse_members(archive, directory, {path: what for path, what in damage.items() if what})


def _is_framed(archive: Archive) -> bool:
    """Whether all between the contents is as it should be: padding and the next header are read as one."""
    volume, time, place = archive.volume, archive.table.time, 0
    for entry in archive.entries:
        if volume.read(place, entry.offset - place) != bytes(entry.start - place) + entry.header(time):
            return False
        place = entry.offset + entry.size
    return volume.read(place, archive.size - place + 1) == bytes(archive.size - place)


def _end_damage(archive: Archive) -> "Optional[str]":
    if archive.volume.read(archive.size - _END, _END + 1) == bytes(_END):
        return None
    return f"{_other_size(archive)} that end in zeros"


def _other_size(archive: Archive) -> str:
    volume = archive.volume
    return f"it has {volume.stored(volume.size)} bytes, and not {volume.stored(archive.size)}"


def _copy_out(volume: "Volume", entry: Entry, place: str, progress: "Progress") -> str:
    """Write a member's content to a new file at *place*, and return the sha256 of what was written."""
    digest = _sha256()
    _remove(place)
    with create(place, is_executable=entry.is_executable) as file:
        for chunk in volume.chunks(entry.offset, entry.size):
            digest.update(chunk)
            _write_all(file.fileno(), chunk)
            if progress:
                progress(len(chunk))
    return digest.hexdigest()


def held_files(
    directory: "PathLike", files: "Mapping[str, tuple[str, int]]", progress: "Progress" = None
) -> "set[str]":
    """Tell which of *files* (digest and size by path) lie in *directory* as they should, by reading them."""
    directory = os.fspath(directory)
    progress = one_at_a_time(progress)

    def is_held(path: str) -> bool:
        sha256, size = files[path]
        place = os.path.join(directory, path)
        try:
            return _regular_size(place) == size and file_digest(place, progress) == sha256
        except OSError:
            return False

    largest_first = sorted(files, key=lambda path: -files[path][1])
    return {path for path, held in each(is_held, largest_first, lambda path: files[path][1]) if held}


# --- parts --------------------------------------------------------------------------------------------------


class Part:
    """One file of an archive, open: the whole of it, or a part."""

    def __init__(self, descriptor: int, path: str, size: int) -> None:
        self.descriptor = descriptor
        self.path = path
        self.size = size
        self.name = os.path.basename(path)
        self.number = 0
        """From 1; 0 for a whole archive."""
        self.sha256: Optional[str] = None
        """What the list of parts says, where there is one."""
        self.target = -1
        """Another descriptor, to append to it while it is being written."""

    @classmethod
    def open(cls, path: str) -> "Part":
        """Open a file that the user names."""
        descriptor = _open_given(path)
        return cls(descriptor, path, os.fstat(descriptor).st_size)

    def digest(self) -> str:
        """Return its sha256, in hex."""
        return _digest_of(Volume(self.name, [self]).chunks(0, self.size))


class Volume:
    """The bytes of one archive, in one part or several; may be read by several threads."""

    def __init__(self, name: str, parts: "Sequence[Part]", index: "Optional[str]" = None) -> None:
        self.name = name
        self.index = index
        """Path of the list of parts."""
        self.store: Optional[str] = None
        """Where its good parts are kept when others must come again; None for nowhere."""
        self.parts = list(parts)
        self.size = sum(part.size for part in self.parts)

    def close(self) -> None:
        """Close all parts."""
        for part in self.parts:
            os.close(part.descriptor)

    def spans(self, offset: int, count: int) -> "Iterator[tuple[Part, int, int]]":
        """Find the parts, and the offsets and lengths in them, where *count* bytes at *offset* lie."""
        for part in self.parts:
            if offset >= part.size:
                offset -= part.size
                continue
            length = min(count, part.size - offset)
            if length <= 0:
                return
            yield part, offset, length
            offset, count = 0, count - length

    def stored(self, offset: int) -> int:
        """Tell where in the parts, one after the other, *offset* lies."""
        return offset

    def parts_at(self, offset: int, count: int) -> "set[str]":
        """Name the parts in which *count* bytes at *offset* lie."""
        return {part.name for part, _, _ in self.spans(offset, count)}

    def read(self, offset: int, count: int) -> bytes:
        """Read *count* bytes at *offset*: fewer at the end."""
        return b"".join(bytes(chunk) for chunk in self.chunks(offset, count))

    def chunks(self, offset: int, count: int) -> "Iterator[memoryview]":
        """Read *count* bytes at *offset* piece by piece; each piece is good until the next."""
        buffer = memoryview(bytearray(max(1, min(_CHUNK, count))))
        for part, start, length in self.spans(offset, count):
            place, end = start, start + length
            while place < end:
                read = read_at(part.descriptor, buffer[: min(end - place, len(buffer))], place)
                if not read:
                    return
                yield buffer[:read]
                place += read

    def bad_parts(self) -> "set[str]":
        """Name the parts that are not what the list of parts says."""
        listed = [part for part in self.parts if part.sha256]
        return {part.name for part, digest in each(Part.digest, listed) if digest != part.sha256}

    def missing_after(self, size: int) -> "list[str]":
        """Name the parts that are missing at the end, or too long, for all to have *size* bytes together."""
        match = _PART.fullmatch(self.parts[-1].name)
        if not match or self.size > size:
            return []
        whole, width = self.parts[0].size, len(match["number"])
        short = [part.name for part in self.parts if part.size < whole]
        return short or [f"{match['archive']}.{n:0{width}}" for n in range(len(self.parts) + 1, -(-size // whole) + 1)]


class Unfolded(Volume):
    """A difference as it would be without its first member, but with the members that this holds in its place."""

    def __init__(self, volume: Volume, lists: Lists) -> None:
        super().__init__(volume.name, volume.parts, volume.index)
        self._volume = volume
        self._lists = lists
        self._shift = len(lists.content) - lists.end
        self.size += self._shift

    def stored(self, offset: int) -> int:
        """Tell where it lies in the parts: that is not known of what is folded."""
        return max(self._lists.end, offset - self._shift)

    def parts_at(self, offset: int, count: int) -> "set[str]":
        """Name the parts of the first member for what is folded."""
        folded = self._volume.parts_at(0, self._lists.end) if offset < len(self._lists.content) else set()
        start = self.stored(offset)
        return folded | self._volume.parts_at(start, self.stored(offset + count) - start)

    def chunks(self, offset: int, count: int) -> "Iterator[memoryview]":
        """Read what is folded from memory, and the rest from the parts."""
        folded = memoryview(self._lists.content)[offset : offset + count]
        if folded:
            yield folded
        yield from self._volume.chunks(self.stored(offset + len(folded)), count - len(folded))

    def missing_after(self, size: int) -> "list[str]":
        """Name the parts that are missing at the end, or too long."""
        return self._volume.missing_after(self.stored(size))


class OpenArchives:
    """The archives that FILEs are, open as long as the `with` block lasts."""

    def __init__(self, volumes: "Sequence[Volume]") -> None:
        self._volumes = volumes

    def __enter__(self) -> "list[Archive]":
        """Open them, differences after the bundles that they may be from."""
        try:
            archives = [_read_archive(volume) for volume in self._volumes]
        except BaseException:
            self.__exit__()
            raise
        return sorted(archives, key=lambda archive: (archive.base is not None, archive.table.generation))

    def __exit__(self, *_: object) -> None:
        """Close them."""
        for volume in self._volumes:
            volume.close()


def _read_archive(volume: Volume) -> Archive:
    """Read the beginning of an archive; where it is damaged, the good parts are kept and the others named."""
    try:
        return Archive(volume)
    except Refusal as refusal:
        if refusal.code != 5 or not volume.parts[0].number:
            raise
        bad = sorted(volume.bad_parts())
        _keep_parts(volume.store, {p.number: p.path for p in volume.parts if p.name not in bad}, volume.index)
        blame = [f"damaged: {name}" for name in bad] or [f"it begins in {volume.parts[0].name}"]
        raise Refusal(5, refusal.message, refusal.hint, [*refusal.problems, *blame]) from None


def open_archives(files: "Iterable[PathLike]", directory: "Optional[PathLike]" = None) -> OpenArchives:
    """Find the archives that *files* are: each a whole one, a part, or a list of parts.

    Parts are put in order by the number in their names, and looked for beside each other. When some are missing or
    differ from the list of parts, they are named, and the good ones kept in *directory*, so that the next time those
    that were named will do. Raises Refusal.
    """
    wholes: list[str] = []
    sets: dict[str, dict[int, str]] = {}
    lists: dict[str, str] = {}
    named: list[tuple[str, str]] = []
    for file in [os.fspath(file) for file in files]:
        name = _archive_of_part(file)
        if name is None:
            wholes.append(file)
        else:
            named.append((file, name))
    beside = [(place, name) for file, name in named for place in _beside(file, name)]
    for place, name in [*beside, *named]:  # what is named counts, and not what lies beside another part
        _sort_in(place, sets.setdefault(name, {}), lists, name)
    volumes = [Volume(os.path.basename(file), [Part.open(file)]) for file in wholes]
    for name, found in sets.items():
        store = None if directory is None else _part_store(directory, name)
        volumes.append(_volume_of_parts(name, found, lists.get(name), store))
    return OpenArchives(volumes)


def _archive_of_part(file: str) -> "Optional[str]":
    """Name the archive that *file* is a part, or the list of parts, of; None for a whole one."""
    name = os.path.basename(file)
    if name.endswith(PART_INDEX):
        return name[: -len(PART_INDEX)]
    match = _PART.fullmatch(name)
    if match:
        return match["archive"]
    is_split = any(os.path.exists(file + ending) for ending in (PART_INDEX, ".001"))
    return name if is_split and not os.path.exists(file) else None


def _beside(file: str, archive: str) -> "list[str]":
    folder = os.path.dirname(file) or "."
    if not os.path.isdir(folder):
        return []
    names = [name for name in sorted(os.listdir(folder)) if _archive_of_part(os.path.join(folder, name)) == archive]
    return [os.path.join(folder, name) for name in names if name != archive]


def _sort_in(file: str, parts: "dict[int, str]", lists: "dict[str, str]", archive: str) -> None:
    match = _PART.fullmatch(os.path.basename(file))
    if match:
        parts[int(match["number"])] = file
    elif file.endswith(PART_INDEX):
        other = lists.setdefault(archive, file)
        if other != file and _read_given(other) != _read_given(file):
            raise Refusal(
                5,
                f"{other} and {file} differ: they are of two archives, or one of them is damaged",
                "unpack one archive at a time, each from its own folder; or move the damaged list away",
            )


def _volume_of_parts(name: str, found: "dict[int, str]", index: "Optional[str]", store: "Optional[str]") -> Volume:
    kept = _kept_parts(store)
    kept_index = kept.pop(0, None)
    index = index or kept_index
    listed = _read_part_list(index, name) if index else {}
    places = {**kept, **found}
    wanted = sorted(listed) or list(range(1, max(places, default=1) + 1))
    parts = []
    for number in wanted:
        if number in places:
            part = Part.open(places[number])
            part.number = number
            part.name, part.sha256 = listed.get(number, (f"{name}.{number:03}", None))
            parts.append(part)
    volume = Volume(name, parts, index)
    volume.store = store
    missing = [listed[n][0] if listed else f"{name}.{n:03}" for n in wanted if n not in places]
    if missing:
        bad = sorted(volume.bad_parts())
        _keep_parts(store, {part.number: part.path for part in parts if part.name not in bad}, index)
        volume.close()
        _refuse_parts(name, missing, bad, store)
    return volume


def _refuse_parts(name: str, missing: "Sequence[str]", bad: "Sequence[str]", store: "Optional[str]") -> "NoReturn":
    kept = "; the others are kept in the bundle's .writer/ until then" if store else ""
    raise Refusal(
        5,
        f"{name}: {len(missing) + len(bad)} of its parts are missing or damaged",
        f"carry these over again, and name them: only these are needed{kept}",
        [*(f"missing: {part}" for part in missing), *(f"damaged: {part}" for part in bad)],
    )


def keep_good_parts(archive: Archive, directory: "PathLike", bad: "Container[str]") -> None:
    """Keep the parts of *archive* that are not *bad* in *directory*, so that only the bad ones need to come again.

    Without a list of parts the bad ones are but suspected, and are kept as well: what comes again replaces them.
    """
    volume = archive.volume
    kept = [part for part in volume.parts if part.number and (part.name not in bad or volume.index is None)]
    if kept:
        _keep_parts(_part_store(directory, archive.name), {part.number: part.path for part in kept}, volume.index)


def forget_parts(archive: Archive, directory: "PathLike") -> None:
    """Remove the parts that were kept of *archive*: it is unpacked."""
    store = _part_store(directory, archive.name)
    if os.path.isdir(store) and not os.path.islink(os.path.dirname(store)):
        remove_tree(store)
        try:
            os.rmdir(os.path.dirname(store))
        except OSError:  # another archive waits for its parts
            pass


def _part_store(directory: "PathLike", archive: str) -> str:
    return os.path.join(os.fspath(directory), WRITER, "parts", archive)


def _kept_parts(store: "Optional[str]") -> "dict[int, str]":
    """Find what an earlier run has kept, by number; the list of parts is number 0."""
    if store is None or not os.path.isdir(store) or os.path.islink(store):
        return {}
    names = os.listdir(store)
    return {int(name): os.path.join(store, name) for name in names if re.fullmatch(r"[0-9]{1,6}", name)}


def _keep_parts(store: "Optional[str]", parts: "Mapping[int, str]", index: "Optional[str]") -> None:
    if store is None:
        return
    directory = os.path.dirname(os.path.dirname(os.path.dirname(store)))
    refuse_foreign(directory)
    os.makedirs(directory, exist_ok=True)
    real_folder(directory, f"{WRITER}/parts/{os.path.basename(store)}")
    for number, source in {**parts, **({0: index} if index else {})}.items():
        place = os.path.join(store, str(number))
        if os.path.abspath(source) != os.path.abspath(place):
            _keep(source, place)


def _keep(source: str, place: str) -> None:
    descriptor = _open_given(source)
    try:
        _remove(place + ".new")
        with create(place + ".new") as file:
            copy_range(descriptor, 0, os.fstat(descriptor).st_size, file.fileno())
    finally:
        os.close(descriptor)
    os.replace(place + ".new", place)


def _read_part_list(path: str, archive: str) -> "dict[int, tuple[str, str]]":
    """Read a list of parts: name and digest by number. Raises Refusal for anything but all parts in order."""
    listed: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(_read_given(path).decode("ascii", "replace").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)\.([0-9]{3,6})", line)
        if not match or match[2] != archive or int(match[3]) != number:
            raise Refusal(
                5,
                f"{path}: line {number} is damaged",
                "carry it over again, or do without: move it away, and the parts are put in order by their names",
            )
        listed[number] = (f"{match[2]}.{match[3]}", match[1])
    return listed


def _read_given(path: str) -> bytes:
    with os.fdopen(_open_given(path), "rb") as file:
        return file.read(_LARGEST_MARK)


def _open_given(path: str) -> int:
    """Open a file that the user names, perhaps through a link; not a folder, not a fifo."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise Refusal(2, f"{path} cannot be read: {error.strerror}", "name an archive, or all of its parts") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refusal(2, f"{path} is not a file", "name an archive, or all of its parts")
    return descriptor


# --- tar ----------------------------------------------------------------------------------------------------


def render_header(
    path: str, size: int, time: int, *, is_executable: bool = False, comment: "Optional[str]" = None
) -> bytes:
    """Render what stands before a file's content: one ustar block, or before it a pax one for what ustar cannot say."""
    records = _pax_records(path, size, comment)
    mode = 0o755 if is_executable else 0o644
    prefix, name = _split(path) or ("", _ascii(path)[:100])
    own = _ustar(name, prefix, mode, 0 if size > _LARGEST_USTAR else size, time, b"0")
    if not records:
        return own
    pax = _ustar("PaxHeaders/" + _ascii(path)[:80], "", 0o644, len(records), time, b"x")
    return pax + records.ljust(padded(len(records)), b"\0") + own


def header_size(path: str, size: int, *, comment: "Optional[str]" = None) -> int:
    """Tell how many bytes `render_header` makes."""
    records = _pax_records(path, size, comment)
    return 2 * _BLOCK + padded(len(records)) if records else _BLOCK


def padded(size: int) -> int:
    """Round up to whole blocks."""
    return -(-size // _BLOCK) * _BLOCK


def tar_time(timestamp: str) -> int:
    """Turn a manifest's timestamp into seconds since 1970, as far as ustar can say them."""
    import calendar

    try:
        seconds = calendar.timegm(tuple(int(number) for number in re.findall("[0-9]+", timestamp)[:6]))
    except (ValueError, OverflowError):
        return 0
    return min(max(seconds, 0), _LARGEST_USTAR)


def _ustar(name: str, prefix: str, mode: int, size: int, time: int, kind: bytes) -> bytes:  # noqa: PLR0913, PLR0917
    fields = [
        name.encode().ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % time,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        prefix.encode().ljust(155, b"\0"),
    ]
    block = b"".join(fields).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split(path: str) -> "Optional[tuple[str, str]]":
    """Split *path* into ustar's prefix and name; None when it does not fit."""
    if not path.isascii():
        return None
    if len(path) <= 100:
        return "", path
    cut = path.find("/", max(0, len(path) - 101))
    return None if cut < 0 or cut > 155 else (path[:cut], path[cut + 1 :])


def _pax_records(path: str, size: int, comment: "Optional[str]") -> bytes:
    records = {"comment": comment} if comment is not None else {}
    if _split(path) is None:
        records["path"] = path
    if size > _LARGEST_USTAR:
        records["size"] = str(size)
    return b"".join(_pax_record(key, value) for key, value in sorted(records.items()))


def _pax_record(key: str, value: str) -> bytes:
    """One `LENGTH KEY=VALUE` line, where the length counts its own digits."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


# --- the manifest, as far as an archive goes ----------------------------------------------------------------


class Table:
    """What of a manifest tells the bytes of an archive."""

    def __init__(self, document: bytes, fields: "dict[str, Any]") -> None:
        self._fields = fields
        self.digest = sha256_of(document)
        """Of the manifest itself."""
        self.raw_files: dict[str, Any] = fields["files"]
        self.files = {path: (file.get("sha256", ""), file.get("size", 0)) for path, file in self.raw_files.items()}
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
        raise Refusal(5, f"{MANIFEST} has another format than {FORMAT}", hint)
    problems = [*_table_problems(fields), *_file_problems(fields.get("files"))]
    if problems:
        raise Refusal(5, f"{MANIFEST} does not describe a bundle", _AGAIN, first_problems(problems))
    return Table(document, fields)


def first_problems(problems: "Sequence[str]") -> "list[str]":
    """Return as many as a reader will look at, and how many more there are: some folders have thousands of files."""
    more = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
    return [*problems[:_MOST_PROBLEMS], *more]


def parse_object(content: bytes, name: str) -> "dict[str, Any]":
    """Parse a JSON object; raises Refusal for anything else, and where a key occurs twice."""
    import json

    try:
        document = json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise Refusal(5, f"{name} is nested too deeply", _AGAIN) from None
    except ValueError as error:
        raise Refusal(5, f"{name} is not valid JSON: {error}", _AGAIN) from None
    if not isinstance(document, dict):
        raise Refusal(5, f"{name} must be a JSON object", _AGAIN)
    return document


def _object(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return document


def _refuse_constant(name: str) -> "NoReturn":
    raise ValueError(f"{name} is no number")


def _table_problems(fields: "Mapping[str, Any]") -> "Iterator[str]":
    if not isinstance(fields.get("timestamp"), str):
        yield "timestamp: must be a time"
    generation, ancestors = fields.get("generation", 1), fields.get("ancestors", [])
    if type(generation) is not int or not 0 < generation <= _LARGEST_SIZE:
        yield "generation: must be a positive number"
    if not isinstance(ancestors, list) or not all(isinstance(a, str) and _DIGEST.fullmatch(a) for a in ancestors):
        yield "ancestors: must be digests"


def _file_problems(files: object) -> "Iterator[str]":
    if not isinstance(files, dict) or CHECKSUMS not in files:
        yield f"files: must be an object that names {CHECKSUMS}"
        return
    for path, reason in path_problems(files):
        yield f"{_shown(path)}: {reason}"
    for path, file in files.items():
        if path == CHECKSUMS:
            if not isinstance(file, dict) or "sha256" in file or "size" in file:
                yield f"{CHECKSUMS}: has no digest or size"
        elif not isinstance(file, dict) or not _is_content(file.get("sha256"), file.get("size")):
            yield f"{_shown(path)}: must have a sha256 and a size"


def _is_content(sha256: object, size: object) -> bool:
    is_digest = isinstance(sha256, str) and _DIGEST.fullmatch(sha256) is not None
    return is_digest and type(size) is int and 0 <= size <= _LARGEST_SIZE


def render_checksums(digests: "Mapping[str, str]", manifest_digest: str) -> bytes:
    r"""Render `SHA256SUMS` for `sha256sum -c`: every file of the bundle but itself, and `bundle.json`.

    coreutils escapes backslashes and newlines in names; no path of a bundle has them (`unsafe_path`).
    """
    lines = {**digests, MANIFEST: manifest_digest}
    return "".join(f"{lines[path]}  {path}\n" for path in sorted(lines)).encode()


# --- paths --------------------------------------------------------------------------------------------------


def path_problems(paths: "Collection[str]") -> "Iterator[tuple[str, str]]":
    """Find paths that are unsafe, that meet where case is ignored or Unicode normalised, or that no wheel can have."""
    spellings: dict[str, str] = {}
    for path in paths:
        reason = unsafe_path(path)
        if reason:
            yield path, f"unsafe path: {reason}"
            continue
        if path.startswith("wheels/") and path.endswith(".whl") and not _WHEEL.fullmatch(path):
            yield path, "no wheel has such a name"
        for whole in (path, *_parents(path)):
            other = spellings.setdefault(_folded(whole), whole)
            if other != whole:
                yield path, f"{_shown(whole)} collides with {_shown(other)}"
            if whole is not path and whole in paths:
                yield path, f"{_shown(whole)} is a file, not a folder"


def unsafe_path(path: str) -> "Optional[str]":
    """Say why *path* cannot be that of a file in a bundle, or None when it can.

    A bundle must survive any file system on its way, so what Windows would take for something else is refused
    too: backslashes, drive letters and streams, names of devices, names that end in a dot or a space.
    """
    if len(path) > _LONGEST_PATH:
        return f"it is longer than {_LONGEST_PATH} characters"
    if not _PLAIN_PATH.fullmatch(path):
        reason = _unsafe_text(path) or _unsafe_component(path)
        if reason:
            return reason
    if _DEVICE.search(f"/{path}"):
        return "Windows has a device of that name"
    first = path.split("/", 1)[0].casefold()
    if first == WRITER:
        return f"{WRITER}/ belongs to the writer"
    if path.casefold() in {MANIFEST, SIGNATURE}:
        return "the manifest cannot name itself"
    return None


def _unsafe_text(path: str) -> "Optional[str]":
    if not path:
        return "it is empty"
    if not path.isprintable():
        return "it has characters that cannot be printed"
    foreign = "".join(sorted(_FOREIGN.intersection(path)))
    if foreign:
        return f"Windows has no {foreign} in names"
    return None


def _unsafe_component(path: str) -> "Optional[str]":
    for component in path.split("/"):
        if not component:
            return "it is absolute" if path.startswith("/") else "it has an empty component"
        if component in {".", ".."}:
            return f"it has a component {component}"
        if component[-1] in ". ":
            return "Windows drops a dot or space at the end of a name"
    return None


def _parents(path: str) -> "Iterator[str]":
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def printable(text: str) -> str:
    """Show what comes from outside without letting it speak to the terminal: escaped where it could."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!a}..."


# --- files --------------------------------------------------------------------------------------------------


class NotRegularError(OSError):
    """A symbolic link, folder, fifo or device lies where a file should."""


def open_regular(path: "PathLike") -> "FileIO":
    """Open a regular file, unbuffered; never follows a symbolic link there, never waits on a fifo."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV}:
            raise NotRegularError(error.errno, "not a regular file", os.fspath(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularError(errno.EINVAL, "not a regular file", os.fspath(path))
    return os.fdopen(descriptor, "rb", buffering=0)


def create(path: "PathLike", *, is_executable: bool = False) -> "FileIO":
    """Create a file that is not there yet, to be written unbuffered."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o777 if is_executable else 0o666), "wb", buffering=0)


def copy_range(source: int, offset: int, count: int, target: int) -> int:
    """Append *count* bytes of *source* at *offset* to *target*, inside the kernel where it can; return how many."""
    left = count
    if hasattr(os, "copy_file_range"):
        try:
            while left:
                copied = os.copy_file_range(source, target, left, offset)
                if not copied:
                    break
                offset, left = offset + copied, left - copied
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}:
                raise
    buffer = memoryview(bytearray(max(1, min(left, _CHUNK))))
    while left:
        read = read_at(source, buffer[: min(left, len(buffer))], offset)
        if not read:
            break
        offset, left = offset + read, left - read
        _write_all(target, buffer[:read])
    return count - left


def _write_all(target: int, content: memoryview) -> None:
    while content:
        content = content[os.write(target, content) :]


def read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill *buffer* from *offset* on, as far as there is something; several threads may share the descriptor."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    import threading  # Windows has no positioned read: one thread at a time

    with _SEEKING.setdefault(0, threading.Lock()):
        os.lseek(descriptor, offset, os.SEEK_SET)
        content = os.read(descriptor, len(buffer))
    buffer[: len(content)] = content
    return len(content)


def file_digest(path: "PathLike", progress: "Progress" = None) -> str:
    """Return the sha256 of a regular file, in hex; *progress* is told the bytes as they are read."""
    with open_regular(path) as file:
        return _digest_of(_read_chunks(file), progress)


def _read_chunks(file: "FileIO") -> "Iterator[memoryview]":
    buffer = memoryview(bytearray(_CHUNK))
    while True:
        count = file.readinto(buffer)
        if not count:
            return
        yield buffer[:count]


def _digest_of(chunks: "Iterable[memoryview]", progress: "Progress" = None) -> str:
    digest = _sha256()
    for chunk in chunks:
        digest.update(chunk)
        if progress:
            progress(len(chunk))
    return digest.hexdigest()


def sha256_of(content: bytes) -> str:
    """Return the sha256 of *content*, in hex."""
    return _sha256(content).hexdigest()


def _sha256(content: bytes = b"") -> "hashlib._Hash":
    import hashlib  # reading a manifest on a warm start needs no OpenSSL

    return hashlib.sha256(content)


def _regular_size(path: str) -> "Optional[int]":
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _read_whole(path: str) -> "Optional[bytes]":
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError:
        return None


# --- threads ------------------------------------------------------------------------------------------------


def each(
    function: "Callable[[_Item], _Result]", items: "Iterable[_Item]", size: "Optional[Callable[[_Item], int]]" = None
) -> "list[tuple[_Item, _Result]]":
    """Apply *function* to each item, several at a time: hashing and reading leave the interpreter to others.

    *items* may still be in the making: that happens in this thread, while the others work on those made before. So do
    items of a small *size* (`is_small`).
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(usable_workers()) as pool:
        done, futures = [], []
        try:
            for item in items:
                if size and is_small(size(item)):
                    done.append((item, function(item)))
                else:
                    futures.append((item, pool.submit(function, item)))
            return [*done, *((item, future.result()) for item, future in futures)]
        except BaseException:
            for _, future in futures:
                future.cancel()
            raise


def is_small(size: int) -> bool:
    """Whether threads that take turns at something of *size* bytes stand in each other's way."""
    return size < _SMALL


def usable_workers() -> int:
    """Threads that are worth their while: as many as CPUs that this process may use, but few."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_WORKERS, usable)


def one_at_a_time(progress: "Progress") -> "Progress":
    """Wrap *progress* so that several threads may tell it."""
    if progress is None:
        return None
    import threading

    tell, lock = progress, threading.Lock()

    def advance(count: int) -> None:
        with lock:
            tell(count)

    return advance


if __name__ == "__main__":
    sys.exit(main())
