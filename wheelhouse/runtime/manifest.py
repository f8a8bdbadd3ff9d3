"""The manifest, `bundle.json`: the one list of what a bundle holds, as frozen dataclasses.

A manifest that comes off a medium is hostile until proven otherwise: `Manifest.from_json` checks every type,
digest, path and reference, and reports all that is wrong at once. The paths of what it returns can be joined
to the bundle's folder without a second thought.

    manifest = read_manifest(Path("bundle"))
    manifest.scripts["eval"].locks["cp312-x86_64-manylinux_2_28"].packages["numpy"].wheel
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field

from .archive.file_table import (
    render_checksums as _render_checksums,
)
from .errors import InputError, IntegrityError
from .files import NotRegularError, is_digest, open_regular, sha256_of

# What the far side needs with nothing of ours but `unpack.py` lives there.
from .names import (
    CHECKSUMS,
    FORMAT,
    MANIFEST,
    MOST_ANCESTORS,
    SIGNATURE,
    WRITER,
)
from .paths import path_problems, unsafe_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any, NoReturn

    _Json = dict[str, Any]

__all__ = [
    "CHECKSUMS",
    "ENVIRONMENT_MARK",
    "FORMAT",
    "MANIFEST",
    "MOST_ANCESTORS",
    "SIGNATURE",
    "WRITER",
    "BundledFile",
    "BundledLock",
    "BundledPackage",
    "BundledPython",
    "BundledScript",
    "BundledTarget",
    "BundledUv",
    "Manifest",
    "NotRegularError",
    "Source",
    "open_regular",
    "read_manifest",
    "read_manifest_bytes",
    "render_checksums",
    "unsafe_path",
]

ENVIRONMENT_MARK = "pyvenv.cfg"
"""The file that every environment of a bundle has at its top."""

_MOST_PROBLEMS = 20
_LARGEST_SIZE = 2**63 - 1
_LONGEST_SHOWN = 120
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_RELEASE = re.compile(r"3\.[0-9]{1,3}\.[0-9]{1,3}")
_IMPLEMENTATION = re.compile("cpython")
_PYTHON_PATH = re.compile(r"python/[A-Za-z0-9._-]+/[A-Za-z0-9._+-]+\.tar\.gz")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,120}")

_NO_FILES = '\n "files": {}'


@dataclass(frozen=True)
class Source:
    """Where a file came from: an index, a local path, or a git commit. Never with credentials."""

    index: "str | None" = None
    url: "str | None" = None
    path: "str | None" = None
    git: "str | None" = None
    commit: "str | None" = None
    built_from: "str | None" = None
    """Digest of the source that a wheel was built from on the connected side."""


@dataclass(frozen=True)
class BundledFile:
    """One file of the bundle. Only `SHA256SUMS` has neither digest nor size."""

    sha256: "str | None"
    size: "int | None"
    name: "str | None" = None
    """Name of the package, for wheels; so with its version, and what the index said of the file."""
    version: "str | None" = None
    requires_python: "str | None" = None
    upload_time: "str | None" = None
    yanked: "str | None" = None
    """Why it was yanked (maybe an empty text), or None for a file in good standing."""
    source: "Source | None" = None
    needed_by: tuple[str, ...] = ()
    """`SCRIPT/TARGET` of each lock that needs the file."""
    executable: bool = False
    """Whether it is a program inside a cache or an environment; what lies in `uv/` is one without saying so."""


@dataclass(frozen=True)
class BundledPackage:
    """One package of a lock."""

    version: str
    wheel: str
    """Its path in the bundle."""


@dataclass(frozen=True)
class BundledLock:
    """What one script needs on one target."""

    lock: str
    """Path of the PEP 751 lock."""
    requirements: str
    """Path of the same, hash-pinned, for plain pip."""
    libc: "str | None"
    """The lowest libc the wheels run on, such as `2.28`; None when they need none."""
    packages: "Mapping[str, BundledPackage]"
    """By normalised name."""
    cache: "str | None" = None
    """The version of uv that finds all of it in the bundle's `cache/`; None where none does."""
    environment: "str | None" = None
    """Folder of the environment that was made of it in advance, such as `envs/eval/cp312-…/0123456789abcdef`."""


