"""Find the scripts of a build: files, folders and patterns.

A folder, or a quoted pattern such as 'studies/**/*.py', selects the scripts with metadata in it. A
file that is named must have metadata.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from offline_bundle.builder.inputs.notebooks import has_metadata_cell
from offline_bundle.builder.inputs.scripts import opens_block
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.names import MANIFEST
from offline_bundle.wheelhouse.runtime.text import printable

_SUFFIXES = (".py", ".ipynb")


@dataclass(frozen=True)
class Selection:
    """The scripts of a build."""

    scripts: tuple[Path, ...]
    skipped: tuple[Path, ...] = ()
    """Files of folders and patterns that have no metadata."""

    @property
    def notes(self) -> list[str]:
        """A message that lists the files without metadata."""
        names = ", ".join(printable(str(path)) for path in self.skipped)
        return [f"no metadata, left out: {names}"] if names else []


def find_scripts(arguments: Sequence[Path]) -> Selection:
    """Return the scripts that *arguments* name; raises InputError (exit 2) where one has none."""
    scripts: dict[str, Path] = {}
    skipped: dict[Path, None] = {}
    problems = []
    for argument in arguments:
        if not _is_search(argument):
            scripts.setdefault(os.path.abspath(argument), argument)  # noqa: PTH100 - links stay
            continue
        found = _candidates(argument)
        with_metadata = [path for path in found if has_metadata(path)]
        for path in with_metadata:
            scripts.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - links stay
        skipped |= dict.fromkeys(path for path in found if path not in with_metadata)
        if not with_metadata:
            problems.append(_nothing_in(argument, found))
    if problems:
        raise InputError(
            "no scripts with metadata (PEP 723)",
            problems=problems,
            hint="name a script, or add metadata to one: uv add --script SCRIPT PACKAGE",
        )
    return Selection(tuple(scripts.values()), tuple(skipped))


def has_metadata(path: Path) -> bool:
    """Return whether *path* opens a metadata block, or was meant to: then its errors are shown."""
    try:
        source = path.read_bytes()
    except OSError:
        return True
    if path.suffix == ".ipynb":
        return has_metadata_cell(source)
    return opens_block(source)


def _is_search(argument: Path) -> bool:
    is_pattern = any(character in str(argument) for character in "*?[")
    return argument.is_dir() or (is_pattern and not argument.exists())


def _candidates(argument: Path) -> list[Path]:
    """Return the scripts and notebooks of a folder, or those that match a pattern, sorted."""
    if argument.is_dir():
        if (argument / MANIFEST).is_file():
            raise InputError(
                f"{printable(str(argument))} is a bundle",
                hint="name scripts, and the bundle with -o; `offline-bundle show` lists what is "
                "in a bundle",
            )
        paths = argument.iterdir()
    else:
        anchor = Path(argument.anchor)
        paths = anchor.glob(str(argument.relative_to(anchor)))
    return sorted(path for path in paths if path.suffix in _SUFFIXES and path.is_file())


def _nothing_in(argument: Path, found: Sequence[Path]) -> str:
    label = printable(str(argument))
    if not found:
        return f"{label}: no *.py or *.ipynb file"
    names = ", ".join(printable(path.name) for path in found)
    return f"{label}: none of these files has metadata: {names}"
