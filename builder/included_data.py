"""Data for `data/` in a bundle, such as models, browsers and corpora, named by `--include`.

Scripts find it through OFFLINE_BUNDLE_DATA. As for wheels, a file in it never changes: other data
needs another name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from offline_bundle.builder.compose import Composition
from offline_bundle.wheelhouse.derived.complete import file_entry
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest
from offline_bundle.wheelhouse.runtime.disk.files import check_space, file_digest
from offline_bundle.wheelhouse.runtime.disk.paths import path_problems
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    InputError,
    IntegrityError,
    first_problems,
    translate_os_errors,
)
from offline_bundle.wheelhouse.runtime.names import DATA
from offline_bundle.wheelhouse.store.writer import BundleWriter


@dataclass(frozen=True)
class IncludedData:
    """Files to include."""

    names: tuple[str, ...] = ()
    """Files and folders in `data/`."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """By path in the bundle."""


def read_included(texts: Sequence[str]) -> IncludedData:
    """Find all files of `PATH` or `NAME=PATH`, also behind links.

    Raises InputError (exit 2) for all paths that are missing, or that a bundle cannot have.
    """
    files: dict[str, Path] = {}
    names: list[str] = []
    problems = []
    for text in texts:
        name, path = _split(text)
        names.append(name)
        try:
            found = dict(_files(path, f"{DATA}/{name}"))
        except OSError as error:
            problems.append(f"--include {text}: {error.filename}: {error.strerror}")
            continue
        files |= found
        if not found:
            problems.append(f"--include {text}: no such file, or a folder without files")
    problems += [f"two paths are named {name}" for name in set(names) if names.count(name) > 1]
    problems += [f"{path}: {reason}" for path, reason in path_problems(files)]
    problems += [f"{path} is not a regular file" for path in files.values() if not path.is_file()]
    if problems:
        hint = "correct the paths; give data another name with --include NAME=PATH"
        raise InputError("data cannot be included", problems=first_problems(problems), hint=hint)
    return IncludedData(tuple(sorted(names)), files)


def add_data(
    composition: Composition, data: IncludedData, scripts: Sequence[str], writer: BundleWriter
) -> Composition:
    """Add *data*, which the named *scripts* need; copy the files that the bundle does not have.

    Raises IntegrityError (exit 5) where the bundle has other data of the same name.
    """
    if not data.names:
        return composition
    with translate_os_errors(writer.directory):
        entries = {path: file_entry(file) for path, file in data.files.items()}
        _check_unchanged(composition.manifest, entries)
        missing = {
            path: data.files[path]
            for path, entry in entries.items()
            if writer.find_file(path, entry.sha256 or "") is None
        }
        check_space(writer.directory, sum(entries[path].size or 0 for path in missing))
        contents = {
            path: _copy(file, writer.work_folder / f"data-{number}", entries[path])
            for number, (path, file) in enumerate(missing.items())
        }
    manifest = composition.manifest
    bundled = {name: replace(manifest.scripts[name], data=data.names) for name in scripts}
    manifest = replace(
        manifest, scripts={**manifest.scripts, **bundled}, files={**manifest.files, **entries}
    )
    return replace(composition, manifest=manifest).adding(contents)


def _split(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not text or (equals and not path):  # an unset variable, not the working folder
        raise InputError(f"--include {text}: the path is empty", hint="name a file or folder")
    if equals and "/" not in name:
        return name, Path(path)
    return Path(os.path.abspath(text)).name, Path(text)  # noqa: PTH100 - the name of a link stays


def _files(path: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield path in the bundle and real path of each file; a link to a parent folder is left out.

    Raises OSError for a folder that cannot be read.
    """
    pending: list[tuple[Path, str, frozenset[str]]] = [(path, name, frozenset())]
    while pending:
        path, name, parents = pending.pop()
        real = os.path.realpath(path)
        if path.is_dir():
            parents |= {real}
            children = [(child, f"{name}/{child.name}", parents) for child in path.iterdir()]
            pending += [child for child in children if os.path.realpath(child[0]) not in parents]
        elif path.exists() or path.is_symlink():
            yield name, Path(real)


def _check_unchanged(manifest: Manifest, entries: Mapping[str, BundledFile]) -> None:
    problems = [
        f"{path}: sha256 {manifest.files[path].sha256} in the bundle, {entry.sha256} now"
        for path, entry in entries.items()
        if path in manifest.files and manifest.files[path].sha256 != entry.sha256
    ]
    if problems:
        raise IntegrityError(
            "the bundle already has data of the same name with other bytes",
            problems=first_problems(problems),
            hint="files of a bundle never change: give the data another name with "
            "--include NAME=PATH",
        )


def _copy(file: Path, copy: Path, entry: BundledFile) -> Path:
    """Copy *file*: a link would let a later change of the original into the bundle."""
    shutil.copyfile(file, copy)
    if file_digest(copy) != entry.sha256:
        raise BundleError(f"{file} changed while it was read", hint="build again")
    return copy