@dataclass(frozen=True)
class BundledScript:
    """One script, and its lock for each target."""

    path: str
    block: str
    """Digest of its metadata block."""
    dependencies: tuple[str, ...]
    """As written."""
    requires_python: "str | None"
    """As written."""
    settings: str
    """Digest of its `[tool.uv]` table."""
    locks: "Mapping[str, BundledLock]"
    """By target name."""
    origins: tuple[str, ...] = ()
    """Digests of the manifests that it was merged in from, unchanged since; none where it was built in this bundle."""


@dataclass(frozen=True)
class BundledTarget:
    """A Python minor version and a platform, in uv's words."""

    python: str
    platform: str


@dataclass(frozen=True)
class BundledUv:
    """The uv that the bundle brings for a platform."""

    version: str
    path: str


@dataclass(frozen=True)
class BundledPython:
    """The interpreter that the bundle brings for a target."""

    version: str
    """Of its release, such as `3.12.12`."""
    implementation: str
    path: str
    """Of the archive, a python-build-standalone `install_only` tar.gz: `python/RELEASE/NAME.tar.gz`."""


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle holds. A file is in the bundle if and only if `files` names it."""

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
    """1 for a bundle's first manifest; each commit that changes something adds 1."""
    ancestors: tuple[str, ...] = ()
    """Digests of the manifests it descends from, newest first, at most MOST_ANCESTORS."""

    @classmethod
    def from_json(cls, content: "bytes | str") -> "Manifest":
        """Read and check a manifest; raises one IntegrityError that names all that is wrong.

        Keys it does not know are ignored: a later offline-bundle may add some within format 1.
        """
        document = _parse(content)
        _check_format(document)
        problems = _Problems()
        manifest = _read_manifest(_Table(document, (), problems))
        _check_paths(manifest, problems)
        _check_references(manifest, problems)
        problems.raise_if_any()
        return manifest

    def to_json(self) -> bytes:
        """Render canonically, in sorted ASCII, one file to a line: the same manifest gives the same bytes."""
        document: "_Json" = {
            "format": FORMAT,
            "created-by": self.created_by,
            "timestamp": self.timestamp,
            "scripts": {name: _script_json(script) for name, script in self.scripts.items()},
            "targets": {
                key: {"python": t.python, "platform": t.platform} for key, t in self.targets.items()
            },
            "uv": {
                platform: {"version": u.version, "path": u.path} for platform, u in self.uv.items()
            },
            "files": {},
        }
        if self.pythons:
            document["pythons"] = {name: vars(python) for name, python in self.pythons.items()}
        if self.generation > 1:
            document["generation"] = self.generation
        if self.ancestors:
            document["ancestors"] = list(self.ancestors)
        text = json.dumps(document, indent=1, sort_keys=True)
        # The only line with one space before its key that is like this; no text holds a line break.
        return f"{text.replace(_NO_FILES, _files_lines(self.files), 1)}\n".encode("ascii")


def read_manifest(directory: "Path") -> "Manifest":
    """Read the manifest of the bundle at *directory*.

    Raises InputError when there is none, IntegrityError when it is broken.
    """
    return Manifest.from_json(read_manifest_bytes(directory))


def read_manifest_bytes(directory: "Path") -> bytes:
    """Return `bundle.json` as it lies there, unchecked: what is signed, and what `SHA256SUMS` covers."""
    path = directory / MANIFEST
    try:
        with open_regular(path) as file:
            return file.read()
    except NotRegularError as error:
        raise IntegrityError(
            f"{path} is not a regular file", hint="carry the bundle over again"
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        message = (
            f"{directory} holds no {MANIFEST}"
            if directory.is_dir()
            else f"there is no folder {directory}"
        )
        hint = "name the folder that build-offline-bundle wrote (-o), or the one that unpack made"
        raise InputError(message, hint=hint) from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", hint="check its permissions"
        ) from error


def render_checksums(manifest: Manifest, manifest_bytes: bytes) -> bytes:
    """Render `SHA256SUMS` for `sha256sum -c`: every file of the bundle but itself, and `bundle.json`."""
    digests = {
        path: file.sha256 for path, file in manifest.files.items() if file.sha256 is not None
    }
    return _render_checksums(digests, sha256_of(manifest_bytes))


