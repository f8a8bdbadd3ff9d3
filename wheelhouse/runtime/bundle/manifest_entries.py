"""The entries of a manifest as frozen dataclasses, read from and rendered to their JSON objects.

JSON keys are the field names with `-` for `_`; values that are None, false or empty are left out
where the key is optional.
"""

import re
from dataclasses import dataclass

from ..names import CHECKSUMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Optional

    from ..strict_json import JsonTable

TIME_KIND = "a time such as 2026-11-15T21:30:21Z"
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_RELEASE = re.compile(r"3\.[0-9]{1,3}\.[0-9]{1,3}")
_IMPLEMENTATION = re.compile("cpython")
_PYTHON_PATH = re.compile(r"python/[A-Za-z0-9._-]+/[A-Za-z0-9._+-]+\.tar\.gz")


@dataclass(frozen=True)
class Source:
    """Origin of a file: an index, a local path, or a git commit. Never with credentials."""

    index: "Optional[str]" = None
    url: "Optional[str]" = None
    path: "Optional[str]" = None
    git: "Optional[str]" = None
    commit: "Optional[str]" = None
    built_from: "Optional[str]" = None
    """Digest of the source distribution that a wheel was built from on the connected side."""


@dataclass(frozen=True)
class Publisher:
    """The publisher of a wheel, as its verified attestation names it (PEP 740)."""

    kind: str
    """GitHub, GitLab, Google or CircleCI."""
    name: str
    """Repository, account or project."""
    workflow: "Optional[str]" = None
    """File of the workflow in the repository."""

    def __str__(self) -> str:
        """Return it as text: `GitHub example/project (release.yml)`."""
        workflow = f" ({self.workflow})" if self.workflow else ""
        return f"{self.kind} {self.name}{workflow}"


@dataclass(frozen=True)
class BundledFile:
    """One file of the bundle. Only `SHA256SUMS` has neither digest nor size."""

    sha256: "Optional[str]"
    size: "Optional[int]"
    """In bytes."""
    name: "Optional[str]" = None
    """Name of the package, for wheels; the fields below are for wheels too."""
    version: "Optional[str]" = None
    requires_python: "Optional[str]" = None
    upload_time: "Optional[str]" = None
    yanked: "Optional[str]" = None
    """Reason (may be empty) of a yanked file, else None (PEP 592)."""
    source: "Optional[Source]" = None
    publisher: "Optional[Publisher]" = None
    """None without an attestation; else the provenance is the file at PATH.provenance."""
    needed_by: "tuple[str, ...]" = ()
    """`SCRIPT/TARGET` of each lock that needs the file."""
    executable: bool = False
    """True for a program in a cache or an environment; files in `uv/` are programs anyway."""


@dataclass(frozen=True)
class BundledPackage:
    """One package of a lock."""

    version: str
    wheel: str
    """Path in the bundle."""


@dataclass(frozen=True)
class BundledLock:
    """What one script needs on one target."""

    lock: str
    """Path of the PEP 751 lock."""
    requirements: str
    """Path of the same pins with hashes, for pip."""
    libc: "Optional[str]"
    """Lowest libc version that the wheels run on, such as `2.28`; None if they need none."""
    packages: "Mapping[str, BundledPackage]"
    """By normalized name."""
    cache: "Optional[str]" = None
    """Version of uv that the bundle's `cache/` is for, if it contains all packages."""
    environment: "Optional[str]" = None
    """Folder of the environment made at build time: `envs/eval/cp312-.../0123456789abcdef`."""
    image: "Optional[str]" = None
    """Path of that environment as SquashFS: `images/cp312-...-0123456789abcdef.squashfs`."""


@dataclass(frozen=True)
class BundledScript:
    """One script, and its lock for each target."""

    path: str
    block: str
    """Digest of its metadata block."""
    dependencies: "tuple[str, ...]"
    """As written."""
    requires_python: "Optional[str]"
    """As written."""
    settings: str
    """Digest of its `[tool.uv]` table."""
    locks: "Mapping[str, BundledLock]"
    """By target name."""
    origins: "tuple[str, ...]" = ()
    """Digests of the manifests it was merged from and is unchanged since; empty if built here."""
    data: "tuple[str, ...]" = ()
    """Files and folders in `data/` that it needs."""

    def paths(self) -> "Iterator[str]":
        """Yield the paths of the script, its locks, and their requirements files."""
        yield self.path
        for lock in self.locks.values():
            yield from (lock.lock, lock.requirements)


