"""Interpreters for the nodes: python-build-standalone archives, fetched and verified by uv.

    builds = choose_archives(uv, wanted, credentials)          # uv's own list and mirrors
    archives = fetch_archives(uv, builds, cache, credentials)  # verified against uv's digests

uv's list prints no digests, but uv has them: built in, or from the document that
UV_PYTHON_DOWNLOADS_JSON_URL names. So `uv python install` fetches and verifies, for any platform,
into a temporary folder. UV_PYTHON_CACHE_DIR keeps the archive, and that goes into the bundle.
Archives without a digest are not used.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from offline_bundle.builder.fetch.credentials import Credentials, redact
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.resolve.uv_process import run_uv
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, Source
from offline_bundle.wheelhouse.runtime.disk.files import file_digest
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.errors import FetchError, ResolveError
from offline_bundle.wheelhouse.runtime.parallel import gather
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter
from offline_bundle.wheelhouse.runtime.python.platforms import dotted_version
from offline_bundle.wheelhouse.runtime.python.requirements import python_matches
from offline_bundle.wheelhouse.runtime.text import without_logins

_PARALLEL_DOWNLOADS = 4
_RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}\.tar\.(gz|zst)")
_SYSTEMS = {
    "linux-gnu": ("linux", "gnu"),
    "linux-musl": ("linux", "musl"),
    "macos": ("macos", "none"),
    "windows": ("windows", "none"),
}


@dataclass(frozen=True)
class PythonBuild:
    """One archive of uv's list."""

    key: str
    """uv's name: `cpython-3.12.12-linux-x86_64-gnu`."""
    version: tuple[int, int, int]
    release: str
    """Folder on mirrors, such as "20260211"."""
    filename: str
    url: str
    """Without credentials."""

    @property
    def bundle_path(self) -> str:
        """Path in the bundle: `python/` has the layout of uv's mirrors."""
        return f"python/{self.release}/{self.filename}"

    @property
    def version_text(self) -> str:
        """The version with dots."""
        return dotted_version(self.version)


@dataclass(frozen=True)
class PythonArchive:
    """A fetched and verified archive, and the targets that use it."""

    targets: tuple[Target, ...]
    version: str
    bundle_path: str
    path: Path
    sha256: str
    size: int
    source: Source


def missing(
    pairs: Iterable[tuple[Script, Target]], current: Manifest | None
) -> dict[Target, tuple[str | None, ...]]:
    """Return the targets without a fitting interpreter in *current*, with `requires-python`s."""
    requirements: dict[Target, tuple[str | None, ...]] = {}
    for script, target in pairs:
        requirements[target] = (*requirements.get(target, ()), script.requires_python)
    bundled = current.pythons if current else {}
    return {
        target: texts
        for target, texts in requirements.items()
        if target.name not in bundled
        or not _is_admitted(_numbers(bundled[target.name].version), texts)
    }


def choose_archives(
    uv: str, wanted: Mapping[Target, Sequence[str | None]], credentials: Credentials
) -> dict[Target, PythonBuild]:
    """Return for each target the newest release that its scripts admit, from uv's own list.

    Raises one ResolveError (exit 3) for all targets without one; FetchError (exit 4) without list.
    """
    if not wanted:
        return {}
    builds = _list_builds(uv, credentials)
    chosen, problems = {}, []
    for target, requirements in wanted.items():
        fitting = [build for build in builds if _fits(build, target, requirements)]
        usable = [build for build in fitting if build.filename.endswith(".gz")]
        if usable:
            chosen[target] = max(usable, key=lambda build: build.version)
        else:
            problems.append(_no_build(target, requirements, fitting))
    if problems:
        raise ResolveError(
            "uv has no Python archive for some of the targets",
            problems=problems,
            hint="leave out --with-python, or name another --python-version; builds of a site are "
            "found through UV_PYTHON_DOWNLOADS_JSON_URL",
        )
    return chosen


def notes_on_unknown(
    pairs: Iterable[tuple[Script, Target]], uv: str, credentials: Credentials
) -> list[str]:
    """Return notes about scripts that need a later patch release than uv or this machine has.

    The release may be new, or a site's own; usually it is a typo, which would only fail on nodes.
    """
    requested = {
        (script, target.version): target.full_version(script.requires_python)
        for script, target in pairs
    }
    later = {
        pair: _numbers(version) for pair, version in requested.items() if not version.endswith(".0")
    }
    if not later:
        return []
    try:
        builds = _list_builds(uv, credentials)
    except FetchError:
        return []
    notes = []
    for (script, minor), version in later.items():
        versions = [build.version for build in builds if build.version[:2] == minor]
        newest = max(versions, default=version)
        if version > newest and find_interpreter(minor, script.requires_python) is None:
            notes.append(
                f'{script.path}: requires-python = "{script.requires_python}" admits no Python '
                f"{dotted_version(minor)} before {dotted_version(version)}; uv's list ends with "
                f"{dotted_version(newest)}, this machine has none that fits, and on nodes like "
                "that the script does not start (exit 7)"
            )
    return notes


