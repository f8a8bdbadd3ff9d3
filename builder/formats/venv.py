"""The format `venv`: a ready environment per script and target, used in place from the share.

uv installs the bundle's wheels, by hash, for the target's platform. A Python of the target's minor
version compiles everything to bytecode, which is the same for every platform. The compiled files
are "unchecked" by hash (PEP 552): times on the share do not matter, and the same inputs give the
same bytes. What only the node knows, such as its interpreter, the launcher adds there, in an
environment of its own that links here.

    envs/SCRIPT/TARGET/LOCK/    pyvenv.cfg, bin/, lib/python3.12/site-packages/; LOCK: sha256 prefix
    envs/bin/uv                 the uv shim: `uv run SCRIPT` starts the launcher
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.builder.formats.base import locks_of, with_locks
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.wheelhouse.runtime.errors import FetchError, InputError
from offline_bundle.wheelhouse.runtime.names import ENVIRONMENT_MARK
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offline_bundle.builder.compose import Composition
    from offline_bundle.builder.formats.base import FormatContext
    from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledLock, Manifest

FOLDER = "envs"
UV_SHIM = f"{FOLDER}/bin/uv"
_UV_FILES = {"_virtualenv.py", "_virtualenv.pth"}


class VenvFormat:
    """`Format` of ready environments."""

    def is_incomplete(self, manifest: Manifest) -> bool:
        """Return True if a lock has no environment."""
        return any(lock.environment is None for _, _, lock in locks_of(manifest))

    def add(self, composition: Composition, context: FormatContext) -> Composition:
        """Add an environment for each lock without one; note those that cannot be made here."""
        manifest = composition.manifest
        files = {UV_SHIM: _write_uv_shim(composition, context)}
        environments: dict[tuple[str, str], str] = {}
        for name, key, lock in locks_of(manifest):
            if lock.environment:
                environments[name, key] = lock.environment
                continue
            target = Target(manifest.targets[key].python, manifest.targets[key].platform)
            interpreter = find_interpreter(target.version) if _is_supported(target) else None
            if interpreter is None:
                reason = (
                    f"no Python {target.python} is here"
                    if _is_supported(target)
                    else "only the node can make it"
                )
                context.notes.append(f"{name}.py for {key} gets no ready environment: {reason}")
                continue
            folder = context.folder / FOLDER / str(len(environments))
            _make_environment(composition, context, lock, target, interpreter, folder)
            path = f"{FOLDER}/{name}/{key}/{(manifest.files[lock.lock].sha256 or '')[:16]}"
            environments[name, key] = path
            files |= {
                f"{path}/{file.relative_to(folder).as_posix()}": file for file in _files(folder)
            }
        if not environments:
            raise InputError(
                "--format venv: no environment can be made here",
                problems=context.notes,
                hint="install a Python of the nodes' minor version here, such as by "
                "`uv python install 3.12`; "
                "for Windows and free-threaded Pythons leave out --format venv",
            )
        return with_locks(
            composition,
            lambda name, key, lock: replace(lock, environment=environments.get((name, key))),
            files,
        )


def _write_uv_shim(composition: Composition, context: FormatContext) -> Path:
    path = context.folder / "uv-shim"
    path.write_bytes(context.read(composition, "runtime/launcher/prepare/uv_shim.py"))
    path.chmod(0o755)
    return path


def _is_supported(target: Target) -> bool:
    """Return False for Windows and free-threaded Pythons, which use other folders."""
    return target.system != "windows" and not target.is_free_threaded


def _make_environment(  # noqa: PLR0913, PLR0917 - from what, with what, where
    composition: Composition,
    context: FormatContext,
    lock: BundledLock,
    target: Target,
    interpreter: str,
    folder: Path,
) -> None:
    with tempfile.TemporaryDirectory(prefix="uv-", dir=context.folder) as name:
        scratch = Path(name)
        _link_wheels(composition, context, lock, scratch / "wheels")
        requirements = scratch / "requirements.txt"
        requirements.write_bytes(context.read(composition, lock.requirements))
        uv = [context.uv, "--no-config", "--offline", "--no-progress", "--color", "never"]
        uv += ["--cache-dir", str(scratch / "cache")]
        flags = ["--relocatable", "--no-project", "--python", interpreter]
        _run([*uv, "venv", *flags, str(folder)], folder.name)
        flags = ["--no-index", "--find-links", str(scratch / "wheels"), "--require-hashes"]
        flags += ["--no-build", "--link-mode", "hardlink", "--allow-empty-requirements"]
        flags += ["--python-platform", target.platform, "--python-version", target.python]
        flags += ["--python", str(folder / "bin" / "python")]
        _run([*uv, "pip", "sync", *flags, str(requirements)], lock.lock)
    command = [interpreter, "-I", "-m", "compileall", "-qq", "-j", "0"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(folder), str(folder / "lib")]
    # Some packages have files that are not valid Python of this version: errors are ignored.
    subprocess.run(command, capture_output=True, check=False)
    _remove_uv_records(folder)
    (folder / ENVIRONMENT_MARK).write_text(
        f"include-system-site-packages = false\nversion = {target.python}\nrelocatable = true\n",
        encoding="ascii",
    )


def _link_wheels(
    composition: Composition, context: FormatContext, lock: BundledLock, folder: Path
) -> None:
    folder.mkdir()
    for package in lock.packages.values():
        source = context.find(composition, package.wheel)
        assert isinstance(source, Path)  # noqa: S101 - wheels are files; narrows the type for mypy
        (folder / Path(package.wheel).name).symlink_to(source.absolute())


def _remove_uv_records(folder: Path) -> None:
    """Remove uv's record of a local wheel's time: it differs at every build."""
    for cache_record in folder.rglob("*.dist-info/uv_cache.json"):
        cache_record.unlink()
        record = cache_record.with_name("RECORD")
        lines = record.read_bytes().splitlines(keepends=True)
        record.unlink()  # it may be a link into uv's cache
        record.write_bytes(b"".join(line for line in lines if b"/uv_cache.json," not in line))


def _run(command: Sequence[str], subject: str) -> None:
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise FetchError(
            f"the environment for {subject} could not be made",
            problems=outcome.stderr.strip().splitlines(),
            hint="see uv's messages above; without --format venv the launcher makes the "
            "environment on each node",
        )


def _files(folder: Path) -> Iterator[Path]:
    """Yield what packages installed, and the mark; not what every environment has."""
    yield folder / ENVIRONMENT_MARK
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_script = parts[0] == "bin"
        is_generic = len(parts) == 1 or (
            is_script and (path.is_symlink() or _is_generic(path.name))
        )
        if is_generic or path.name in _UV_FILES:
            continue
        if path.is_file() and not path.is_symlink():
            yield path


def _is_generic(name: str) -> bool:
    return name.startswith(("activate", "deactivate", "pydoc")) or name.endswith(
        (".bat", ".ps1", ".nu")
    )
