"""Resolve with uv: `uv pip compile` on a temporary project with the script's header.

`uv pip compile script.py` would ignore the script's own `exclude-newer`, indexes, sources and
`requires-python`, and so take a public package where the script names a private one. So the header
is written as `pyproject.toml` (`[project]` and `[tool.uv]`, relative paths made absolute), and that
is compiled for the one target.

No code of a source distribution runs unless it is allowed: everything is `--only-binary :all:`.
Settings that would lift this are refused (`uv_checks.check_no_forced_builds`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomli_w
from packaging.pylock import Pylock
from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.credentials import Credentials, redact
from offline_bundle.builder.inputs.git_urls import without_git_logins
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.inputs.uv_sources import list_at
from offline_bundle.builder.resolve import free_threaded, uv_messages
from offline_bundle.builder.resolve.model import Artifact, Indexes, Resolution, ResolveOptions
from offline_bundle.builder.resolve.settings import uv_overrides, uv_settings
from offline_bundle.builder.resolve.uv_checks import (
    check_no_forced_builds,
    local_packages,
    packages_at_source,
    packages_from_elsewhere,
)
from offline_bundle.builder.resolve.uv_messages import UvFailure
from offline_bundle.builder.resolve.uv_process import index_flags, index_variables, run_uv
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    NotBuiltError,
    NoWheelError,
    ResolveError,
)

# Older Pythons that are tried at the same time.
_PARALLEL_TRIALS = 3
_PINS = "pins.txt"
_LOCK = "pylock.toml"


@dataclass
class _ResolveInput:
    """The project that uv resolves."""

    script: Script
    target: Target
    full_version: str
    settings: Mapping[str, object]
    """`[tool.uv]` with absolute paths."""
    built: set[str] = field(default_factory=set)
    """Packages that may be built."""
    pinned: set[str] = field(default_factory=set)
    """Added as direct dependencies, so that uv applies the script's sources to them."""
    scopes: set[str] = field(default_factory=set)
    """Packages whose requirements `overrides` replaces."""

    @property
    def overrides(self) -> dict[str, list[str]]:
        """The overrides, by package, of pinned packages."""
        overrides = uv_overrides.bound_overrides(self.settings)
        return {name: texts for name, texts in overrides.items() if name in self.pinned}

    def write(self, folder: Path) -> None:
        """Write `pyproject.toml` into *folder*."""
        name = canonicalize_name(re.sub(r"[^A-Za-z0-9]+", "-", self.script.name)).strip("-")
        source_folder = self.script.path.resolve().parent
        dependencies = [
            uv_settings.absolute_requirement(text, source_folder)
            for text in without_git_logins(self.script.dependencies)
        ]
        project = {
            "name": f"script-{name or 'unnamed'}",
            "version": "0",
            # The target decides the Python; it was checked against the script's requires-python.
            "requires-python": f">={self.full_version}",
            "dependencies": [
                *uv_overrides.overridden_requirements(dependencies, self.overrides),
                *sorted(self.pinned - self.overrides.keys()),
            ],
        }
        settings = uv_overrides.scoped_settings(self.settings, self.overrides, self.scopes)
        document = {"project": project, "tool": {"uv": settings}}
        (folder / "pyproject.toml").write_text(tomli_w.dumps(document), encoding="utf-8")