class _Problems:
    """What is wrong so far: the first few in words, the rest counted."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._more = 0

    def add(self, where: tuple[str, ...], what: str) -> None:
        """Note *what* is wrong at *where*: the keys that lead there, shown as in TOML."""
        if len(self._found) < _MOST_PROBLEMS:
            keys = ".".join(key if _BARE_KEY.fullmatch(key) else _shown(key) for key in where)
            self._found.append(f"{keys}: {what}")
        else:
            self._more += 1

    def raise_if_any(self) -> None:
        if self._found:
            more = [f"and {self._more} more"] if self._more else []
            _refuse("does not describe a bundle", [*self._found, *more])


class _Table:
    """A JSON object under inspection: each reader returns the value, or reports it and returns a stand-in."""

    def __init__(self, value: object, where: tuple[str, ...], problems: _Problems) -> None:
        self.where = where
        self._problems = problems
        self._values: "_Json" = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            problems.add(where, f"must be an object, not {_shown(value)}")

    def text(self, key: str, pattern: re.Pattern[str] | None = None, kind: str = "text") -> str:
        value = self._values.get(key)
        if isinstance(value, str) and (pattern is None or pattern.fullmatch(value)):
            return value
        self._report(key, kind)
        return ""

    def optional_text(self, key: str) -> str | None:
        value = self._values.get(key)
        return value if value is None or isinstance(value, str) else self.text(key)

    def digest(self, key: str) -> str:
        value = self._values.get(key)
        if is_digest(value):
            return str(value)
        self._report(key, "a sha256 of 64 lower-case hex digits")
        return ""

    def time(self, key: str) -> str:
        return self.text(key, _TIME, "a time such as 2026-11-15T21:30:21Z")

    def size(self, key: str) -> int:
        value = self._values.get(key)
        if type(value) is int and 0 <= value <= _LARGEST_SIZE:  # True is an int, but no size
            return value
        self._report(key, "a size in bytes")
        return 0

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self._report(key, "a list of texts")
        return ()

    def digests(self, key: str) -> tuple[str, ...]:
        found = self.texts(key)
        if all(map(is_digest, found)):
            return found
        self._report(key, "a list of sha256 digests")
        return ()

    def number(self, key: str) -> int:
        value = self._values.get(key)
        if type(value) is int and 1 <= value <= _LARGEST_SIZE:
            return value
        self._report(key, "a number from 1 on")
        return 1

    def flag(self, key: str) -> bool:
        value = self._values.get(key)
        if not isinstance(value, bool | None):
            self._report(key, "true or false")
        return value is True

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def table(self, key: str) -> "_Table":
        return _Table(self._values.get(key), (*self.where, key), self._problems)

    def tables(self, *, named: bool) -> "Iterator[tuple[str, _Table]]":
        """Each member that is itself an object; when *named* its key must do as one component of a path."""
        for key, value in self._values.items():
            where = (*self.where, key)
            if named and ("/" in key or unsafe_path(key)):
                self._problems.add(where, "this is no usable name")
            table = _Table(value, where, self._problems)
            if isinstance(value, dict):
                yield key, table

    def _report(self, key: str, kind: str) -> None:
        fault = f"not {_shown(self._values[key])}" if key in self._values else "but is missing"
        self._problems.add((*self.where, key), f"must be {kind}, {fault}")


def _parse(content: "bytes | str") -> "_Json":
    try:
        text = content.decode() if isinstance(content, bytes) else content
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        _refuse("is nested too deeply")
    except ValueError as error:  # JSON, UTF-8, integers of thousands of digits
        _refuse(f"is not valid JSON: {error}")
    if not isinstance(document, dict):
        _refuse(f"must be a JSON object, not {_shown(document)}")
    return document


def _object(pairs: "list[tuple[str, Any]]") -> "_Json":
    """Readers differ on which of two equal keys counts, so two are refused."""
    document = dict(pairs)
    if len(document) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {_shown(twice)} occurs twice in one object")
    return document


def _refuse_constant(name: str) -> "NoReturn":
    raise ValueError(f"{name} is no JSON")


def _refuse(what: str, problems: "list[str] | None" = None) -> "NoReturn":
    hint = "carry the bundle over again, or build it anew"
    raise IntegrityError(f"{MANIFEST} {what}", hint=hint, problems=problems or ())


def _check_format(document: "_Json") -> None:
    found = document.get("format")
    if type(found) is int and found == FORMAT:
        return
    if type(found) is int and found > FORMAT:
        message = (
            f"{MANIFEST} has format {_shown(found)}; this offline-bundle reads format {FORMAT}"
        )
        raise IntegrityError(message, hint="use the offline-bundle that built it, or a newer one")
    _refuse(f"has no known format: {_shown(found)}")


def _read_manifest(table: _Table) -> "Manifest":
    return Manifest(
        created_by=table.text("created-by"),
        timestamp=table.time("timestamp"),
        scripts={
            name: _read_script(script) for name, script in table.table("scripts").tables(named=True)
        },
        targets={
            name: BundledTarget(python=target.text("python"), platform=target.text("platform"))
            for name, target in table.table("targets").tables(named=True)
        },
        uv={
            platform: BundledUv(version=uv.text("version"), path=uv.text("path"))
            for platform, uv in table.table("uv").tables(named=True)
        },
        files={
            path: _read_file(path, file) for path, file in table.table("files").tables(named=False)
        },
        pythons=_read_pythons(table.table("pythons")) if table.has("pythons") else {},
        generation=table.number("generation") if table.has("generation") else 1,
        ancestors=table.digests("ancestors") if table.has("ancestors") else (),
    )


def _read_pythons(table: _Table) -> dict[str, BundledPython]:
    return {
        target: BundledPython(
            version=python.text("version", _RELEASE, "a release such as 3.12.1"),
            implementation=python.text("implementation", _IMPLEMENTATION, "cpython"),
            path=python.text("path", _PYTHON_PATH, "a path such as python/20260211/NAME.tar.gz"),
        )
        for target, python in table.tables(named=True)
    }


def _read_script(table: _Table) -> BundledScript:
    return BundledScript(
        path=table.text("path"),
        block=table.digest("block"),
        dependencies=table.texts("dependencies"),
        requires_python=table.optional_text("requires-python"),
        settings=table.digest("settings"),
        locks={
            target: _read_lock(lock) for target, lock in table.table("locks").tables(named=True)
        },
        origins=table.digests("origins") if table.has("origins") else (),
    )


def _read_lock(table: _Table) -> BundledLock:
    return BundledLock(
        lock=table.text("lock"),
        requirements=table.text("requirements"),
        libc=table.optional_text("libc"),
        packages={
            name: BundledPackage(version=package.text("version"), wheel=package.text("wheel"))
            for name, package in table.table("packages").tables(named=True)
        },
        cache=table.optional_text("cache"),
        environment=table.optional_text("environment"),
    )


def _read_file(path: str, table: _Table) -> BundledFile:
    has_digest = path != CHECKSUMS or table.has("sha256")
    return BundledFile(
        sha256=table.digest("sha256") if has_digest else None,
        size=table.size("size") if has_digest or table.has("size") else None,
        name=table.optional_text("name"),
        version=table.optional_text("version"),
        requires_python=table.optional_text("requires-python"),
        upload_time=table.time("upload-time") if table.has("upload-time") else None,
        yanked=table.optional_text("yanked"),
        source=_read_source(table.table("source")) if table.has("source") else None,
        needed_by=table.texts("needed-by") if table.has("needed-by") else (),
        executable=table.flag("executable"),
    )


def _read_source(table: _Table) -> Source:
    return Source(
        index=table.optional_text("index"),
        url=table.optional_text("url"),
        path=table.optional_text("path"),
        git=table.optional_text("git"),
        commit=table.optional_text("commit"),
        built_from=table.digest("built-from") if table.has("built-from") else None,
    )


def _check_paths(manifest: Manifest, problems: _Problems) -> None:
    """Each path is safe, and no two would meet on a file system that ignores case or normalises Unicode."""
    for path, reason in path_problems(manifest.files):
        problems.add(("files", path), reason)
    checksums = manifest.files.get(CHECKSUMS)
    if checksums and (checksums.sha256, checksums.size) != (None, None):
        problems.add(
            ("files", CHECKSUMS), "is rendered from this table, so it has no digest or size"
        )


def _check_references(manifest: Manifest, problems: _Problems) -> None:
    """Whatever the manifest speaks of, it holds."""
    for platform, uv in manifest.uv.items():
        _check_held(manifest, uv.path, ("uv", platform, "path"), problems)
    for target, python in manifest.pythons.items():
        if target not in manifest.targets:
            problems.add(("pythons", target), "is not in targets")
        elif (
            python.version
            and manifest.targets[target].python.rstrip("t") != python.version.rpartition(".")[0]
        ):
            problems.add(
                ("pythons", target, "version"),
                f"is not of Python {_shown(manifest.targets[target].python)}",
            )
        _check_held(manifest, python.path, ("pythons", target, "path"), problems)
    for name, script in manifest.scripts.items():
        where = ("scripts", name)
        _check_held(manifest, script.path, (*where, "path"), problems)
        for target, lock in script.locks.items():
            if target not in manifest.targets:
                problems.add((*where, "locks", target), "is not in targets")
            _check_lock(manifest, lock, (*where, "locks", target), problems)


def _check_lock(
    manifest: Manifest, lock: BundledLock, where: tuple[str, ...], problems: _Problems
) -> None:
    _check_held(manifest, lock.lock, (*where, "lock"), problems)
    _check_held(manifest, lock.requirements, (*where, "requirements"), problems)
    if lock.environment is not None:
        _check_held(
            manifest, f"{lock.environment}/{ENVIRONMENT_MARK}", (*where, "environment"), problems
        )
    for package, chosen in lock.packages.items():
        if chosen.wheel not in manifest.files:
            _check_held(manifest, chosen.wheel, (*where, "packages", package, "wheel"), problems)


def _check_held(manifest: Manifest, path: str, where: tuple[str, ...], problems: _Problems) -> None:
    if path not in manifest.files:
        problems.add(where, f"{_shown(path)} is not in files")


def _shown(value: object) -> str:
    """Show a value from outside: no control character, no page of text."""
    if isinstance(value, str):
        return ascii(value) if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]!a}..."
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > _LARGEST_SIZE:
        return "a huge number"
    return json.dumps(value)


def _files_lines(files: "Mapping[str, BundledFile]") -> str:
    """A manifest travels with every difference, however small, so that its longest table takes no line for a field."""
    lines = [
        f"\n  {json.dumps(path)}: {json.dumps(_file_json(file), separators=(',', ':'), sort_keys=True)}"
        for path, file in sorted(files.items())
    ]
    return f'\n "files": {{{",".join(lines)}\n }}'


def _script_json(script: BundledScript) -> "_Json":
    document: "_Json" = {
        "path": script.path,
        "block": script.block,
        "dependencies": list(script.dependencies),
        "requires-python": script.requires_python,
        "settings": script.settings,
        "locks": {target: _lock_json(lock) for target, lock in script.locks.items()},
    }
    return {**document, "origins": list(script.origins)} if script.origins else document


def _lock_json(lock: BundledLock) -> "_Json":
    document: "_Json" = {
        "lock": lock.lock,
        "requirements": lock.requirements,
        "libc": lock.libc,
        "packages": {
            name: {"version": p.version, "wheel": p.wheel} for name, p in lock.packages.items()
        },
    }
    forms = {"cache": lock.cache, "environment": lock.environment}
    return {**document, **_present(forms)}


def _file_json(file: BundledFile) -> "_Json":
    return _present(
        {
            "sha256": file.sha256,
            "size": file.size,
            "name": file.name,
            "version": file.version,
            "requires-python": file.requires_python,
            "upload-time": file.upload_time,
            "yanked": file.yanked,
            "source": None if file.source is None else _source_json(file.source),
            "needed-by": list(file.needed_by) or None,
            "executable": file.executable or None,
        }
    )


def _source_json(source: Source) -> "_Json":
    return _present(
        {
            "index": source.index,
            "url": source.url,
            "path": source.path,
            "git": source.git,
            "commit": source.commit,
            "built-from": source.built_from,
        }
    )


def _present(document: "_Json") -> "_Json":
    return {key: value for key, value in document.items() if value is not None}
