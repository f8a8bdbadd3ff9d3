"""The form `cache`: a UV_CACHE_DIR that lets an unmodified `uv run SCRIPT` find everything without a network.

It is filled by the uv that the nodes have, for their platforms, from the wheels of the bundle: `IndexProxy` plays the
indexes. What lies in it is uv's own business, with three exceptions, which hold for uv 0.7 to 0.13: the folders
`simple-*` (pages), `wheels-*` (pointers and metadata) and `archive-*` (unpacked wheels) are all that counts; the links
from one to the other are only a short cut; and where a page is missing it is asked for anew. Each lock is resolved once
more from the finished cache, offline, so that another layout would be noticed here and not on a node.

An update adds archives and pointers, replaces the pages of the packages that it brings, and removes nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import tomli_w
from packaging.utils import canonicalize_name

from offline_bundle.builder.extras import uv_binaries
from offline_bundle.builder.formats.base import formats_of, locks_of, with_locks
from offline_bundle.builder.formats.index_proxy import Answers, IndexProxy
from offline_bundle.builder.inputs.scripts import Script, parse_script
from offline_bundle.builder.inputs.targets import Target, host_platform
from offline_bundle.builder.resolve import free_threaded, uv_process
from offline_bundle.wheelhouse.runtime.errors import FetchError, InputError, IntegrityError
from offline_bundle.wheelhouse.runtime.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from offline_bundle.builder.compose import Composition
    from offline_bundle.builder.formats.base import FormatContext
    from offline_bundle.wheelhouse.runtime.manifest import BundledLock, Manifest

FOLDER = "cache"
_PAGES = "simple-"
_ARCHIVES = "archive-"
_CARRIED = (_ARCHIVES, _PAGES, "wheels-")


class UvCacheFormat:
    """See above, and `offline_bundle.builder.formats.base.Format`."""

    def lacks(self, manifest: Manifest) -> bool:
        """Whether a lock has no cache, or one for another uv than its nodes'."""
        return any(_is_lacking(manifest, target, lock) for _, target, lock in locks_of(manifest))

    def add(self, composition: Composition, workshop: FormatContext) -> Composition:
        """Fill the cache for all locks that lack it."""
        manifest = composition.manifest
        served: dict[tuple[str, str], str | None] = {}
        wanted: list[_Wanted] = []
        for name, target, lock in locks_of(manifest):
            if _is_lacking(manifest, target, lock):
                script = parse_script(
                    Path(f"{name}.py"), workshop.read(composition, manifest.scripts[name].path)
                )
                found = _Wanted(script, _target(manifest, target), lock, _version(manifest, target))
                fault = found.fault()
                served[name, target] = None if fault else found.version
                if fault:
                    workshop.notes.append(
                        f"{name}.py for {target} is left out of the cache: {fault}"
                    )
                else:
                    wanted.append(found)
        if not wanted and "cache" not in formats_of(manifest):
            raise InputError(
                "--format cache: uv would take none of the scripts from a cache",
                problems=workshop.notes,
                hint="leave out --format cache: the launcher runs them",
            )
        cache = workshop.place / FOLDER
        if wanted:
            _seed(manifest, workshop, cache, {name for one in wanted for name in one.lock.packages})
            with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
                _fill(composition, workshop, cache, wanted, Path(folder))
        files = {f"{FOLDER}/{path.relative_to(cache).as_posix()}": path for path in _files(cache)}
        known = {path for path in manifest.files if path.startswith(f"{FOLDER}/{_ARCHIVES}")}
        files = {path: place for path, place in files.items() if path not in known}
        return with_locks(
            composition,
            lambda name, target, lock: replace(lock, cache=served.get((name, target), lock.cache)),
            files,
        )


@dataclass(frozen=True)
class _Wanted:
    """A lock that the cache is to serve."""

    script: Script
    target: Target
    lock: BundledLock = field(hash=False)
    version: str
    """Of the nodes' uv."""

    def fault(self) -> str | None:
        """Why an unmodified `uv run` cannot take the script from a cache, if it cannot."""
        settings = self.script.settings
        sources = settings.get("sources", {})
        entries = [
            entry
            for source in sources.values()
            for entry in (source if isinstance(source, list) else [source])
        ]
        indexes = [entry.get("url") for entry in settings.get("index", [])]
        indexes += [settings.get("index-url", ""), *settings.get("extra-index-url", [])]
        if any("@" in text.partition(";")[0] for text in self.script.dependencies) or not all(
            isinstance(entry, dict) and "index" in entry for entry in entries
        ):
            return "it names a package by its address or folder, which uv looks for there (the launcher does not)"
        if settings.get("find-links") or not all(
            re.match(r"https?://|$", str(url)) for url in indexes
        ):
            return "it names a folder or page of files, which uv reads anew each time (the launcher does not)"
        return None


