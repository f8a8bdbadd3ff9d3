"""The files that every job gets: the script, `--input` files, and their paths in the job's folder.

    >>> files, problems = plan_inputs(Path("work/eval.py"), [Path("work/data")])
    >>> [file.path for file in files]
    ['eval.py', 'data/values.csv']

A path is relative to the script's folder if the file is below it, else to the current folder, else
it is the name. Files of a folder keep their paths below it; links to files are followed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from offline_bundle.runner.job_files.names import RESERVED

_SKIPPED_FOLDERS = ("__pycache__",)
_READ_ONLY = 0o555
INPUTS = "inputs"
"""Folder of the shared copy, where jobs work in the results folder."""


@dataclass(frozen=True)
class InputFile:
    """A file on this machine, and its path in the folder of every job."""

    source: Path
    path: str
    """Relative, with `/`."""

    @property
    def top(self) -> str:
        """The first part of the path."""
        return self.path.partition("/")[0]


def plan_inputs(script: Path, given: Sequence[Path]) -> tuple[tuple[InputFile, ...], list[str]]:
    """Return the script and all files of *given* files and folders, sorted; and the problems.

    Problems are paths that do not exist, are not regular files, or are the same for two files.
    """
    problems: list[str] = []
    files = {script.name: InputFile(script, script.name)}
    for path in given:
        for file in _expand(path, script, problems):
            taken = files.setdefault(file.path, file)
            if not _is_same(taken.source, file.source):
                problems.append(f"two files have the path {file.path}")
    problems += _path_problems(files)
    first, *others = files.values()
    return (first, *sorted(others, key=lambda file: file.path)), problems


def write_inputs(files: Sequence[InputFile], folder: Path) -> tuple[Path, ...]:
    """Copy the files into *folder*, read-only: all jobs share this copy. Raises OSError.

    Return the files and folders directly in *folder*: those that a job needs links to.
    """
    folder.mkdir()
    for file in files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.source, target)
        target.chmod(file.source.stat().st_mode & _READ_ONLY)
    return tuple(folder / name for name in dict.fromkeys(file.top for file in files))


def link_inputs(sources: Sequence[Path], directory: Path) -> None:
    """Link files into a job's *directory*, those of folders in folders of its own: `cp -rs`."""
    for source in sources:
        for path in [source] if source.is_file() else source.rglob("*"):
            target = directory / path.relative_to(source.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                target.symlink_to(path)


def _expand(path: Path, script: Path, problems: list[str]) -> Iterator[InputFile]:
    """Yield the files of one `--input`."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are written
    relative = _relative(absolute, Path(os.path.abspath(script)).parent)  # noqa: PTH100
    if path.is_file():
        yield InputFile(path, relative.as_posix())
    elif not path.is_dir():
        problems.append(f"{path} is not a file or a folder")
    elif _is_same(path, script.parent) or script.resolve().is_relative_to(path.resolve()):
        problems.append(f"{path} contains the script: name the files or folders in it")
    else:
        found = list(_walk(path, problems))
        yield from (InputFile(path / name, (relative / name).as_posix()) for name in found)
        if not found:
            problems.append(f"{path} has no files")


def _relative(path: Path, folder: Path) -> PurePosixPath:
    for base in (folder, Path.cwd()):
        if path != base and path.is_relative_to(base):
            return PurePosixPath(path.relative_to(base).as_posix())
    return PurePosixPath(path.name)


def _walk(folder: Path, problems: list[str]) -> Iterator[str]:
    """Yield the relative paths of the files below a folder."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        problems += [
            f"{Path(parent, name)} is a link to a folder: name that folder"
            for name in folders
            if Path(parent, name).is_symlink()
        ]
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file():
                yield path.relative_to(folder).as_posix()
            else:
                problems.append(f"{path} is not a regular file")


def _path_problems(files: dict[str, InputFile]) -> Iterator[str]:
    for path in files:
        if path in RESERVED:
            yield f"{path}: jobs write a file of this name"
        if re.search(r"[\x00-\x1f\\]", path):
            yield f"{path!r} is not a file name"
        for parent in PurePosixPath(path).parents:
            if str(parent) in files:
                yield f"{parent} is a file and a folder"


def _is_same(first: Path, second: Path) -> bool:
    return first == second or (first.exists() and second.exists() and first.samefile(second))
