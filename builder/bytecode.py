"""Add the bytecode of a bundle's wheels: compiled once, kept in the bundle and the user's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from offline_bundle.builder.compose import Composition
from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.model import Download, FetchProgress
from offline_bundle.builder.model import ResolvedLock
from offline_bundle.wheelhouse.derived.bytecode import (
    Compiler,
    compile_wheels,
    find_compiler,
    needed_bytecode,
)
from offline_bundle.wheelhouse.derived.complete import file_entry
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest
from offline_bundle.wheelhouse.runtime.bytecode import BYTECODE, split_bytecode_path
from offline_bundle.wheelhouse.runtime.errors import FetchError, IntegrityError, first_problems
from offline_bundle.wheelhouse.store.writer import BundleWriter

FOLDER = "bytecode"
"""Folder in the user's cache that keeps compiled files between builds."""
_LEAVE_OUT = "or leave bytecode out with --no-bytecode"


@dataclass
class BytecodeAdder:
    """Adds bytecode to a composition."""

    writer: BundleWriter
    cache: Path
    """Folder that keeps compiled files between builds."""
    on_step: Callable[[str], None]
    """Receives the name of the step, if anything is compiled."""
    locked: Manifest | None = None
    """The manifest in force, if the same bytes must come out (`--locked`)."""
    notes: list[str] = field(default_factory=list)

    def add(self, composition: Composition) -> Composition:
        """Return *composition* with the bytecode that this machine can compile.

        Raises FetchError (exit 4), with *locked* also IntegrityError (exit 5) for other bytes.
        """
        missing = self._missing(composition.manifest)
        compiled: dict[str, Path] = {}
        unavailable = []
        for python, paths in sorted(missing.items()):
            interpreter = find_compiler(python)
            if interpreter:
                self.on_step(f"Compiling bytecode for Python {python}")
                compiled |= self._compile(composition, interpreter, paths)
            else:
                unavailable.append(python)
        entries = {path: file_entry(file) for path, file in compiled.items()}
        if self.locked:
            self._check_reproduced(missing, unavailable, entries)
        if unavailable:
            self.notes.append(
                f"no bytecode for Python {', '.join(unavailable)}, which is not on this machine: "
                "jobs compile what they import"
            )
        dropped = {path for python in unavailable for path in missing[python]}
        files = {p: file for p, file in composition.manifest.files.items() if p not in dropped}
        manifest = replace(composition.manifest, files=files | entries)
        return replace(composition, manifest=manifest).adding(compiled)

    def _missing(self, manifest: Manifest) -> dict[str, list[str]]:
        """Return the paths of bytecode that the bundle does not have yet, by Python."""
        missing: dict[str, list[str]] = {}
        for path in sorted(wanted_bytecode(manifest, self.locked)):
            entry = manifest.files.get(path)
            if entry is None or self.writer.find_file(path, entry.sha256 or "") is None:
                missing.setdefault(split_bytecode_path(path)[1], []).append(path)
        return missing

    def _compile(
        self, composition: Composition, interpreter: str, paths: Iterable[str]
    ) -> dict[str, Path]:
        """Return the compiled file for each of *paths*."""
        wheels = {path: split_bytecode_path(path)[0] for path in paths}
        digests = {
            path: composition.manifest.files[wheel].sha256 or "" for path, wheel in wheels.items()
        }
        sources = {digests[path]: self.writer.directory / wheel for path, wheel in wheels.items()}
        for path, wheel in wheels.items():
            content = composition.contents.get(wheel)
            if content is not None and not isinstance(content, bytes):
                sources[digests[path]] = content
        compiled = compile_wheels(interpreter, sources, self.cache)
        return {path: compiled[digest] for path, digest in digests.items()}

    def _check_reproduced(
        self,
        missing: dict[str, list[str]],
        unavailable: list[str],
        entries: dict[str, BundledFile],
    ) -> None:
        """Raise an error for bytecode of the locked manifest that is missing or different."""
        before = self.locked.files if self.locked else {}
        needed = [path for python in unavailable for path in missing[python] if path in before]
        if needed:
            pythons = ", ".join(unavailable)
            raise FetchError(
                f"bytecode is missing, and Python {pythons} to compile it is not on this machine",
                problems=first_problems(needed),
                hint=f"install Python {pythons}, such as by `uv python install`; {_LEAVE_OUT}",
            )
        changed = [
            path
            for path, entry in entries.items()
            if path in before and before[path].sha256 != entry.sha256
        ]
        if changed:
            raise IntegrityError(
                "bytecode has other bytes now",
                problems=first_problems(changed),
                hint="use the release of Python and the version of offline-bundle that compiled "
                f"it; {_LEAVE_OUT}",
            )


class EarlyCompilation:
    """Compiles wheels while others are being fetched, and forwards the progress of the fetch.

    `BytecodeAdder` uses the compiled files. What failed here, it compiles again, and raises the
    error. As a context manager, this waits until everything is compiled.
    """

    def __init__(
        self, progress: FetchProgress, locks: Iterable[ResolvedLock], downloads: DownloadCache
    ) -> None:
        self.begin, self.advance = progress.begin, progress.advance
        self._progress = progress
        self._downloads = downloads
        self._pythons: dict[str, set[str]] = {}
        self._compilers: dict[str, Compiler | None] = {}
        self._stack = ExitStack()
        for lock in locks:
            for artifact in lock.artifacts:
                digest = artifact.hashes.get("sha256")
                if artifact.kind == "wheel" and digest:
                    python = lock.resolution.target.python
                    self._pythons.setdefault(digest, set()).add(python)

    def __enter__(self) -> Self:
        """Start; the processes start with the first wheel."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the processes, or end them after an error."""
        with self._stack:
            for compiler in filter(None, self._compilers.values()) if kind is None else ():
                with suppress(FetchError):
                    compiler.finish()

    def done(self, download: Download) -> None:
        """Count one file as complete, and compile it."""
        self._progress.done(download)
        digest = download.hashes.get("sha256", "")
        for python in self._pythons.get(digest, ()):
            if python not in self._compilers:
                self._compilers[python] = self._start(python)
            compiler = self._compilers[python]
            if compiler:
                compiler.add(digest, self._downloads.path_of(digest))

    def _start(self, python: str) -> Compiler | None:
        interpreter = find_compiler(python)
        if interpreter is None:
            return None
        return self._stack.enter_context(Compiler(interpreter, self._downloads.root / FOLDER))


def wanted_bytecode(manifest: Manifest, locked: Manifest | None) -> set[str]:
    """Return the paths of the bytecode that a build adds. Pure.

    A *locked* manifest decides about its own scripts.
    """
    kept = {path for path in locked.files if path.startswith(BYTECODE)} if locked else set()
    scripts = manifest.scripts.keys() - (locked.scripts.keys() if locked else set())
    return kept | needed_bytecode(manifest, scripts) if kept or not locked else kept


def without_bytecode(composition: Composition) -> Composition:
    """Return *composition* without any bytecode (`--no-bytecode`)."""
    files = {
        path: file
        for path, file in composition.manifest.files.items()
        if not path.startswith(BYTECODE)
    }
    return replace(composition, manifest=replace(composition.manifest, files=files))