def _is_lacking(manifest: Manifest, target: str, lock: BundledLock) -> bool:
    return lock.cache is None or lock.cache != _version(manifest, target)


def _target(manifest: Manifest, name: str) -> Target:
    return Target(manifest.targets[name].python, manifest.targets[name].platform)


def _version(manifest: Manifest, target: str) -> str:
    """The version of uv that nodes of a target have: the bundle's."""
    found = manifest.uv.get(uv_binaries.platform_for(_target(manifest, target)))
    if found is None:
        raise InputError(
            f"--format cache: the bundle has no uv for {target}, and a cache is good for one version of uv only",
            hint="leave --no-uv away; another version than the newest goes in with --uv-version V",
        )
    return found.version


def _seed(manifest: Manifest, workshop: FormatContext, cache: Path, renewed: set[str]) -> None:
    """Begin with the bundle's cache, but for the pages that must be *renewed*."""
    cache.mkdir()
    for path in manifest.files:
        bucket, _, rest = path.removeprefix(f"{FOLDER}/").partition("/")
        if not path.startswith(f"{FOLDER}/") or (
            bucket.startswith(_PAGES) and Path(rest).stem in renewed
        ):
            continue
        place = cache / bucket / rest
        place.parent.mkdir(parents=True, exist_ok=True)
        source = workshop.directory / path
        if not (bucket.startswith(_ARCHIVES) and _linked(source, place)):
            shutil.copyfile(source, place)


def _linked(source: Path, place: Path) -> bool:
    """Whether a hard link was made: uv only reads what is in an archive."""
    try:
        os.link(source, place)
    except OSError:
        return False
    return True


def _fill(
    composition: Composition,
    workshop: FormatContext,
    cache: Path,
    wanted: Sequence[_Wanted],
    scratch: Path,
) -> None:
    """Have uv ask the proxy for all that it will ask for on a node; then have it resolve once more without."""
    uvs = {
        version: _executable(composition, workshop, version, scratch)
        for version in {one.version for one in wanted}
    }
    places = {one: scratch / f"{number}" for number, one in enumerate(wanted)}
    with IndexProxy(_answers(composition, workshop)) as proxy:
        for one, place in places.items():
            _write_project(place, one)
            options = ["--target", "packages", "--link-mode", "symlink", "--constraint", "pins.txt"]
            variables = {**_variables(place, cache), **proxy.variables}
            _run(_install(uvs[one.version], one, place, options), one, place, variables)
    for one, place in places.items():
        _run(
            _install(uvs[one.version], one, place, ["--target", "none", "--dry-run", "--offline"]),
            one,
            place,
            _variables(place, cache),
        )


