"""The Pythons that a bundle brings for its nodes: python-build-standalone archives, found, fetched and verified by uv.

    offers = choose_archives(uv, wanted)              # uv's own list, its mirrors and its configuration
    archives = fetch_archives(uv, offers, cache)      # verified by uv, against the digests it was built with

uv's list prints no digests, but uv has them: built in, or from the document that UV_PYTHON_DOWNLOADS_JSON_URL names.
So `uv python install` fetches and checks, for any platform, into a folder that is thrown away, and UV_PYTHON_CACHE_DIR
keeps the archive itself: that is what goes into the bundle. Where uv has no digest for it, there is no such archive.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from offline_bundle.builder.fetch.credentials import redact, without_credentials
from offline_bundle.builder.resolve import uv_process
from offline_bundle.wheelhouse.runtime.errors import FetchError, ResolveError
from offline_bundle.wheelhouse.runtime.files import file_digest
from offline_bundle.wheelhouse.runtime.interpreters import find_interpreter
from offline_bundle.wheelhouse.runtime.locks import FileLock
from offline_bundle.wheelhouse.runtime.manifest import Source
from offline_bundle.wheelhouse.runtime.parallel import gather
from offline_bundle.wheelhouse.runtime.requirements import python_matches

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping, Sequence

    from offline_bundle.builder.fetch.credentials import Credentials
    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.inputs.targets import Target
    from offline_bundle.wheelhouse.runtime.manifest import Manifest

_FETCHERS = 4
_RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}\.tar\.(gz|zst)")


@dataclass(frozen=True)
class PythonBuild:
    """One archive of uv's list."""

    key: str
    """As uv names it: `cpython-3.12.12-linux-x86_64-gnu`."""
    version: tuple[int, int, int]
    release: str
    """Folder that mirrors keep it in, such as "20260211"."""
    filename: str
    url: str
    """Without credentials."""

    @property
    def bundle_path(self) -> str:
        """Where it lies in the bundle: `python/` is laid out as uv's mirrors are."""
        return f"python/{self.release}/{self.filename}"


@dataclass(frozen=True)
class PythonArchive:
    """An archive at hand, verified, and the targets that it serves."""

    targets: tuple[Target, ...]
    version: str
    bundle_path: str
    path: Path
    sha256: str
    size: int
    source: Source


def lacking(
    pairs: Iterable[tuple[Script, Target]], current: Manifest | None
) -> dict[Target, tuple[str | None, ...]]:
    """The targets for which *current* has no interpreter that all their scripts admit, with their `requires-python`."""
    wanted: dict[Target, tuple[str | None, ...]] = {}
    for script, target in pairs:
        wanted[target] = (*wanted.get(target, ()), script.requires_python)
    known = current.pythons if current else {}
    return {
        target: requirements
        for target, requirements in wanted.items()
        if target.name not in known
        or not _is_admitted(_numbers(known[target.name].version), requirements)
    }


def choose_archives(
    uv: str, wanted: Mapping[Target, Sequence[str | None]], credentials: Credentials
) -> dict[Target, PythonBuild]:
    """The newest release for each target that all of its scripts admit, from uv's own list.

    Raises ResolveError (exit 3) naming all targets without one; FetchError (exit 4) where there is no list.
    """
    if not wanted:
        return {}
    offers = _offers(uv, credentials)
    chosen, problems = {}, []
    for target, requirements in wanted.items():
        key = _key(target)
        known = [
            offer
            for offer in offers
            if offer.key == key.format(".".join(map(str, offer.version)))
            and offer.version[:2] == target.version
            and _is_admitted(offer.version, requirements)
        ]
        fitting = [offer for offer in known if offer.filename.endswith(".gz")]
        if fitting:
            chosen[target] = max(fitting, key=lambda offer: offer.version)
        else:
            asked = ", ".join(sorted({text for text in requirements if text}))
            only = (
                f": only {known[0].filename}, and no node's Python before 3.14 can unpack that"
                if known
                else ""
            )
            problems.append(
                f"{target.name}" + (f" (requires-python {asked})" if asked else "") + only
            )
    if problems:
        raise ResolveError(
            "uv knows no Python to bring along for some of the targets",
            problems=problems,
            hint="leave out --with-python, or name another --python-version; a site's own builds are found through "
            "UV_PYTHON_DOWNLOADS_JSON_URL",
        )
    return chosen


def notes_on_unknown(
    pairs: Iterable[tuple[Script, Target]], uv: str, credentials: Credentials
) -> list[str]:
    """What to say of scripts that ask for a later patch release than any that uv's list or this machine has.

    That is no error: the release may have come out since, or be a site's own. More often it is a slip of the pen, and
    then the launcher would be the first to tell, on the node.
    """
    asked = {
        (script, target.version): target.full_version(script.requires_python)
        for script, target in pairs
    }
    later = {
        pair: _numbers(version) for pair, version in asked.items() if not version.endswith(".0")
    }
    if not later:
        return []
    try:
        offers = _offers(uv, credentials)
    except FetchError:
        return []
    notes = []
    for (script, minor), version in later.items():
        newest = max(
            (offer.version for offer in offers if offer.version[:2] == minor), default=version
        )
        if version > newest and find_interpreter(minor, script.requires_python) is None:
            notes.append(
                f'{script.path}: requires-python = "{script.requires_python}" admits no Python {minor[0]}.{minor[1]} '
                f"before {'.'.join(map(str, version))}; uv's list ends with {'.'.join(map(str, newest))}, this machine "
                "has none that fits, and on nodes like that the script does not start (exit 7)"
            )
    return notes


