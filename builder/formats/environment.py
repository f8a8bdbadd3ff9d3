"""Ready environments: made by uv from a bundle's wheels, and compiled, for any platform.

uv installs the wheels, by hash, for the target's platform. A Python of the target's minor version
compiles everything to bytecode, which is the same for every platform. The compiled files are
"unchecked" by hash (PEP 552): times on the share do not matter, and the same inputs give the same
bytes. What only the node knows, such as its interpreter, the launcher adds there, in an environment
of its own that links here.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from offline_bundle.builder.compose import Composition
from offline_bundle.builder.formats.base import FormatContext
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.wheelhouse.derived.compile_wheels import TEST_FOLDERS
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledLock
from offline_bundle.wheelhouse.runtime.errors import FetchError, InputError
from offline_bundle.wheelhouse.runtime.names import ENVIRONMENT_MARK
from offline_bundle.wheelhouse.runtime.processes import run_captured
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

_UV_FILES = {"_virtualenv.py", "_virtualenv.pth"}


@dataclass(frozen=True)
class EnvironmentMaker:
    """Makes ready environments of locks with the files of one composition."""

    composition: Composition
    context: FormatContext
    kind: str
    """What a lock gets, for notes."""
    _interpreters: dict[Target, str | None] = field(default_factory=dict)

    def make(self, script: str, key: str, lock: BundledLock, folder: Path) -> bool:
        """Make the environment of *lock*: packages, bytecode and mark, and no symbolic link.

        Return False, with a note, where this machine cannot make it. Raises FetchError (exit 4).
        """
        target = self._target(key)
        # Windows and free-threaded Pythons use other folders
        is_for_node = target.system == "windows" or target.is_free_threaded
        interpreter = None if is_for_node else self._interpreter(target)
        if interpreter is None:
            missing = f"no Python {target.python} is here"
            reason = "only the node can make it" if is_for_node else missing
            self.context.notes.append(f"{script}.py for {key} gets no {self.kind}: {reason}")
            return False
        with tempfile.TemporaryDirectory(prefix="uv-", dir=self.context.folder) as name:
            self._install(lock, target, interpreter, folder, Path(name))
        command = [interpreter, "-I", "-m", "compileall", "-qq", "-j", "0"]
        command += ["--invalidation-mode", "unchecked-hash", "-s", str(folder), str(folder / "lib")]
        tests = "|".join(sorted(TEST_FOLDERS))
        command += ["-x", f"^{re.escape(str(folder))}/lib/.*/({tests})/"]
        # Some packages have files that are not valid Python of this version: errors are ignored.
        run_captured(command)
        _remove_uv_records(folder)
        (folder / ENVIRONMENT_MARK).write_text(
            f"include-system-site-packages = false\nversion = {target.python}\n"
            "relocatable = true\n",
            encoding="ascii",
        )
        for path in list(_generic_files(folder)):
            path.unlink()
        return True

    def check_made(self, paths: Collection[str], name: str) -> None:
        """Raise InputError (exit 2) if there are no *paths* of the format *name*."""
        if not paths:
            raise InputError(
                f"--format {name}: no environment can be made here",
                problems=self.context.notes,
                hint="install a Python of the nodes' minor version here, such as by `uv python "
                f"install 3.12`; for Windows and free-threaded Pythons leave out --format {name}",
            )

    def _interpreter(self, target: Target) -> str | None:
        if target not in self._interpreters:
            self._interpreters[target] = find_interpreter(target.version)
        return self._interpreters[target]

    def _target(self, key: str) -> Target:
        bundled = self.composition.manifest.targets[key]
        return Target(bundled.python, bundled.platform)

    def _install(
        self, lock: BundledLock, target: Target, interpreter: str, folder: Path, scratch: Path
    ) -> None:
        self._link_wheels(lock, scratch / "wheels")
        requirements = scratch / "requirements.txt"
        requirements.write_bytes(self.context.read(self.composition, lock.requirements))
        uv = [self.context.uv, "--no-config", "--offline", "--no-progress", "--color", "never"]
        uv += ["--cache-dir", str(scratch / "cache")]
        flags = ["--relocatable", "--no-project", "--python", interpreter]
        _run([*uv, "venv", *flags, str(folder)], folder.name)
        flags = ["--no-index", "--find-links", str(scratch / "wheels"), "--require-hashes"]
        flags += ["--no-build", "--link-mode", "hardlink", "--allow-empty-requirements"]
        flags += ["--python-platform", target.platform, "--python-version", target.python]
        flags += ["--python", str(folder / "bin" / "python")]
        _run([*uv, "pip", "sync", *flags, str(requirements)], lock.lock)

    def _link_wheels(self, lock: BundledLock, folder: Path) -> None:
        folder.mkdir()
        for package in lock.packages.values():
            source = self.context.find(self.composition, package.wheel)
            assert isinstance(source, Path)  # noqa: S101 - wheels are files; for mypy
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
    outcome = run_captured(command)
    if outcome.returncode:
        raise FetchError(
            f"the environment for {subject} could not be made",
            problems=outcome.stderr.strip().splitlines(),
            hint="see uv's messages above; without --format the launcher makes the "
            "environment on each node",
        )


def _generic_files(folder: Path) -> Iterator[Path]:
    """Yield links and what every environment has, in contrast to what packages installed."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        is_generic = (len(parts) == 1 and path.name != ENVIRONMENT_MARK) or (
            parts[0] == "bin" and _is_generic(path.name)
        )
        if path.is_symlink() or (path.is_file() and (is_generic or path.name in _UV_FILES)):
            yield path


def _is_generic(name: str) -> bool:
    return name.startswith(("activate", "deactivate", "pydoc")) or name.endswith(
        (".bat", ".ps1", ".nu")
    )
