"""From a source to a wheel: `uv build`, isolated, for sources that the user allowed or that are the user's own.

A built wheel is kept in the per-user cache under a key of its source's digest and its target, so that building again
gives the same file: bit-for-bit even where a build backend is not reproducible.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.builder.fetch.credentials import (
    Credentials,
    redact,
    without_credentials,
)
from offline_bundle.builder.resolve import uv_process, uv_settings
from offline_bundle.wheelhouse.runtime.errors import FetchError

if TYPE_CHECKING:
    from offline_bundle.builder.resolve.model import Artifact, Resolution, ResolveOptions

# ZIP knows no earlier time; backends that honour SOURCE_DATE_EPOCH then write the same archive every time.
_EPOCH = "315532800"
# What is no source: caches, environments, and at the top also the leftovers of earlier builds.
_NO_SOURCE = {
    "__pycache__",
    ".venv",
    ".tox",
    ".nox",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "node_modules",
}
_NO_SOURCE_AT_TOP = {"build", "dist"}


@dataclass(frozen=True)
class BuiltWheel:
    """A wheel that was built here."""

    path: Path
    source_sha256: str
    """Digest of the source: of the sdist's bytes, of the folder's files, or of the repository's URL and commit."""


class WheelBuilder:
    """Builds wheels with uv for one build run."""

    def __init__(
        self, uv: str, options: ResolveOptions, cache_root: Path, credentials: Credentials
    ) -> None:
        """*cache_root* is the per-user cache folder; *credentials* are kept out of what is repeated of a build."""
        self._uv = uv
        self._options = options
        self._cache = cache_root / "built"
        self._credentials = credentials

    def build(self, choice: Artifact, resolution: Resolution, sdist: Path | None) -> BuiltWheel:
        """The wheel of *choice* for the resolution's target; *sdist* is the fetched file where the source is one.

        Raises FetchError (exit 4) when the target is not one this machine can build for, or the build fails.
        """
        target = resolution.target
        interpreter = self._options.interpreters.get(target.python)
        if not target.runs_here:
            raise FetchError(
                f"{choice.name} must be built from source, which this machine cannot do for {target.name}",
                hint="build the bundle on a machine of that platform, or publish a wheel of it on an index of yours",
            )
        if interpreter is None:
            raise FetchError(
                f"{choice.name} must be built from source for Python {target.python}, which is not on this machine",
                hint=f"install it (such as by `uv python install {target.python}`), or choose another --python-version",
            )
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
            source, digest = self._source(choice, sdist, Path(folder))
            place = self._cache / _key(digest, choice.subdirectory, target.name)
            kept = sorted(place.glob("*.whl"))
            if not kept:
                made = self._build(
                    choice,
                    resolution,
                    source / (choice.subdirectory or ""),
                    Path(folder),
                    interpreter,
                )
                kept = [_keep(made, place)]
        return BuiltWheel(kept[0], digest)

    def _source(self, choice: Artifact, sdist: Path | None, folder: Path) -> tuple[Path, str]:
        if choice.kind == "git":
            identity = f"{without_credentials(choice.location)}@{choice.commit}"
            return self._checkout(choice, folder / "checkout"), hashlib.sha256(
                identity.encode()
            ).hexdigest()
        if choice.kind == "directory":
            return _copy_tree(Path(choice.location), folder / "source"), tree_digest(
                Path(choice.location)
            )
        if sdist is None:
            raise AssertionError(choice)
        # uv goes by the name of an sdist; in the cache it is named by its digest.
        named = folder / choice.filename
        shutil.copyfile(sdist, named)
        digest = hashlib.sha256(named.read_bytes()).hexdigest()
        if choice.subdirectory is None:
            return named, digest
        if named.name.endswith(".zip"):
            shutil.unpack_archive(named, folder / "unpacked")
        else:
            shutil.unpack_archive(named, folder / "unpacked", filter="data")
        inner = list((folder / "unpacked").iterdir())
        return (inner[0] if len(inner) == 1 else folder / "unpacked"), digest

    def _checkout(self, choice: Artifact, place: Path) -> Path:
        """The repository at the locked commit, with tags (version plugins read them) and submodules, as uv has them."""
        commands = [
            ["git", "clone", "--quiet", "--no-checkout", choice.location, str(place)],
            ["git", "-C", str(place), "checkout", "--quiet", "--detach", choice.commit or "HEAD"],
            ["git", "-C", str(place), "submodule", "--quiet", "update", "--init", "--recursive"],
        ]
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        for command in commands:
            try:
                outcome = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    check=False,
                )
            except FileNotFoundError as error:
                message = f"{choice.name} comes from a git repository, and git is not installed"
                raise FetchError(
                    message, hint="install git, or depend on a release of it"
                ) from error
            if outcome.returncode != 0:
                raise FetchError(
                    f"{choice.name}: {without_credentials(choice.location)} could not be read at {choice.commit}",
                    problems=redact(outcome.stderr, self._credentials).splitlines(),
                    hint="try `git clone` of it by hand: it must work without a prompt",
                )
        return place

    def _build(
        self, choice: Artifact, resolution: Resolution, source: Path, folder: Path, interpreter: str
    ) -> Path:
        out = folder / "out"
        command = [
            self._uv,
            "build",
            "--wheel",
            str(source),
            "--out-dir",
            str(out),
            "--python",
            interpreter,
            "--no-python-downloads",
        ]
        command += [
            "--no-progress",
            "--color",
            "never",
            "--no-create-gitignore",
            *uv_process.index_flags(self._options),
        ]
        script = resolution.script
        own = uv_settings.own_indexes(script.settings, script.path.resolve().parent)
        variables = uv_process.index_variables(self._options, 
            [f"{name}={url}" if name else url for name, url in own]
        )
        variables["SOURCE_DATE_EPOCH"] = os.environ.get("SOURCE_DATE_EPOCH", _EPOCH)
        if ":all:" not in self._options.allow_build:
            # The build's own requirements (setuptools and so on) must be wheels; only this package is built.
            variables |= {"UV_NO_BUILD": "1", "UV_NO_BINARY_PACKAGE": ""}
        outcome = uv_process.run_uv(command, folder, **variables)
        wheels = sorted(out.glob("*.whl"))
        if outcome.returncode != 0 or len(wheels) != 1:
            raise FetchError(
                f"{choice.name} could not be built for {resolution.target.name}",
                problems=redact(outcome.stderr, self._credentials).splitlines()[-40:],
                hint="the last lines of its build stand above; compilers and headers it needs must be on this machine",
            )
        return wheels[0]


