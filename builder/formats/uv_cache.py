"""The format `cache`: a UV_CACHE_DIR from which an unmodified `uv run SCRIPT` takes all packages.

The uv of the nodes fills it, for their platforms, from the wheels of the bundle; `IndexProxy`
answers for the indexes. Its layout is uv's own, with three exceptions, which hold for uv 0.7 to
0.13. Only the folders `simple-*` (pages), `wheels-*` (pointers and metadata) and `archive-*`
(unpacked wheels) count. The links between them are only a short cut. A missing page is requested
again. Each lock is resolved once more from the finished cache, offline, so that another layout
fails here and not on a node.

An update adds archives and pointers, replaces the pages of the packages that it adds, and removes
nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import tomli_w
from packaging.utils import canonicalize_name

from offline_bundle.builder.extras import uv_binaries
from offline_bundle.builder.formats.base import FormatContext, formats_of, with_locks
from offline_bundle.builder.inputs.scripts import Script, parse_script
from offline_bundle.builder.inputs.targets import Target, host_platform
from offline_bundle.builder.inputs.uv_sources import source_entries
from offline_bundle.builder.resolve import free_threaded, uv_process
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledLock, Manifest
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import FetchError, InputError, IntegrityError
from offline_bundle.wheelhouse.runtime.processes import run_captured

if TYPE_CHECKING:
    from offline_bundle.builder.compose import Composition
    from offline_bundle.builder.formats.index_proxy import IndexProxy

FOLDER = "cache"
_PAGES = "simple-"
_ARCHIVES = "archive-"
_INCLUDED = (_ARCHIVES, _PAGES, "wheels-")
_KEPT_VARIABLES = ("PATH", "SYSTEMROOT", "TEMP", "TMPDIR")
_HOME_VARIABLES = ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS")


@dataclass(frozen=True)
class _CachedLock:
    """A lock to serve from the cache."""

    script: Script
    target: Target
    lock: BundledLock = field(hash=False)
    uv_version: str
    """Of the nodes."""

    def unsupported_reason(self) -> str | None:
        """Return why an unmodified `uv run` cannot take the script from a cache, if so."""
        settings = self.script.settings
        has_direct_reference = any(
            "@" in text.partition(";")[0] for text in self.script.dependencies
        )
        sources = source_entries(settings)
        if has_direct_reference or not all("index" in entry for _, entry in sources):
            return (
                "it names a package by its address or folder, and uv reads that again "
                "(the launcher does not)"
            )
        urls = [entry.get("url") for entry in settings.get("index", [])]
        urls += [settings.get("index-url", ""), *settings.get("extra-index-url", [])]
        are_remote = all(re.match(r"https?://|$", str(url)) for url in urls)
        if settings.get("find-links") or not are_remote:
            return (
                "it names a folder or page of files, and uv reads that again "
                "(the launcher does not)"
            )
        return None


class UvCacheFormat:
    """`Format` of a filled uv cache."""

    def is_incomplete(self, manifest: Manifest) -> bool:
        """Return True if a lock has no cache, or one for another uv than its nodes'."""
        return any(_is_missing(manifest, target, lock) for _, target, lock in manifest.locks())

    def add(self, composition: Composition, context: FormatContext) -> Composition:
        """Fill the cache for all locks without one."""
        manifest = composition.manifest
        locks, versions = _locks_to_cache(composition, context)
        if not locks and "cache" not in formats_of(manifest):
            raise InputError(
                "--format cache: uv cannot take any of the scripts from a cache",
                problems=context.notes,
                hint="leave out --format cache: the launcher runs them",
            )
        cache = context.folder / FOLDER
        if locks:
            names = {name for lock in locks for name in lock.lock.packages}
            _copy_existing(manifest, context, cache, renewed=names)
            with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
                _fill(composition, context, cache, locks, Path(folder))
        files = {f"{FOLDER}/{path.relative_to(cache).as_posix()}": path for path in _files(cache)}
        # archives never change
        files = {
            path: file
            for path, file in files.items()
            if path not in manifest.files or not path.startswith(f"{FOLDER}/{_ARCHIVES}")
        }
        return with_locks(
            composition,
            lambda name, target, lock: replace(
                lock, cache=versions.get((name, target), lock.cache)
            ),
            files,
        )


def _locks_to_cache(
    composition: Composition, context: FormatContext
) -> tuple[list[_CachedLock], dict[tuple[str, str], str | None]]:
    """Return the locks to add, and the uv version or None per script and target."""
    manifest = composition.manifest
    locks: list[_CachedLock] = []
    versions: dict[tuple[str, str], str | None] = {}
    for name, key, lock in manifest.locks():
        if not _is_missing(manifest, key, lock):
            continue
        source = context.read(composition, manifest.scripts[name].path)
        script = parse_script(Path(f"{name}.py"), source)
        cached = _CachedLock(script, _target(manifest, key), lock, _uv_version(manifest, key))
        reason = cached.unsupported_reason()
        versions[name, key] = None if reason else cached.uv_version
        if reason:
            context.notes.append(f"{name}.py for {key} is left out of the cache: {reason}")
        else:
            locks.append(cached)
    return locks, versions


