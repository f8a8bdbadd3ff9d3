"""A project in a local folder: a copy that its build backend sees as the original, and a digest.

The user's folder stays as it is. A backend may read more than the project: a file beside or above
it, what links lead to, the repository's version, or other members of a workspace.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from offline_bundle.builder.resolve.settings.uv_files import workspace_root
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.processes import find_program

# In the copy these are links to the originals, as are virtual environments.
_LINKED = {".git", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".tox", "node_modules"}
# setuptools' folders of an earlier build: it would take removed modules from them.
_BUILD_OUTPUT = re.compile(r"lib|lib\..*|temp\..*|bdist\..*")
_DIST_OUTPUT = re.compile(r".*\.(whl|tar\.gz|zip)|\.gitignore")
# Files of a project that may name paths outside it.
_BUILD_FILES = ("pyproject.toml", "setup.cfg", "setup.py", "MANIFEST.in")
_OUTSIDE = re.compile(rb"\.\./[^\s\"'`,;()\[\]{}]+")


def copy_project(source: Path, folder: Path) -> Path:
    """Copy the project in *source* below *folder*, at the same depth; return the copy.

    Tracked files of the repository around it are copied too, because version plugins ask git
    whether they changed. All else around it is linked. Raises FetchError (exit 4).
    """
    source = source.resolve()
    copy = folder / source.relative_to(source.anchor)
    try:
        shutil.copytree(source, copy, symlinks=True, ignore=_ignored(source))
        for parent, _, _ in os.walk(copy):
            Path(parent).chmod(0o700)  # the original may be read-only
        for path in _tracked_around(source):
            target = folder / path.relative_to(path.anchor)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
    except (OSError, shutil.Error) as error:
        hint = "correct its path in the script's [tool.uv.sources]"
        raise FetchError(f"{source} cannot be read: {error}", hint=hint) from error
    _link_rest(folder, source)
    return copy


def project_digest(source: Path) -> str:
    """Return a digest of all that decides the wheel of the project in *source*.

    That is names, modes and bytes of its files, also behind links, its version in git, and the
    files and folders outside it that its build files name.
    """
    digest = hashlib.sha256(_git_version(source))
    outside = list(_outside(source.resolve()))
    for root in (source.resolve(), *outside):
        for path in _walk(root) if root.is_dir() else [root]:
            is_text = path.is_symlink() and (path.resolve() in outside or not path.is_file())
            content = os.fsencode(path.readlink()) if is_text else path.read_bytes()
            entry = [str(path.relative_to(root)), os.access(path, os.X_OK), sha256_of(content)]
            digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _ignored(source: Path) -> Callable[[str, list[str]], set[str]]:
    """Return the filter of `copytree`."""

    def ignored(parent: str, names: list[str]) -> set[str]:
        paths = [Path(parent, name) for name in names]
        return {
            path.name
            for path in paths
            if _is_linked(path) or not _is_readable(path) or _is_build_output(path, source)
        }

    return ignored


def _is_readable(path: Path) -> bool:
    """Return True for links, folders and files; False for sockets, pipes and files of others."""
    return path.is_symlink() or path.is_dir() or (path.is_file() and os.access(path, os.R_OK))


def _is_linked(path: Path) -> bool:
    return path.name in _LINKED or (path / "pyvenv.cfg").exists()


def _is_build_output(path: Path, source: Path) -> bool:
    is_in_build = path.parent == source / "build" and not (path.parent / "__init__.py").exists()
    return is_in_build and _BUILD_OUTPUT.fullmatch(path.name) is not None


def _tracked_around(source: Path) -> Iterator[Path]:
    """Yield the tracked files of the repository with *source*, but not those in *source*."""
    repository = next((path for path in source.parents if (path / ".git").exists()), None)
    if repository is None or (source / ".git").exists():
        return
    for name in _git(repository, "ls-files", "-z").split(b"\0"):
        path = repository / os.fsdecode(name)
        if name and not path.is_relative_to(source) and (path.is_file() or path.is_symlink()):
            yield path


def _link_rest(folder: Path, source: Path) -> None:
    """Link what the folders of the copy do not have yet, up to the root of the file system."""
    for parent, folders, files in os.walk(folder):
        original = Path(source.anchor, Path(parent).relative_to(folder))
        with suppress(OSError):  # not readable, or a system without links
            for path in original.iterdir():
                if path.name not in {*folders, *files} and not _is_build_output(path, source):
                    Path(parent, path.name).symlink_to(path)


def _outside(source: Path) -> Iterator[Path]:
    """Yield files and folders outside *source* that links or its build files lead to."""
    targets = [path.resolve() for path in _walk(source) if path.is_symlink()]
    for name in _BUILD_FILES:
        text = (source / name).read_bytes() if (source / name).is_file() else b""
        targets += [(source / os.fsdecode(path)).resolve() for path in _OUTSIDE.findall(text)]
        if re.search(rb"workspace\s*=\s*true", text):
            targets.append(workspace_root(source) or source)
    for target in sorted(set(targets)):
        if _is_readable(target) and not target.is_relative_to(source):
            yield target


def _walk(root: Path) -> Iterator[Path]:
    """Yield the files and links of a project that decide its wheel, sorted."""
    for parent, folders, files in os.walk(root):
        paths = [Path(parent, name) for name in sorted([*folders, *files])]
        paths = [path for path in paths if not _is_derived(path, root)]
        folders[:] = [path.name for path in paths if path.name in folders]
        files_and_links = (path for path in paths if path.is_symlink() or not path.is_dir())
        yield from filter(_is_readable, files_and_links)


def _is_derived(path: Path, root: Path) -> bool:
    """Return True for what follows from the project: caches, environments, earlier builds."""
    if path.parent.suffix == ".egg-info":
        return path.name != "SOURCES.txt"  # setuptools reads which data files to take
    if path.parent == root / "dist" and _DIST_OUTPUT.fullmatch(path.name):
        return True
    # below the top, a package may contain such folders as data
    is_linked = path.name == ".git" or (path.parent == root and _is_linked(path))
    return path.name == "__pycache__" or is_linked or _is_build_output(path, root)


def _git_version(folder: Path) -> bytes:
    """Return what version plugins read from git."""
    return _git(folder, "describe", "--always", "--tags", "--long", "--dirty")


def _git(folder: Path, *words: str) -> bytes:
    """Return the output of a git command, or nothing."""
    git = find_program("git")
    if git is None:
        return b""
    return subprocess.run(
        [git, "-C", str(folder), *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        check=False,
    ).stdout