def _key(digest: str, subdirectory: str | None, target: str) -> str:
    return hashlib.sha256(json.dumps([digest, subdirectory, target]).encode()).hexdigest()


def _keep(wheel: Path, place: Path) -> Path:
    """Move *wheel* into the cache by one rename; a second builder of the same wheel takes the first one's."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=place.parent))
    shutil.copyfile(wheel, fresh / wheel.name)
    (fresh / wheel.name).chmod(0o444)
    try:
        fresh.rename(place)
    except OSError:
        shutil.rmtree(fresh)
    return next(place.glob("*.whl"))


def _copy_tree(folder: Path, place: Path) -> Path:
    """A copy to build in: the user's folder is not littered, and stale `build/` folders do not leak into the wheel."""

    def ignore(parent: str, names: list[str]) -> list[str]:
        return [name for name in names if _is_no_source(Path(parent) == folder, name)]

    try:
        shutil.copytree(folder, place, symlinks=True, ignore=ignore)
    except (OSError, shutil.Error) as error:
        raise FetchError(
            f"{folder} cannot be read: {error}", hint="the script's [tool.uv.sources] names it"
        ) from error
    return place


def _is_no_source(at_top: bool, name: str) -> bool:  # noqa: FBT001 - a predicate of two facts
    return (
        name in _NO_SOURCE or name.endswith(".egg-info") or (at_top and name in _NO_SOURCE_AT_TOP)
    )


def tree_digest(folder: Path) -> str:
    """Digest over names, modes and bytes of a source folder's files, and what git calls it: version plugins ask."""
    digest = hashlib.sha256(_git_version(folder))
    for parent, folders, files in os.walk(folder):
        at_top = Path(parent) == folder
        folders[:] = sorted(
            name for name in folders if name != ".git" and not _is_no_source(at_top, name)
        )
        for name in sorted(files):
            path = Path(parent, name)
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            entry = [
                path.relative_to(folder).as_posix(),
                os.access(path, os.X_OK),
                hashlib.sha256(content).hexdigest(),
            ]
            digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _git_version(folder: Path) -> bytes:
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--tags", "--long"]
        return subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, check=False
        ).stdout
    except FileNotFoundError:
        return b""