def _write_project(place: Path, one: _Wanted) -> None:
    """The script's header as a project, as for resolving (`builder/resolve.py`)."""
    project = {
        "name": "script",
        "version": "0",
        "requires-python": f">={one.target.full_version(one.script.requires_python)}",
        "dependencies": list(one.script.dependencies),
    }
    place.mkdir()
    document = {"project": project, "tool": {"uv": one.script.settings}}
    (place / "pyproject.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    pins = [f"{name}=={package.version}\n" for name, package in sorted(one.lock.packages.items())]
    (place / "pins.txt").write_text("".join(pins), encoding="utf-8")


def _install(uv: str, one: _Wanted, place: Path, options: Sequence[str]) -> list[str]:
    python = (
        free_threaded.fake_free_threaded_python(place.parent / "interpreter")
        if one.target.is_free_threaded
        else sys.executable
    )
    command = [
        uv,
        "pip",
        "install",
        "--requirement",
        "pyproject.toml",
        "--only-binary",
        ":all:",
        "--color",
        "never",
    ]
    command += ["--python", python, "--python-platform", one.target.platform]
    return [
        *command,
        "--python-version",
        one.target.full_version(one.script.requires_python),
        *options,
    ]


def _variables(place: Path, cache: Path) -> dict[str, str]:
    """An environment without the user's configuration: a node does not have it."""
    environment = {
        name: os.environ[name]
        for name in ("PATH", "SYSTEMROOT", "TEMP", "TMPDIR")
        if name in os.environ
    }
    environment |= {
        name: str(place) for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS")
    }
    return environment | {
        "UV_CACHE_DIR": str(cache.absolute()),
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def _run(command: Sequence[str], one: _Wanted, place: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FetchError(
            f"uv {one.version} cannot take {one.script.path} for {one.target.name} from a cache",
            problems=done.stderr.strip().splitlines(),
            hint="leave --format cache away for this bundle; the other forms and the launcher do without",
        )


def _answers(composition: Composition, workshop: FormatContext) -> Answers:
    """Pages that list what the locks hold, and the wheels."""
    manifest = composition.manifest
    paths: dict[str, str] = {}
    pages: dict[str, dict[str, Any]] = {}
    origins: dict[str, set[str]] = {}
    for path, file in manifest.files.items():
        if not path.startswith("wheels/") or not file.needed_by or not file.name:
            continue
        paths |= {name.rpartition("/")[2]: name for name in (path, f"{path}.metadata")}
        if file.source and file.source.index:
            origins.setdefault(file.source.index.rstrip("/"), set()).add(file.name)
        if file.name not in pages:
            pages[file.name] = json.loads(
                workshop.read(composition, f"simple/{file.name}/index.json")
            )
    listings = {name: _addressed(manifest, page, paths) for name, page in pages.items()}

    def answer_page(url: str) -> bytes | None:
        """An index that some packages came from has those and no others; any other one has everything."""
        index, _, name = url.rstrip("/").rpartition("/")
        name = canonicalize_name(unquote(name))
        return listings.get(name) if name in origins.get(index, listings.keys()) else None

    def answer_file(name: str) -> bytes | Path | None:
        return workshop.find(composition, paths[name]) if name in paths else None

    return Answers(answer_page, answer_file)


def _addressed(manifest: Manifest, page: dict[str, Any], paths: Mapping[str, str]) -> bytes:
    """A page of what *paths* has, under the addresses of its index; a wheel that was built here has none."""
    files = []
    for entry in page["files"]:
        path = paths.get(entry["filename"])
        source = manifest.files[path].source if path else None
        url = (source.url if source and not source.built_from else None) or ""
        is_its_own = (
            url.startswith("http")
            and unquote(urlsplit(url).path).rpartition("/")[2] == entry["filename"]
        )
        files += [{**entry, "url": url} if is_its_own else entry] if path else []
    return json.dumps({**page, "files": files}).encode()


def _executable(composition: Composition, workshop: FormatContext, version: str, scratch: Path) -> str:
    """Uv of that version for this machine: ours, or the bundle's, or else from an index."""
    if version == workshop.uv_version:
        return workshop.uv
    place = scratch / f"uv-{version}"
    held = composition.manifest.uv.get(uv_binaries.platform_for(Target("3.12", host_platform())))
    if held is not None and held.version == version:
        place.mkdir()
        program = place / "uv"
        content = workshop.read(composition, held.path)
        if sha256_of(content) != composition.manifest.files[held.path].sha256:
            hint = "it is not started; build with --locked to bring it back, or into a new folder"
            raise IntegrityError(
                f"{held.path} in the bundle is not what bundle.json says", hint=hint
            )
        program.write_bytes(content)
        program.chmod(0o700)
        return str(program)
    command = [
        workshop.uv,
        "pip",
        "install",
        "--target",
        str(place),
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    command += [
        "--python",
        sys.executable,
        f"uv=={version}",
        *uv_process.index_flags(replace(workshop.options, exclude_newer=None)),
    ]
    done = uv_process.run_uv(command, scratch, **uv_process.index_variables(workshop.options))
    if done.returncode:
        raise FetchError(
            f"there is no uv {version} for this machine",
            problems=done.stderr.strip().splitlines(),
            hint="choose another with --uv-version",
        )
    return str(place / "bin" / "uv")


def _files(cache: Path) -> Iterator[Path]:
    """What is carried: no link, no lock file, nothing of what uv keeps for the machine it runs on."""
    for folder, folders, names in os.walk(cache):
        here = Path(folder)
        if here == cache:
            folders[:] = [name for name in folders if name.startswith(_CARRIED)]
            continue
        folders[:] = [
            name
            for name in folders
            if not (here / name).is_symlink() and not name.startswith(".tmp")
        ]
        is_archive = here.relative_to(cache).parts[0].startswith(_ARCHIVES)
        for name in names:
            place = here / name
            if not place.is_symlink() and (is_archive or not name.endswith(".lock")):
                yield place
