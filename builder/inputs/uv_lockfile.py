"""A uv lock beside a script (`eval.py.lock`, from `uv lock --script`): whoever has one expects its versions.

`uv run` takes them, so a build does too. What such a lock pins is handed to the resolver as constraints, because the
lock itself is universal: it knows no libc floor, and may hold versions without a file for a target.
"""

from __future__ import annotations

import re
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.builder.fetch.credentials import redact
from offline_bundle.builder.resolve import uv_process
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError, OutOfDateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from offline_bundle.builder.fetch.credentials import Credentials
    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.resolve.model import Artifact, Resolution, ResolveOptions

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==")


@dataclass(frozen=True)
class ScriptLock:
    """What a script's uv lock says."""

    path: Path
    constraints: str
    """Versions as constraints, one `name==version ; marker` per line."""
    digests: Mapping[str, str]
    """File name -> sha256 of every file that it names."""
    commits: Mapping[str, str]
    """Package name -> commit, of those from git."""


def uv_lock_path(script: Script) -> Path:
    """Where `uv lock --script` puts a script's lock."""
    return script.path.with_name(f"{script.path.name}.lock")


def has_uv_lock(script: Script) -> bool:
    """Whether there is one."""
    return uv_lock_path(script).is_file()


def read_script_locks(
    scripts: Iterable[Script],
    uv: str,
    options: ResolveOptions,
    credentials: Credentials,
    *,
    is_locked: bool,
) -> tuple[dict[str, ScriptLock], list[str]]:
    """Script name -> its lock, and what the user should know of them.

    A lock that no longer answers its script is left alone, with a note; with *is_locked* it raises OutOfDateError
    (exit 9). Raises InputError (exit 2) for one that cannot be read.
    """
    locks: dict[str, ScriptLock] = {}
    notes: list[str] = []
    stale: list[str] = []
    for script in filter(has_uv_lock, scripts):
        lock = _read(script, uv, options, credentials)
        if lock is None:
            stale.append(f"{uv_lock_path(script)} is out of date")
        else:
            locks[script.name] = lock
            notes.append(f"{script.path}: the versions are those of {lock.path.name}")
    if stale and is_locked:
        raise OutOfDateError(
            "the locks do not answer what is asked",
            problems=stale,
            hint="renew them: uv lock --script",
        )
    return locks, [
        *notes,
        *(f"{text}, and not used; renew it with `uv lock --script`" for text in stale),
    ]


def check_files(
    locks: Mapping[str, ScriptLock], chosen: Iterable[tuple[Resolution, Sequence[Artifact]]]
) -> None:
    """Raise IntegrityError (exit 5) where an index offers another file than a lock pins, or a branch another commit."""
    problems: dict[str, None] = {}
    for resolution, choices in chosen:
        lock = locks.get(resolution.script.name)
        if lock is None:
            continue
        for choice in choices:
            pinned, found = lock.digests.get(choice.filename), choice.hashes.get("sha256")
            if pinned and found and pinned != found:
                problems[
                    f"{lock.path}: {choice.filename} has sha256 {pinned} there, the index offers {found}"
                ] = None
            commit = lock.commits.get(choice.name)
            if choice.kind == "git" and commit and commit != choice.commit:
                problems[
                    f"{lock.path}: {choice.name} is at commit {commit} there, and at {choice.commit} now"
                ] = None
    if problems:
        raise IntegrityError(
            "what a lock pins is not what there is",
            problems=tuple(problems),
            hint="renew the lock: uv lock --script",
        )


def _read(
    script: Script, uv: str, options: ResolveOptions, credentials: Credentials
) -> ScriptLock | None:
    path = uv_lock_path(script)
    command = [
        uv,
        "export",
        "--script",
        str(script.path.resolve()),
        "--locked",
        "--no-hashes",
        "--no-header",
    ]
    command += [
        "--no-annotate",
        "--format",
        "requirements.txt",
        "--no-progress",
        "--color",
        "never",
    ]
    command += [
        "--python",
        sys.executable,
        "--no-python-downloads",
        *uv_process.index_flags(options),
    ]
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        outcome = uv_process.run_uv(command, Path(folder), **uv_process.index_variables(options))
    if "needs to be updated" in outcome.stderr:
        return None
    if outcome.returncode != 0:
        hint = "make it anew: uv lock --script; or remove it"
        raise InputError(
            f"{path} cannot be used",
            problems=redact(outcome.stderr, credentials).strip().splitlines(),
            hint=hint,
        )
    pins = [line for line in outcome.stdout.splitlines() if _PIN.match(line)]
    packages = tomllib.loads(path.read_text(encoding="utf-8")).get("package", [])
    files = [
        file
        for package in packages
        for file in (*package.get("wheels", ()), package.get("sdist", {}))
    ]
    return ScriptLock(
        path=path,
        constraints="\n".join(pins) + "\n",
        digests={
            (file.get("filename") or file.get("url") or file.get("path", "")).rpartition("/")[2]:
            file["hash"].removeprefix("sha256:") for file in files if file.get("hash", "").startswith("sha256:")
        },
        commits={
            package["name"]: package["source"]["git"].rpartition("#")[2]
            for package in packages if "git" in package.get("source", {})
        },
    )  # fmt: skip