def fetch_archives(
    uv: str, builds: Mapping[Target, PythonBuild], cache: Path, credentials: Credentials
) -> list[PythonArchive]:
    """Fetch each archive once, verified by uv, into *cache*; raises FetchError (exit 4)."""
    targets_of: dict[PythonBuild, tuple[Target, ...]] = {}
    for target, build in builds.items():
        targets_of[build] = (*targets_of.get(build, ()), target)
    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
        paths = gather([pool.submit(_fetch, uv, build, cache, credentials) for build in targets_of])
    return [
        PythonArchive(
            targets=targets,
            version=build.version_text,
            bundle_path=build.bundle_path,
            path=path,
            sha256=file_digest(path),
            size=path.stat().st_size,
            source=Source(url=build.url),
        )
        for path, (build, targets) in zip(paths, targets_of.items(), strict=True)
    ]


def _list_builds(uv: str, credentials: Credentials) -> list[PythonBuild]:
    """Return uv's list; raises FetchError (exit 4) where there is none."""
    command = [uv, "python", "list", "--only-downloads", "--all-versions", "--all-platforms"]
    command += ["--all-arches", "--output-format", "json", "--color", "never"]
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        outcome = run_uv(command, Path(folder))
    if outcome.returncode or not outcome.stdout:
        raise _error("uv could not list its Python archives", outcome, credentials)
    builds = (_parse(entry) for entry in json.loads(outcome.stdout))
    return [build for build in builds if build is not None]


def _fetch(uv: str, build: PythonBuild, cache: Path, credentials: Credentials) -> Path:
    """Let uv fetch the archive, or verify the one it kept; the unpacked tree is thrown away."""
    kept = cache / "python-archives" / build.key
    had_kept = kept.is_dir() and any(kept.iterdir())
    archive, outcome = _install(uv, build.key, kept, retries=not had_kept)
    if archive is None and had_kept:
        # the kept one may be damaged, or of an older build of the same release
        archive, outcome = _install(uv, build.key, kept, retries=True)
    if archive is None:
        raise _error(f"{build.key} cannot be fetched", outcome, credentials)
    return archive


def _install(
    uv: str, key: str, kept: Path, *, retries: bool
) -> tuple[Path | None, subprocess.CompletedProcess[str]]:
    """Run `uv python install`; return the archive in *kept*, which is emptied after a failure."""
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [uv, "python", "install", key, "--no-progress", "--color", "never", "--no-registry"]
    variables = {"UV_PYTHON_CACHE_DIR": str(kept), "UV_PYTHON_INSTALL_BIN": "0"}
    if not retries:
        variables["UV_HTTP_RETRIES"] = "0"
    with (
        tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder,
        FileLock(f"{kept}.lock"),
    ):
        outcome = run_uv(
            [*command, "--install-dir", f"{folder}/unpacked"], Path(folder), **variables
        )
        archives = [path for path in kept.iterdir() if path.name.endswith(".tar.gz")]
    if outcome.returncode == 0 and len(archives) == 1:
        return archives[0], outcome
    shutil.rmtree(kept, ignore_errors=True)
    return None, outcome


def _error(
    message: str, outcome: subprocess.CompletedProcess[str], credentials: Credentials
) -> FetchError:
    output = redact(outcome.stderr, credentials)
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    return FetchError(
        message,
        problems=lines or [f"uv ended with exit code {outcome.returncode}"],
        hint="uv finds Pythons through UV_PYTHON_INSTALL_MIRROR and UV_PYTHON_DOWNLOADS_JSON_URL "
        "(or the settings python-install-mirror and python-downloads-json-url); "
        "leave out --with-python to include none",
    )


def _parse(entry: dict[str, Any]) -> PythonBuild | None:
    """Parse an entry of uv's list; None for pre-releases, other implementations and file types."""
    release = _RELEASE.fullmatch(str(entry.get("version")))
    url = entry.get("url")
    if release is None or entry.get("implementation") != "cpython" or not isinstance(url, str):
        return None
    *_, folder, filename = ["", "", *unquote(urlsplit(url).path).split("/")]
    if not _FILENAME.fullmatch(filename):
        return None
    return PythonBuild(
        key=str(entry["key"]),
        version=(int(release[1]), int(release[2]), int(release[3])),
        release=folder if _FOLDER.fullmatch(folder) else "site",
        filename=filename,
        url=without_logins(url),
    )


def _fits(build: PythonBuild, target: Target, requirements: Iterable[str | None]) -> bool:
    return (
        build.key == _key(target, build.version_text)
        and build.version[:2] == target.version
        and _is_admitted(build.version, requirements)
    )


def _key(target: Target, version: str) -> str:
    """Return the key in uv's list: baseline processors only (no x86_64_v3)."""
    system, libc = _SYSTEMS[target.system]
    variant = "+freethreaded" if target.is_free_threaded else ""
    architecture = {"i686": "x86"}.get(target.architecture, target.architecture)
    return f"cpython-{version}{variant}-{system}-{architecture}-{libc}"


def _no_build(
    target: Target, requirements: Iterable[str | None], fitting: Sequence[PythonBuild]
) -> str:
    texts = ", ".join(sorted({text for text in requirements if text}))
    problem = target.name + (f" (requires-python {texts})" if texts else "")
    if fitting:
        name = fitting[0].filename
        problem += f": only {name}, and no node's Python before 3.14 can unpack that"
    return problem


def _is_admitted(version: tuple[int, int, int], requirements: Iterable[str | None]) -> bool:
    return all(python_matches(text, version) for text in requirements)


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, micro = map(int, version.split("."))
    return major, minor, micro
