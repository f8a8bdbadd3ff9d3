"""Compile the wheels of a bundle anew, and compare with its bytecode: `verify --recompile`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from offline_bundle.wheelhouse.derived.bytecode import compile_wheels, find_compiler
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.bytecode import BYTECODE, read_modules, split_bytecode_path
from offline_bundle.wheelhouse.runtime.errors import BundleError, IntegrityError
from offline_bundle.wheelhouse.runtime.launcher.trusted_bundle import TrustedBundle


@dataclass(frozen=True)
class RecompileReport:
    """The result of compiling anew."""

    compared: int
    """Number of bytecode files that were compiled anew."""
    different: tuple[str, ...]
    """Paths of those with other modules or other bytecode, or without a wheel."""
    unchecked: Mapping[str, tuple[str, ...]]
    """Python that is not on this machine -> paths of its bytecode."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about what was not checked."""
        return tuple(
            f"bytecode not compiled anew: Python {python} is not on this machine "
            f"(such as: {paths[0]})"
            for python, paths in self.unchecked.items()
        )


def recompile(directory: Path, manifest: Manifest) -> RecompileReport:
    """Compile the wheels of the verified bundle at *directory*, and compare each module."""
    by_python: dict[str, list[str]] = {}
    for path in sorted(path for path in manifest.files if path.startswith(BYTECODE)):
        by_python.setdefault(split_bytecode_path(path)[1], []).append(path)
    compared, different, unchecked = 0, [], {}
    for python, paths in by_python.items():
        interpreter = find_compiler(python)
        if interpreter is None:
            unchecked[python] = tuple(paths)
            continue
        compared += len(paths)
        different += _different(directory, manifest, interpreter, paths)
    return RecompileReport(compared, tuple(different), unchecked)


def raise_for_different(report: RecompileReport) -> None:
    """Raise IntegrityError (exit 5) that names the files with other bytecode."""
    if report.different:
        raise IntegrityError(
            "bytecode differs from what its wheels compile to",
            problems=report.different,
            hint="compare with the release of Python and the version of offline-bundle that "
            "compiled it; if both are the same, do not use the bundle, or build with --no-bytecode",
        )


def _different(
    directory: Path, manifest: Manifest, interpreter: str, paths: Iterable[str]
) -> list[str]:
    wheels = {path: split_bytecode_path(path)[0] for path in paths}
    digests = {
        path: manifest.files[wheel].sha256 or ""
        for path, wheel in wheels.items()
        if wheel in manifest.files
    }
    bundle = TrustedBundle(str(directory), manifest, ())
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        sources: dict[str, Path] = {}
        for path, digest in digests.items():
            if digest not in sources:
                sources[digest] = Path(folder, f"{digest}.whl")
                _copy(bundle, wheels[path], sources[digest])
        compiled = compile_wheels(interpreter, sources, Path(folder))
        return [
            path
            for path in wheels
            if path not in digests or not _is_same(bundle.read(path), compiled[digests[path]])
        ]


def _copy(bundle: TrustedBundle, wheel: str, target: Path) -> None:
    """Copy a wheel: another user may replace the one in the bundle. Raises BundleError."""
    try:
        bundle.copy(wheel, str(target))
    except OSError as error:
        hint = "free some space, or set TMPDIR to another folder"
        raise BundleError(f"{wheel} cannot be copied: {error.strerror}", hint=hint) from error


def _is_same(bundled: bytes, compiled: Path) -> bool:
    """Return whether both have the same modules; compression may differ between machines."""
    try:
        return sorted(read_modules(bundled)) == sorted(read_modules(compiled.read_bytes()))
    except IntegrityError:
        return False