def fetch_archives(
    uv: str, offers: Mapping[Target, PythonBuild], cache: Path, credentials: Credentials
) -> list[PythonArchive]:
    """Each archive once, fetched and verified by uv, and kept below *cache*; raises FetchError (exit 4)."""
    serves: dict[PythonBuild, tuple[Target, ...]] = {}
    for target, offer in offers.items():
        serves[offer] = (*serves.get(offer, ()), target)
    with ThreadPoolExecutor(_FETCHERS) as pool:
        paths = gather([pool.submit(_fetch, uv, offer, cache, credentials) for offer in serves])
    return [
        PythonArchive(
            targets=targets,
            version=".".join(map(str, offer.version)),
            bundle_path=offer.bundle_path,
            path=path,
            sha256=file_digest(path),
            size=path.stat().st_size,
            source=Source(url=offer.url),
        )
        for path, (offer, targets) in zip(paths, serves.items(), strict=True)
    ]


def _offers(uv: str, credentials: Credentials) -> list[PythonBuild]:
    """All of uv's list; raises FetchError (exit 4) where there is none."""
    command = [
        uv,
        "python",
        "list",
        "--only-downloads",
        "--all-versions",
        "--all-platforms",
        "--all-arches",
    ]
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        done = uv_process.run_uv(
            [*command, "--output-format", "json", "--color", "never"], Path(folder)
        )
    if done.returncode:
        raise _failure("uv's list of Pythons cannot be had", done, credentials)
    return [offer for entry in json.loads(done.stdout) if (offer := _read(entry)) is not None]


def _fetch(uv: str, offer: PythonBuild, cache: Path, credentials: Credentials) -> Path:
    """Have uv fetch the archive, or check the one it kept; the tree that it unpacks is thrown away."""
    kept = cache / "python-archives" / offer.key
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [
        uv,
        "python",
        "install",
        offer.key,
        "--no-progress",
        "--color",
        "never",
        "--no-registry",
    ]
    for is_last in (False, True):
        had_kept = any(kept.iterdir())
        with (
            tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder,
            FileLock(f"{kept}.lock"),
        ):
            done = uv_process.run_uv(
                [*command, "--install-dir", f"{folder}/unpacked"],
                Path(folder),
                UV_PYTHON_CACHE_DIR=str(kept),
                UV_PYTHON_INSTALL_BIN="0",
                **({"UV_HTTP_RETRIES": "0"} if had_kept else {}),
            )
            found = [path for path in kept.iterdir() if path.name.endswith(".tar.gz")]
        if done.returncode == 0 and len(found) == 1:
            return found[0]
        # What was kept may be damaged, or of an older build of the same release: once more from the beginning.
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_last or not had_kept:
            break
    raise _failure(f"{offer.key} cannot be fetched", done, credentials)


def _failure(
    message: str, done: subprocess.CompletedProcess[str], credentials: Credentials
) -> FetchError:
    said = [line.rstrip() for line in redact(done.stderr, credentials).splitlines() if line.strip()]
    return FetchError(
        message,
        problems=said or [f"uv left with exit code {done.returncode}"],
        hint="uv finds Pythons through UV_PYTHON_INSTALL_MIRROR and UV_PYTHON_DOWNLOADS_JSON_URL (or the settings "
        "python-install-mirror and python-downloads-json-url); leave out --with-python to bring none",
    )


def _read(entry: dict[str, Any]) -> PythonBuild | None:
    """An entry of uv's list, or None for pre-releases, other implementations, and files of other kinds."""
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
        url=without_credentials(url),
    )


def _key(target: Target) -> str:
    """uv's key for *target*, with {} for the version: baseline processors only (no x86_64_v3)."""  # noqa: D403
    systems = {
        "linux-gnu": ("linux", "gnu"),
        "linux-musl": ("linux", "musl"),
        "macos": ("macos", "none"),
        "windows": ("windows", "none"),
    }
    system, libc = systems[target.system]
    variant = "+freethreaded" if target.is_free_threaded else ""
    architecture = {"i686": "x86"}.get(target.architecture, target.architecture)
    return f"cpython-{{}}{variant}-{system}-{architecture}-{libc}"


def _is_admitted(version: tuple[int, int, int], requirements: Iterable[str | None]) -> bool:
    return all(python_matches(text, version) for text in requirements)


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, micro = map(int, version.split("."))
    return major, minor, micro