def _is_missing(manifest: Manifest, target: str, lock: BundledLock) -> bool:
    return lock.cache is None or lock.cache != _uv_version(manifest, target)


def _target(manifest: Manifest, name: str) -> Target:
    return Target(manifest.targets[name].python, manifest.targets[name].platform)


def _uv_version(manifest: Manifest, target: str) -> str:
    """Return the version of uv that nodes of a target have: the bundle's."""
    uv = manifest.uv.get(uv_binaries.platform_for(_target(manifest, target)))
    if uv is None:
        raise InputError(
            f"--format cache: the bundle has no uv for {target}, and a cache is for one version "
            "of uv only",
            hint="leave out --no-uv; --uv-version V adds another version than the newest",
        )
    return uv.version


def _copy_existing(
    manifest: Manifest, context: FormatContext, cache: Path, *, renewed: set[str]
) -> None:
    """Start with the bundle's cache, without the pages of the *renewed* packages."""
    cache.mkdir()
    for path in manifest.files:
        bucket, _, name = path.removeprefix(f"{FOLDER}/").partition("/")
        is_renewed = bucket.startswith(_PAGES) and Path(name).stem in renewed
        if is_renewed or not path.startswith(f"{FOLDER}/"):
            continue
        copy = cache / bucket / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        source = context.directory / path
        if not (bucket.startswith(_ARCHIVES) and _link(source, copy)):
            shutil.copyfile(source, copy)


def _link(source: Path, destination: Path) -> bool:
    """Return True if a hard link was made: uv only reads the files of an archive."""
    try:
        os.link(source, destination)
    except OSError:
        return False
    return True


def _fill(
    composition: Composition,
    context: FormatContext,
    cache: Path,
    locks: Sequence[_CachedLock],
    scratch: Path,
) -> None:
    """Let uv request all that it will request on a node; then resolve again offline."""
    versions = {lock.uv_version for lock in locks}
    uv_for = {version: _uv_program(composition, context, version, scratch) for version in versions}
    workdirs = {lock: scratch / str(number) for number, lock in enumerate(locks)}
    fill = ["--target", "packages", "--link-mode", "symlink", "--constraint", "pins.txt"]
    with _index_proxy(composition, context) as proxy:
        for lock, workdir in workdirs.items():
            _write_project(lock, workdir)
            command = _install_command(uv_for[lock.uv_version], lock, workdir, fill)
            _run(command, lock, workdir, {**_offline_env(workdir, cache), **proxy.variables})
    check = ["--target", "none", "--dry-run", "--offline"]
    for lock, workdir in workdirs.items():
        command = _install_command(uv_for[lock.uv_version], lock, workdir, check)
        _run(command, lock, workdir, _offline_env(workdir, cache))