class UvResolver:
    """`Resolver` by `uv pip compile`."""

    def __init__(
        self,
        uv: str,
        options: ResolveOptions,
        credentials: Credentials,
        pins: Mapping[str, str] | None = None,
        alternatives: Callable[[Script, Target], Iterable[Target]] | None = None,
    ) -> None:
        """*uv* is the executable; secrets in *credentials* are removed from its output.

        *pins* has the text of a constraints file per script name. *alternatives* are targets that
        may replace one for which wheels are missing.
        """
        self._pins = pins or {}
        self._alternatives = alternatives
        self._uv = uv
        self._options = options
        self._credentials = credentials

    def resolve(self, script: Script, target: Target) -> Resolution:
        """See `Resolver.resolve`; the first alternative with all wheels may replace *target*."""
        try:
            return self._resolve_exactly(script, target)
        except (NoWheelError, NotBuiltError) as error:
            resolution = self._resolve_alternative(script, target, error.packages)
            if resolution is not None:
                return resolution
            if isinstance(error, NotBuiltError) and (
                other := self._python_error(script, target, error)
            ):
                raise other from None
            raise

    def index_of(self, resolution: Resolution) -> Indexes:
        """Run uv again with index annotations: its PEP 751 output does not name the index.

        It runs for the last patch release of the Python, to note versions that only later ones get.
        """
        script, target = resolution.script, resolution.target
        text = self._annotated(resolution, target.last_version(script.requires_python))
        notes = uv_messages.notes_on_later_versions(resolution, text)
        if notes or not text:
            text = self._annotated(resolution, resolution.full_version)
        return Indexes(uv_messages.index_annotations(text), notes)

    def _annotated(self, resolution: Resolution, full_version: str) -> str:
        """Return uv's output with index annotations, or nothing where it fails.

        All that the lock needs is in uv's cache, and `--offline` takes it from there, unless an
        index forbids caching. Metadata of versions for later releases may not be there.
        """
        is_cached = full_version == resolution.full_version
        project = self._project(resolution.script, resolution.target, full_version)
        project.built, project.pinned = set(resolution.built), set(resolution.pinned)
        project.scopes = set(resolution.scopes)
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as name:
            self._write(project, Path(name))
            for offline in (["--offline"], []) if is_cached else ([],):
                flags = ["--format", "requirements.txt", "--emit-index-annotation", *offline]
                outcome = self._compile(project, Path(name), *flags)
                if outcome.returncode == 0:
                    return outcome.stdout
        return ""

    def prefetch(self, resolution: Resolution, artifacts: Sequence[Artifact]) -> set[str]:
        """Fetch nothing: the downloader can fetch all that uv finds."""
        del resolution, artifacts
        return set()

    def _resolve_alternative(
        self, script: Script, target: Target, missing: frozenset[str]
    ) -> Resolution | None:
        """Return the first alternative's lock, if it has wheels of the *missing* packages.

        They are tried in parallel, in their order: one after another would delay the error.
        """
        alternatives = self._alternatives(script, target) if self._alternatives else ()
        pool = ThreadPoolExecutor(_PARALLEL_TRIALS)
        try:
            trials = [
                (other, pool.submit(self._resolve_exactly, script, other)) for other in alternatives
            ]
            for other, trial in trials:
                try:
                    resolution = trial.result()
                except (ResolveError, NotBuiltError):
                    continue
                if not missing <= {str(package.name) for package in resolution.lock.packages}:
                    return None  # an older version that does not require them: no wheel either
                note = (
                    f"no wheel for Python {target.python} of {', '.join(sorted(missing))}: "
                    f"Python {other.python} is taken instead; --python-version takes another"
                )
                return replace(resolution, warnings=(*resolution.warnings, note))
            return None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _resolve_exactly(self, script: Script, target: Target) -> Resolution:
        check_no_forced_builds(script, self._options.allows)
        project = self._project(script, target, target.full_version(script.requires_python))
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as name:
            outcome = self._compile_until_settled(project, Path(name))
            path = Path(name, _LOCK)
            # With SIGCHLD ignored, every exit code reads as 0: the file is the result.
            if outcome.returncode != 0:
                raise self._error(project, self._clean(outcome.stderr, Path(name)))
            if not path.is_file():
                text = self._clean(outcome.stderr, Path(name))
                raise uv_messages.unknown_error(UvFailure(script, target, text))
            lock = _read_lock(path)
        warnings = [line for line in outcome.stderr.splitlines() if line.startswith("warning: ")]
        return Resolution(
            script=script,
            target=target,
            full_version=project.full_version,
            lock=lock,
            yanked=uv_messages.yanked_packages(warnings),
            built=frozenset(project.built),
            pinned=frozenset(project.pinned),
            scopes=frozenset(project.scopes),
            warnings=tuple(
                self._clean(line.removeprefix("warning: "))
                for line in warnings
                if uv_messages.is_relevant(line)
            ),
        )

    def _compile_until_settled(
        self, project: _ResolveInput, folder: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run uv until it meets no further package to pin to its source or to build."""
        unpinned = uv_settings.pinned_names(project.script)
        overridden = uv_overrides.bound_overrides(project.settings).keys()
        unpinned |= overridden
        project.pinned |= overridden & set(
            map(uv_settings.requirement_name, project.script.dependencies)
        )
        while True:
            (folder / _LOCK).unlink(missing_ok=True)  # uv would prefer its versions
            self._write(project, folder)
            outcome = self._compile(project, folder, "--output-file", _LOCK, "--format", _LOCK)
            text = self._clean(outcome.stderr, folder)
            if (folder / _LOCK).is_file():
                unpinned -= packages_at_source(project.settings, _read_lock(folder / _LOCK))
            pinned = _packages_met(unpinned - project.pinned, folder / _LOCK, text)
            failed = outcome.returncode != 0
            sources = uv_messages.packages_without_wheels(text) if failed else {}
            allowed = {
                name
                for name, has_source in sources.items()
                if has_source and self._options.allows(name)
            } - project.built
            if pinned:
                project.pinned |= pinned
                project.scopes |= self._scopes(project, folder)
            elif scopes := self._scopes(project, folder) - project.scopes:
                project.scopes |= scopes
            elif allowed:
                project.built |= allowed
            else:
                return outcome

    def _scopes(self, project: _ResolveInput, folder: Path) -> set[str]:
        """Return the packages that require an overridden one.

        If there is no solution yet: all packages of one without the overridden.
        """
        if not project.overrides:
            return set()
        outcome = self._compile(project, folder, "--format", "requirements.txt")
        if outcome.returncode == 0:
            return uv_messages.packages_requiring(project.overrides, outcome.stdout)
        settings = uv_overrides.without_packages(project.settings, project.overrides)
        self._write(replace(project, settings=settings), folder)
        self._compile(project, folder, "--output-file", _LOCK, "--format", _LOCK)
        names = _locked_names(folder / _LOCK)
        (folder / _LOCK).unlink(missing_ok=True)
        return names

    def _project(self, script: Script, target: Target, full_version: str) -> _ResolveInput:
        own = uv_settings.absolute_settings(script.settings, script.path.resolve().parent)
        settings = uv_settings.combined_settings([uv_settings.environment_settings(), own])
        built = set(local_packages(script, settings))
        settings = without_git_logins(settings)
        return _ResolveInput(script, target, full_version, settings, built)

    def _write(self, project: _ResolveInput, folder: Path) -> None:
        project.write(folder)
        if project.script.name in self._pins:
            (folder / _PINS).write_text(self._pins[project.script.name], encoding="utf-8")

    def _compile(
        self, project: _ResolveInput, folder: Path, *flags: str
    ) -> subprocess.CompletedProcess[str]:
        options, target = self._options, project.target
        command = [self._uv, "pip", "compile", "pyproject.toml", "--no-header", *flags]
        command += ["--no-progress", "--color", "never", "--no-python-downloads"]
        command += ["--python-version", project.full_version, "--python-platform", target.platform]
        command += ["--python", self._interpreter(target, folder), *index_flags(options)]
        for path in options.constraints:
            command += ["--constraint", str(path.resolve())]
        command += ["--constraint", _PINS] if (folder / _PINS).exists() else []
        if ":all:" not in options.allow_build:
            command += ["--only-binary", ":all:"]
            for name in sorted(project.built):
                command += ["--no-binary", name]
        configuration = uv_settings.merged_configuration(uv_settings.script_folder(project.script))
        variables = {**index_variables(options), **self._credentials.git_variables(os.environ)}
        return run_uv(command, folder, configuration, **variables)

    def _error(self, project: _ResolveInput, text: str) -> BundleError:
        failure = UvFailure(project.script, project.target, text)
        packages = uv_messages.packages_without_wheels(text)
        if packages:
            return uv_messages.no_wheel_error(failure, packages)
        return uv_messages.resolve_error(failure, self._credentials)

    def _python_error(
        self, script: Script, target: Target, error: NotBuiltError
    ) -> BundleError | None:
        """Return the error where a build would not help: the sources are for other Pythons.

        With stated metadata (`dependency-metadata`), uv finds that out without running their code;
        but it takes that for packages of an index only.
        """
        project = self._project(script, target, target.full_version(script.requires_python))
        sources = error.packages - packages_from_elsewhere(project.script, project.settings)
        metadata = list_at(project.settings, "dependency-metadata")
        metadata = [*metadata, *({"name": name, "requires-dist": []} for name in sorted(sources))]
        project.settings = {**project.settings, "dependency-metadata": metadata}
        project.built |= sources
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as name:
            self._write(project, Path(name))
            outcome = self._compile(project, Path(name), "--format", _LOCK)
            text = self._clean(outcome.stderr, Path(name))
        if not sources or outcome.returncode == 0 or "requested Python version" not in text:
            return None
        return uv_messages.resolve_error(UvFailure(script, target, text), self._credentials)

    def _interpreter(self, target: Target, folder: Path) -> str:
        """Return the interpreter for uv: no flag means "free-threaded"."""
        if interpreter := self._options.interpreters.get(target.python):
            return interpreter
        if target.is_free_threaded:
            return free_threaded.fake_free_threaded_python(folder / "interpreter")
        return sys.executable

    def _clean(self, text: str, folder: Path | None = None) -> str:
        """Return uv's output without secrets and without the temporary folder's name."""
        text = redact(text, self._credentials)
        if folder is not None:
            text = text.replace(f"{folder}{os.sep}", "")
        lines = (line.rstrip() for line in text.splitlines() if uv_messages.is_relevant(line))
        return "\n".join(lines).strip()


def _packages_met(names: set[str], lock: Path, text: str) -> set[str]:
    """Return those of *names* in the lock, or after a failure in uv's output (*text*)."""
    if names and lock.is_file():
        return _locked_names(lock) & names
    return uv_messages.packages_named(names, text)


def _locked_names(lock: Path) -> set[str]:
    return {str(package.name) for package in _read_lock(lock).packages} if lock.is_file() else set()


def _read_lock(path: Path) -> Pylock:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    for package in document.get("packages", []):
        files = [*package.get("wheels", [])]
        files += [package[key] for key in ("directory", "archive", "sdist") if key in package]
        for file in files:
            if "path" in file:
                file["path"] = str((path.parent / file["path"]).resolve())
    return Pylock.from_dict(document)