@dataclass(frozen=True)
class BundledTarget:
    """A Python minor version and a platform, as uv names them."""

    python: str
    platform: str


@dataclass(frozen=True)
class BundledUv:
    """The uv for a platform."""

    version: str
    path: str


@dataclass(frozen=True)
class BundledPython:
    """The Python interpreter for a target."""

    version: str
    """Release, such as `3.12.12`."""
    implementation: str
    path: str
    """A python-build-standalone `install_only` archive: `python/RELEASE/NAME.tar.gz`."""


def read_script(table: "JsonTable") -> BundledScript:
    """Read a member of `scripts`."""
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
        data=table.texts("data") if table.has("data") else (),
    )


def _read_lock(table: "JsonTable") -> BundledLock:
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
        image=table.optional_text("image"),
    )


def read_file(path: str, table: "JsonTable") -> BundledFile:
    """Read the member of `files` at *path*."""
    has_digest = path != CHECKSUMS or table.has("sha256")
    has_size = has_digest or table.has("size")
    return BundledFile(
        sha256=table.digest("sha256") if has_digest else None,
        size=table.integer("size", least=0, kind="a size in bytes") if has_size else None,
        name=table.optional_text("name"),
        version=table.optional_text("version"),
        requires_python=table.optional_text("requires-python"),
        upload_time=(
            table.text("upload-time", TIME, TIME_KIND) if table.has("upload-time") else None
        ),
        yanked=table.optional_text("yanked"),
        source=_read_source(table.table("source")) if table.has("source") else None,
        publisher=_read_publisher(table.table("publisher")) if table.has("publisher") else None,
        needed_by=table.texts("needed-by") if table.has("needed-by") else (),
        executable=table.flag("executable"),
    )


def _read_publisher(table: "JsonTable") -> Publisher:
    return Publisher(
        kind=table.text("kind"),
        name=table.text("name"),
        workflow=table.optional_text("workflow"),
    )


def _read_source(table: "JsonTable") -> Source:
    return Source(
        index=table.optional_text("index"),
        url=table.optional_text("url"),
        path=table.optional_text("path"),
        git=table.optional_text("git"),
        commit=table.optional_text("commit"),
        built_from=table.digest("built-from") if table.has("built-from") else None,
    )


def read_python(table: "JsonTable") -> BundledPython:
    """Read a member of `pythons`."""
    return BundledPython(
        version=table.text("version", _RELEASE, "a release such as 3.12.1"),
        implementation=table.text("implementation", _IMPLEMENTATION, "cpython"),
        path=table.text("path", _PYTHON_PATH, "a path such as python/20260211/NAME.tar.gz"),
    )


def script_json(script: BundledScript) -> "dict[str, Any]":
    """Return the JSON object of a script."""
    document: dict[str, Any] = {
        "path": script.path,
        "block": script.block,
        "dependencies": script.dependencies,
        "requires-python": script.requires_python,
        "settings": script.settings,
        "locks": {target: _lock_json(lock) for target, lock in script.locks.items()},
    }
    optional = {"origins": script.origins, "data": script.data}
    return {**document, **{key: value for key, value in optional.items() if value}}


def _lock_json(lock: BundledLock) -> "dict[str, Any]":
    packages = {name: vars(package) for name, package in lock.packages.items()}
    return {**_present(lock), "libc": lock.libc, "packages": packages}


def file_json(file: BundledFile) -> "dict[str, Any]":
    """Return the JSON object of a file."""
    parts = {"source": file.source, "publisher": file.publisher}
    return {**_present(file), **{key: _present(part) for key, part in parts.items() if part}}


def _present(entry: object) -> "dict[str, Any]":
    """Return the fields of *entry* that are not None, False or ()."""
    return {
        name.replace("_", "-"): value
        for name, value in vars(entry).items()
        if value is not None and value is not False and value != ()
    }