def _write_project(lock: _CachedLock, workdir: Path) -> None:
    """Write the script's header as a project, as for resolving (`resolve/uv.py`)."""
    project = {
        "name": "script",
        "version": "0",
        "requires-python": f">={lock.target.full_version(lock.script.requires_python)}",
        "dependencies": list(lock.script.dependencies),
    }
    workdir.mkdir()
    document = {"project": project, "tool": {"uv": lock.script.settings}}
    (workdir / "pyproject.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    packages = sorted(lock.lock.packages.items())
    pins = [f"{name}=={package.version}\n" for name, package in packages]
    (workdir / "pins.txt").write_text("".join(pins), encoding="utf-8")


def _install_command(
    uv: str, lock: _CachedLock, workdir: Path, options: Sequence[str]
) -> list[str]:
    python = sys.executable
    if lock.target.is_free_threaded:
        python = free_threaded.fake_free_threaded_python(workdir.parent / "interpreter")
    version = lock.target.full_version(lock.script.requires_python)
    command = [uv, "pip", "install", "--requirement", "pyproject.toml", "--color", "never"]
    command += ["--only-binary", ":all:", "--python", python]
    command += ["--python-platform", lock.target.platform, "--python-version", version]
    return [*command, *options]


def _offline_env(workdir: Path, cache: Path) -> dict[str, str]:
    """Return an environment without the user's configuration: a node does not have it."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= dict.fromkeys(_HOME_VARIABLES, str(workdir))
    return environment | {
        "UV_CACHE_DIR": str(cache.absolute()),
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def _run(
    command: Sequence[str], lock: _CachedLock, workdir: Path, environment: Mapping[str, str]
) -> None:
    outcome = run_captured(command, workdir, environment)
    if outcome.returncode:
        raise FetchError(
            f"uv {lock.uv_version} cannot take {lock.script.path} for {lock.target.name} "
            "from a cache",
            problems=outcome.stderr.strip().splitlines(),
            hint="leave out --format cache for this bundle; the other formats and the launcher "
            "do not need it",
        )


def _index_proxy(composition: Composition, context: FormatContext) -> IndexProxy:
    """Return a proxy with pages that list what the locks hold, and the wheels."""
    # loads `cryptography`: 60 ms that no other build needs
    from offline_bundle.builder.formats import index_proxy  # noqa: PLC0415

    manifest = composition.manifest
    paths: dict[str, str] = {}
    pages: dict[str, dict[str, Any]] = {}
    indexes: dict[str, set[str]] = {}
    for path, file in manifest.files.items():
        if not path.startswith("wheels/") or not file.needed_by or not file.name:
            continue
        paths |= {name.rpartition("/")[2]: name for name in (path, f"{path}.metadata")}
        if file.source and file.source.index:
            indexes.setdefault(file.source.index.rstrip("/"), set()).add(file.name)
        if file.name not in pages:
            page = context.read(composition, f"simple/{file.name}/index.json")
            pages[file.name] = json.loads(page)
    listings = {name: _with_urls(manifest, page, paths) for name, page in pages.items()}

    def answer_page(url: str) -> bytes | None:
        """An index of some packages has those and no others; any other index has all."""
        index, _, name = url.rstrip("/").rpartition("/")
        name = canonicalize_name(unquote(name))
        return listings.get(name) if name in indexes.get(index, listings.keys()) else None

    def answer_file(name: str) -> bytes | Path | None:
        return context.find(composition, paths[name]) if name in paths else None

    return index_proxy.IndexProxy(index_proxy.Answers(answer_page, answer_file))


def _with_urls(manifest: Manifest, page: dict[str, Any], paths: Mapping[str, str]) -> bytes:
    """Return a page of the files in *paths*, with the URLs of their index if they have one."""
    files = []
    for entry in page["files"]:
        filename = entry["filename"]
        if filename not in paths:
            continue
        source = manifest.files[paths[filename]].source
        url = (source.url if source and not source.built_from else None) or ""
        url_filename = unquote(urlsplit(url).path).rpartition("/")[2]
        has_url = url.startswith("http") and url_filename == filename
        files.append({**entry, "url": url} if has_url else entry)
    return json.dumps({**page, "files": files}).encode()


def _uv_program(
    composition: Composition, context: FormatContext, version: str, scratch: Path
) -> str:
    """Return uv of that version for this machine: installed, bundled, or else from an index."""
    if version == context.uv_version:
        return context.uv
    folder = scratch / f"uv-{version}"
    platform = uv_binaries.platform_for(Target("3.12", host_platform()))
    bundled = composition.manifest.uv.get(platform)
    if bundled is not None and bundled.version == version:
        content = context.read(composition, bundled.path)
        if sha256_of(content) != composition.manifest.files[bundled.path].sha256:
            raise IntegrityError(
                f"{bundled.path} in the bundle does not match bundle.json",
                hint="it is not started; build with --locked to restore it, or into a new folder",
            )
        folder.mkdir()
        program = folder / "uv"
        program.write_bytes(content)
        program.chmod(0o700)
        return str(program)
    return _install_uv(context, version, folder, scratch)


def _install_uv(context: FormatContext, version: str, folder: Path, scratch: Path) -> str:
    options = replace(context.options, exclude_newer=None)
    command = [context.uv, "pip", "install", "--target", str(folder), "--no-deps"]
    command += ["--only-binary", ":all:", "--python", sys.executable, f"uv=={version}"]
    outcome = uv_process.run_uv(
        [*command, *uv_process.index_flags(options)],
        scratch,
        **uv_process.index_variables(options),
    )
    if outcome.returncode:
        raise FetchError(
            f"there is no uv {version} for this machine",
            problems=outcome.stderr.strip().splitlines(),
            hint="choose another with --uv-version",
        )
    return str(folder / "bin" / "uv")


def _files(cache: Path) -> Iterator[Path]:
    """Yield the files to include: no links, no locks, nothing of uv's about this machine."""
    for root, folders, names in os.walk(cache):
        folder = Path(root)
        if folder == cache:
            folders[:] = [name for name in folders if name.startswith(_INCLUDED)]
            continue
        folders[:] = [
            name
            for name in folders
            if not (folder / name).is_symlink() and not name.startswith(".tmp")
        ]
        is_archive = folder.relative_to(cache).parts[0].startswith(_ARCHIVES)
        for name in names:
            path = folder / name
            if not path.is_symlink() and (is_archive or not name.endswith(".lock")):
                yield path
