"""A uv lock beside a script (`eval.py.lock`, from `uv lock --script`), or of a project (`uv.lock`).

`uv run` uses its versions, so a build does too. They are passed to the resolver as constraints,
because the lock itself is universal: it has no libc floor, and may have versions without a file for
a target.
"""

from __future__ import annotations

import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offline_bundle.builder.fetch.credentials import Credentials, redact
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import admitted_pythons
from offline_bundle.builder.resolve import uv_process
from offline_bundle.builder.resolve.model import Artifact, Resolution, ResolveOptions
from offline_bundle.builder.resolve.settings import uv_settings
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError, OutOfDateError
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==")
_EXPORT = (
    "--locked --no-hashes --no-header --no-annotate --format requirements.txt "
    "--no-progress --color never --no-python-downloads"
)


@dataclass(frozen=True)
class ScriptLock:
    """The content of a lock that was made for a script or its project."""

    path: Path
    constraints: str
    """Versions as constraints, one `name==version ; marker` per line."""
    digests: Mapping[str, str]
    """File name -> sha256 of every file."""
    commits: Mapping[str, str]
    """Package name -> commit, for packages from git."""
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Package name -> sha256 of each file that is allowed, where a requirements file names them."""


@dataclass(frozen=True)
class Locking:
    """How locks are read."""

    uv: str
    """The executable."""
    options: ResolveOptions
    is_locked: bool = False
    """Raise OutOfDateError for a lock that is out of date, instead of a note."""


def uv_lock_path(script: Script) -> Path:
    """Return where `uv lock --script` writes a script's lock."""
    return script.path.with_name(f"{script.path.name}.lock")


def has_uv_lock(script: Script) -> bool:
    """Return whether the script has a uv lock; only a script with metadata of its own has one."""
    return script.has_own_header and uv_lock_path(script).is_file()


def read_script_locks(
    scripts: Iterable[Script], locking: Locking, credentials: Credentials
) -> tuple[dict[str, ScriptLock], list[str]]:
    """Return the locks by script name, and notes for the user.

    A lock that is out of date is not used, with a note, or raises OutOfDateError (exit 9); see
    `Locking`. Raises InputError (exit 2) for one that cannot be read.
    """
    locks: dict[str, ScriptLock] = {}
    notes: list[str] = []
    stale: list[str] = []
    for script in filter(has_uv_lock, scripts):
        selection = ["--script", str(script.path.resolve()), "--python", sys.executable]
        folder = uv_settings.script_folder(script)
        lock = _read(uv_lock_path(script), selection, folder, locking, credentials)
        if lock is None:
            stale.append(f"{uv_lock_path(script)} is out of date")
        else:
            locks[script.name] = lock
            notes.append(f"{script.path}: the versions are those of {lock.path.name}")
    if stale and locking.is_locked:
        raise OutOfDateError(
            "the locks do not match the scripts and options",
            problems=stale,
            hint="update them: uv lock --script",
        )
    renew = "and not used; renew it with `uv lock --script`"
    return locks, [*notes, *(f"{text}, {renew}" for text in stale)]


def read_project_lock(
    root: Path, groups: Sequence[str], requires_python: str | None, locking: Locking
) -> tuple[ScriptLock | None, str]:
    """Return the lock of the project at *root*, None if it is out of date, and a note.

    *groups* are its dependency groups to use. For a project, uv needs an interpreter that
    *requires_python* admits. Raises as `read_script_locks`.
    """
    path = root / "uv.lock"
    selection = ["--project", str(root), "--no-default-groups", "--no-emit-project"]
    selection += [part for group in groups for part in ("--group", group)]
    selection += ["--python", _admitted_interpreter(requires_python)]
    lock = _read(path, selection, root, locking)
    if lock is not None:
        return lock, f"the versions are those of {path.name} of the project"
    if locking.is_locked:
        raise OutOfDateError(f"{path} is out of date", hint="update it: uv lock")
    return None, f"{path.name} of the project is out of date and not used; renew it with `uv lock`"


def check_files(
    locks: Mapping[str, ScriptLock], selected: Iterable[tuple[Resolution, Sequence[Artifact]]]
) -> None:
    """Raise IntegrityError (exit 5) where files or commits differ from those that a lock pins."""
    problems: dict[str, None] = {}
    for resolution, artifacts in selected:
        lock = locks.get(resolution.script.name)
        if lock is None:
            continue
        for artifact in artifacts:
            problems |= dict.fromkeys(_differences(lock, artifact))
    if problems:
        raise IntegrityError(
            "the index or repository differs from what a lock pins",
            problems=tuple(problems),
            hint="update the lock, such as with `uv lock --script` or `uv lock`",
        )


def _differences(lock: ScriptLock, artifact: Artifact) -> Iterator[str]:
    pinned, actual = lock.digests.get(artifact.filename), artifact.hashes.get("sha256")
    if pinned and actual and pinned != actual:
        yield f"{lock.path}: {artifact.filename}: expected sha256 {pinned}, got {actual}"
    allowed = lock.hashes.get(artifact.name)
    if allowed and actual and actual not in allowed:
        yield f"{lock.path}: {artifact.filename}: its sha256 {actual} is not in the file"
    commit = lock.commits.get(artifact.name)
    if artifact.kind == "git" and commit and commit != artifact.commit:
        yield f"{lock.path}: {artifact.name}: expected commit {commit}, got {artifact.commit}"


def _read(
    path: Path,
    selection: Sequence[str],
    folder: Path | None,
    locking: Locking,
    credentials: Credentials | None = None,
) -> ScriptLock | None:
    """Return the lock at *path*, exported by uv; None where it is out of date.

    The configuration of the project with *folder* applies.
    """
    command = [locking.uv, "export", *selection, *_EXPORT.split()]
    command += uv_process.index_flags(locking.options)
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as work:
        variables = uv_process.index_variables(locking.options)
        configuration = uv_settings.merged_configuration(folder)
        process = uv_process.run_uv(command, Path(work), configuration, **variables)
    if "needs to be updated" in process.stderr:
        return None
    if process.returncode != 0:
        raise InputError(
            f"{path} cannot be used",
            problems=redact(process.stderr, credentials).strip().splitlines(),
            hint="create it again with `uv lock`, or remove it",
        )
    pins = [line for line in process.stdout.splitlines() if _PIN.match(line)]
    packages = tomllib.loads(path.read_text(encoding="utf-8")).get("package", [])
    return ScriptLock(
        path=path,
        constraints="\n".join(pins) + "\n",
        digests=dict(_digests(packages)),
        commits={
            package["name"]: package["source"]["git"].rpartition("#")[2]
            for package in packages
            if "git" in package.get("source", {})
        },
    )


def _admitted_interpreter(requires_python: str | None) -> str:
    for minor in admitted_pythons(requires_python):
        path = find_interpreter((3, int(minor.partition(".")[2])))
        if path:
            return path
    return sys.executable


def _digests(packages: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield name and sha256 of every file of a uv lock."""
    for package in packages:
        for file in (*package.get("wheels", ()), package.get("sdist", {})):
            algorithm, _, digest = file.get("hash", "").partition(":")
            if algorithm == "sha256":
                location: str = file.get("filename") or file.get("url") or file.get("path", "")
                yield location.rpartition("/")[2], digest
