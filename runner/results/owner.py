"""The owner of a results folder: the project whose results it contains; others are refused."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from offline_bundle.runner.model import ResultsOrigin
from offline_bundle.runner.results.documents import ODD_JSON, read_document
from offline_bundle.wheelhouse.runtime.disk.files import write_atomic
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

OWNER_NAME = ".offline-bundle.json"


@dataclass(frozen=True)
class ResultsOwner:
    """The project whose results a folder contains."""

    project: str
    name: str
    engine: str = "hps"
    origin: ResultsOrigin = field(default_factory=ResultsOrigin)


def is_free(directory: Path) -> bool:
    """Return True if a new project can use *directory*: there is none, or it is empty."""
    try:
        return not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
    except OSError as error:
        hint = "name another folder"
        raise BundleError(f"{directory} cannot be read: {error.strerror}", hint=hint) from error


def check_empty(directory: Path) -> None:
    """Raise InputError if a new project cannot use *directory*. Call it before jobs run."""
    if not is_free(directory):
        raise InputError(
            f"{directory} exists and is not empty; nothing was submitted",
            hint="name another directory with --download, or add --overwrite to replace the "
            "results in it",
        )


def check_writable(directory: Path) -> None:
    """Raise BundleError if results cannot be written to *directory*. Call it before jobs run."""
    path = directory.absolute()
    try:
        nearest = next(folder for folder in (path, *path.parents) if folder.exists())
        with tempfile.TemporaryFile(dir=nearest, buffering=0) as file:
            file.write(b"full?")
    except OSError as error:
        raise _unusable(directory, error) from error


def read_owner(directory: Path) -> ResultsOwner | None:
    """Return the owner that a results folder records, or None."""
    try:
        found = read_document(directory / OWNER_NAME)
        submitted = found.get("submitted")
        return ResultsOwner(
            str(found["project"]),
            str(found.get("name")),
            str(found.get("engine", "hps")),
            ResultsOrigin(
                datetime.fromisoformat(submitted) if submitted else None,
                str(found.get("bundle") or ""),
                str(found.get("command") or ""),
            ),
        )
    except (OSError, KeyError, AttributeError, TypeError, *ODD_JSON):
        return None


def find_owner(text: str) -> ResultsOwner | None:
    """Return the owner of the results folder *text*, or None if it is the name of a project.

    Raises `InputError` for a path without results.
    """
    directory = Path(text)
    owner = read_owner(directory)
    if owner is None and (os.sep in text or text in {".", ".."}):
        what = "has no results of jobs" if directory.is_dir() else "does not exist"
        raise InputError(
            f"{text} {what}",
            hint="name a results folder, or list projects with `offline-bundle jobs`",
        )
    return owner


def lock_to_project(directory: Path, owner: ResultsOwner) -> None:
    """Record *owner* in *directory*; raise InputError if it contains anything else."""
    try:
        make_own_folder(directory, "--download")
        found = read_owner(directory)
        foreign = found is None and any(directory.iterdir())
        if foreign or (found is not None and found.project != owner.project):
            contents = "other files" if found is None else f"results of the project {found.name}"
            raise InputError(
                f"{directory} contains {contents}; nothing was downloaded or changed",
                hint="name another directory with --download",
            )
        if found is None or owner.origin != ResultsOrigin():
            content = json.dumps(_owner_document(owner)).encode()
            write_atomic(directory / OWNER_NAME, content, mode=0o666, durable=True)
    except OSError as error:
        raise _unusable(directory, error) from error


def make_own_folder(directory: Path, option: str) -> None:
    """Make a folder for jobs; raise InputError if another user owns it, OSError if it cannot be."""
    # not writable by a group, whatever the umask: jobs run the files in it
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if os.name != "nt" and os.getuid() and directory.stat().st_uid not in {os.getuid(), 0}:
        raise InputError(
            f"{directory} belongs to another user: that one could replace the files of jobs",
            hint=f"name a folder of yours with {option}; it is created if it does not exist",
        )


def _unusable(directory: Path, error: OSError) -> BundleError:
    hint = "name a writable directory with --download"
    return BundleError(f"{directory} cannot be used: {error.strerror}", hint=hint)


def _owner_document(owner: ResultsOwner) -> dict[str, str]:
    origin = owner.origin
    return {
        "project": owner.project,
        "name": owner.name,
        "engine": owner.engine,
        "submitted": origin.submitted.isoformat() if origin.submitted else "",
        "bundle": origin.bundle,
        "command": origin.command,
    }
