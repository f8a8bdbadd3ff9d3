"""Build wheels from source with `uv build`, where the user allowed it or the source is local.

A built wheel is kept in the per-user cache, under a key of its source, settings and target:
building again gives the same bytes, even where a build backend is not reproducible.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from offline_bundle.builder.fetch.credentials import redact
from offline_bundle.builder.inputs.git_urls import without_git_logins
from offline_bundle.builder.resolve import uv_process, uv_settings
from offline_bundle.builder.wheels.sources import copy_source
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import FetchError

if TYPE_CHECKING:
    from offline_bundle.builder.fetch.credentials import Credentials
    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.inputs.targets import Target
    from offline_bundle.builder.resolve.model import Artifact, Resolution, ResolveOptions

# ZIP has no earlier time; backends that use SOURCE_DATE_EPOCH then write equal archives.
_EPOCH = "315532800"
_LAST_LINES = 40
# Keys of [tool.uv] that change what a build gives.
_BUILD_SETTINGS = (
    "build-constraint-dependencies",
    "config-settings",
    "config-settings-package",
    "extra-build-dependencies",
    "extra-build-variables",
)


@dataclass(frozen=True)
class BuiltWheel:
    """A wheel built on this machine."""

    path: Path
    source_sha256: str
    """Digest of the sdist, of the folder's files, or of the repository's URL and commit."""


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
        settings = _build_settings(resolution.script)
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as name:
            folder = Path(name)
            source, digest = copy_source(artifact, sdist, folder, self._credentials)
            key: list[object] = [digest, artifact.subdirectory, resolution.target.name]
            key += [settings] if settings else []
            kept = self._cache / sha256_of(json.dumps(key, sort_keys=True, default=str).encode())
            wheels = sorted(kept.glob("*.whl"))
            if not wheels:
                (folder / "uv.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
                source /= artifact.subdirectory or ""
                command = self._command(source, folder / "out", interpreter)
                wheels = [_keep(self._run(command, artifact, resolution, folder), kept)]
        return BuiltWheel(wheels[0], digest)

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

    def _command(self, source: Path, out: Path, interpreter: str) -> list[str]:
        command = [self._uv, "build", "--wheel", str(source), "--out-dir", str(out)]
        command += ["--python", interpreter, "--no-python-downloads", "--no-create-gitignore"]
        command += ["--no-progress", "--color", "never"]
        return [*command, *uv_process.index_flags(self._options)]

    def _run(
        self, command: list[str], artifact: Artifact, resolution: Resolution, folder: Path
    ) -> Path:
        script = resolution.script
        indexes = uv_settings.own_indexes(script.settings, script.path.resolve().parent)
        variables = uv_process.index_variables(
            self._options, [f"{name}={url}" if name else url for name, url in indexes]
        )
        variables |= self._credentials.git_variables(os.environ)
        variables["SOURCE_DATE_EPOCH"] = os.environ.get("SOURCE_DATE_EPOCH") or _EPOCH
        if ":all:" not in self._options.allow_build:
            # build requirements (setuptools and so on) must be wheels; only this package is built
            variables |= {"UV_NO_BUILD": "1", "UV_NO_BINARY_PACKAGE": ""}
        project = uv_settings.script_folder(script)
        process = uv_process.run_uv(command, folder, project, **variables)
        wheels = sorted((folder / "out").glob("*.whl"))
        if process.returncode != 0 or len(wheels) != 1:
            raise FetchError(
                f"{artifact.name} could not be built for {resolution.target.name}",
                problems=redact(process.stderr, self._credentials).splitlines()[-_LAST_LINES:],
                hint="see the end of its output above; install compilers and headers it needs",
            )
        return wheels[0]


def _build_settings(script: Script) -> dict[str, Any]:
    """Return the settings of the script that apply to builds."""
    settings = uv_settings.absolute_settings(script.settings, script.path.resolve().parent)
    return {key: without_git_logins(settings[key]) for key in _BUILD_SETTINGS if key in settings}


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
