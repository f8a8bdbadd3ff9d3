"""Build wheels from source with `uv build`, where the user allowed it or the source is local.

A built wheel is kept in the per-user cache, under a key of its source, settings and target:
building again gives the same bytes, even where a build backend is not reproducible. As in uv's
cache, releases of build requirements are not in the key (see docs/explanation/security.md).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.credentials import Credentials, redact
from offline_bundle.builder.inputs.git_urls import without_git_logins
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.inputs.uv_sources import (
    list_at,
    local_build_requirements,
    source_entries,
)
from offline_bundle.builder.resolve import uv_process
from offline_bundle.builder.resolve.model import Artifact, Resolution, ResolveOptions
from offline_bundle.builder.resolve.settings import uv_settings
from offline_bundle.builder.resolve.settings.uv_files import is_true
from offline_bundle.builder.wheels.sources import copy_source, source_digest
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.text import without_logins

# ZIP has no earlier time; backends that use SOURCE_DATE_EPOCH then write equal archives.
_EPOCH = "315532800"
_LAST_LINES = 40
# Variables that decide what a build gives: compilers, their flags and paths, and options of common
# build backends and libraries.
_VARIABLES = re.compile(
    r"(MPI|CUDAHOST)?(CC|CXX|FC|F77|F90)|NVCC|(C|CPP|CXX|F|FC|LD|NVCC|RUST)FLAGS"
    r"|CPATH|C_INCLUDE_PATH|CPLUS_INCLUDE_PATH|LIBRARY_PATH|PKG_CONFIG_PATH"
    r"|(CMAKE|HDF5|NETCDF|SETUPTOOLS_SCM|SKBUILD)_\w+"
    r"|(CUDA|MPI)_(HOME|PATH|ROOT)|CUDAARCHS|TORCH_CUDA_ARCH_LIST"
)


@dataclass(frozen=True)
class BuiltWheel:
    """A wheel built on this machine."""

    path: Path
    source_sha256: str
    """Digest of the sdist, of the folder's files, or of the repository's URL and commit."""
    is_kept: bool
    """From an earlier build with the same source, settings and target."""


class WheelBuilder:
    """Builds wheels with uv for one build run."""

    def __init__(
        self, uv: str, options: ResolveOptions, cache_root: Path, credentials: Credentials
    ) -> None:
        """*cache_root* is the per-user cache folder; *credentials* are redacted in messages."""
        self._uv = uv
        self._options = options
        self._cache = cache_root / "built"
        self._credentials = credentials

    def build(self, artifact: Artifact, resolution: Resolution, sdist: Path | None) -> BuiltWheel:
        """Return the wheel of *artifact* for the resolution's target; *sdist* is its fetched file.

        Raises FetchError (exit 4) when this machine cannot build for the target, or a build fails.
        """
        interpreter = self._interpreter(artifact, resolution.target)
        with_lfs = _uses_lfs(artifact, resolution.script)
        digest = source_digest(artifact, sdist, with_lfs=with_lfs)
        inputs: list[Any] = [digest, artifact.subdirectory, resolution.target.name]
        others = _packages_in_build(artifact, resolution)
        inputs += [others] if others else []
        kept = self._cache / self._key(*inputs, script=resolution.script)
        wheels = sorted(kept.glob("*.whl"))
        if wheels:
            return BuiltWheel(wheels[0], digest, is_kept=True)
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as name:
            folder = Path(name)
            source = copy_source(artifact, sdist, folder, self._credentials, with_lfs=with_lfs)
            source /= artifact.subdirectory or ""
            if others:
                interpreter = self._environment(others, interpreter, resolution, folder)
            command = self._command(source, folder / "out", interpreter)
            wheel = self._run(command, artifact, resolution, folder)
            return BuiltWheel(_keep(wheel, kept), digest, is_kept=False)

    def _key(self, *inputs: object, script: Script) -> str:
        """Return the key of a kept wheel: *inputs*, and all settings that decide a build."""
        options = self._options
        locations = [*options.indexes, options.default_index, *options.find_links]
        indexes = [url for _, url in uv_settings.index_locations(script)]
        document = {
            "inputs": inputs,
            "settings": uv_settings.deciding_settings(script),
            "indexes": [without_logins(url) for url in (*locations, *indexes) if url],
            "options": [options.exclude_newer, options.index_strategy],
            "variables": {
                name: text
                for name, text in os.environ.items()
                if name in uv_settings.DECIDING_VARIABLES or _VARIABLES.fullmatch(name)
            },
        }
        return sha256_of(json.dumps(document, sort_keys=True, default=str).encode())

    def _interpreter(self, artifact: Artifact, target: Target) -> str:
        if not target.runs_here:
            raise FetchError(
                f"{artifact.name} must be built from source, which this machine cannot do "
                f"for {target.name}",
                hint="build the bundle on a machine of that platform, or publish a wheel of the "
                "package on an index of yours",
            )
        interpreter = self._options.interpreters.get(target.python)
        if interpreter is None:
            raise FetchError(
                f"{artifact.name} must be built from source for Python {target.python}, "
                "which is not on this machine",
                hint=f"install it, for example by `uv python install {target.python}`, or choose "
                "another --python-version",
            )
        return interpreter

    def _environment(
        self, lock: dict[str, Any], interpreter: str, resolution: Resolution, folder: Path
    ) -> str:
        """Make an environment with the packages of *lock*; return its interpreter."""
        (folder / "pylock.toml").write_text(tomli_w.dumps(lock), encoding="utf-8")
        python = str(folder / "environment/bin/python")
        commands = [
            ["venv", "--python", interpreter, "--no-python-downloads", "environment"],
            ["pip", "sync", "--python", python, "pylock.toml"],
        ]
        commands[1] += uv_process.index_flags(self._options)
        if ":all:" not in self._options.allow_build:
            commands[1] += ["--only-binary", ":all:"]
            commands[1] += [f"--no-binary={name}" for name in sorted(resolution.built)]
        settings, _ = uv_settings.build_settings(resolution.script, "")
        variables = uv_process.index_variables(self._options)
        variables |= self._credentials.git_variables(os.environ)
        for command in commands:
            process = uv_process.run_uv(
                [self._uv, *command], folder, without_git_logins(settings), **variables
            )
            if process.returncode:
                raise FetchError(
                    f"the packages for a build without isolation could not be installed for "
                    f"{resolution.target.name}",
                    problems=redact(process.stderr, self._credentials).splitlines()[-_LAST_LINES:],
                    hint="correct no-build-isolation-package, or use extra-build-dependencies",
                )
        return python

    def _command(self, source: Path, out: Path, interpreter: str) -> list[str]:
        command = [self._uv, "build", "--wheel", str(source), "--out-dir", str(out)]
        command += ["--python", interpreter, "--no-python-downloads", "--no-create-gitignore"]
        command += ["--no-progress", "--color", "never"]
        return [*command, *uv_process.index_flags(self._options)]

    def _run(
        self, command: list[str], artifact: Artifact, resolution: Resolution, folder: Path
    ) -> Path:
        variables = uv_process.index_variables(self._options)
        variables["GIT_OPTIONAL_LOCKS"] = "0"  # a copy uses the index of the original
        variables |= self._credentials.git_variables(os.environ)
        variables["SOURCE_DATE_EPOCH"] = os.environ.get("SOURCE_DATE_EPOCH") or _EPOCH
        if ":all:" not in self._options.allow_build:
            # build requirements (setuptools and so on) must be wheels, except for local ones
            is_folder = artifact.kind == "directory"
            own = local_build_requirements(Path(artifact.location)) if is_folder else set()
            variables |= {"UV_NO_BUILD": "1", "UV_NO_BINARY_PACKAGE": " ".join(sorted(own))}
        settings, more = uv_settings.build_settings(resolution.script, artifact.name)
        process = uv_process.run_uv(
            command, folder, without_git_logins(settings), **{**variables, **more}
        )
        wheels = sorted((folder / "out").glob("*.whl"))
        if process.returncode != 0 or len(wheels) != 1:
            raise FetchError(
                f"{artifact.name} could not be built for {resolution.target.name}",
                problems=redact(process.stderr, self._credentials).splitlines()[-_LAST_LINES:],
                hint="see the end of its output above; install compilers and headers it needs",
            )
        return wheels[0]


def _packages_in_build(artifact: Artifact, resolution: Resolution) -> dict[str, Any]:
    """Return the lock of the packages that a build without isolation imports, or nothing.

    `uv run` installs all others before the packages of `no-build-isolation-package`.
    """
    settings = uv_settings.deciding_settings(resolution.script)
    names = set(map(canonicalize_name, list_at(settings, "no-build-isolation-package")))
    if artifact.name not in names or settings.get("no-build-isolation"):
        return {}
    lock = resolution.lock.to_dict()
    packages = [package for package in lock["packages"] if package["name"] not in names]
    return {**lock, "packages": packages}


def _uses_lfs(artifact: Artifact, script: Script) -> bool:
    """Return True where uv fetches the Git LFS files of a repository."""
    entries = [entry for name, entry in source_entries(script.settings) if name == artifact.name]
    choices = [entry["lfs"] for entry in entries if "lfs" in entry]
    texts = [
        text for text in script.dependencies if artifact.name == uv_settings.requirement_name(text)
    ]
    if not choices and is_true(os.environ.get("UV_GIT_LFS")):
        return True
    return True in choices or any(re.search(r"[#&?]lfs=true", text) for text in texts)


def _keep(wheel: Path, folder: Path) -> Path:
    """Move *wheel* into the cache by one rename; a parallel builder uses the first one's wheel."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    shutil.copyfile(wheel, temporary / wheel.name)
    (temporary / wheel.name).chmod(0o444)
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary)
    return next(folder.glob("*.whl"))
