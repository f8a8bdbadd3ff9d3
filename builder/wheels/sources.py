"""Sources of wheels: source distributions, folders, and git repositories at a commit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.builder.fetch.credentials import redact, without_credentials
from offline_bundle.wheelhouse.runtime.disk.files import file_digest, sha256_of
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.processes import find_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from offline_bundle.builder.fetch.credentials import Credentials
    from offline_bundle.builder.resolve.model import Artifact

# Not part of a source: caches and environments; at the top also output of earlier builds.
_IGNORED = {
    "__pycache__",
    ".venv",
    ".tox",
    ".nox",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "node_modules",
}
_IGNORED_AT_TOP = {"build", "dist"}


def copy_source(
    artifact: Artifact, sdist: Path | None, folder: Path, credentials: Credentials
) -> tuple[Path, str]:
    """Copy the source of *artifact* into *folder*; return its path and digest.

    *sdist* is the fetched source distribution. Raises FetchError (exit 4).
    """
    if artifact.kind == "git":
        identity = f"{without_credentials(artifact.location)}@{artifact.commit}"
        return _checkout(artifact, folder / "checkout", credentials), sha256_of(identity.encode())
    if artifact.kind == "directory":
        source = Path(artifact.location)
        return _copy_tree(source, folder / "source"), tree_digest(source)
    if sdist is None:
        raise AssertionError(artifact)
    # uv needs the name of an sdist; in the cache its name is its digest
    archive = folder / artifact.filename
    shutil.copyfile(sdist, archive)
    digest = file_digest(archive)
    if artifact.subdirectory is None:
        return archive, digest
    return _unpack(archive, folder / "unpacked"), digest


def tree_digest(folder: Path) -> str:
    """Return a digest of names, modes and bytes of a source folder's files, and of its git version.

    Version plugins read the version from git.
    """
    digest = hashlib.sha256(_git_version(folder))
    outside = dict(_links_outside(folder))
    for root in [folder, *(target for target in outside.values() if target.is_dir())]:
        for path in _walk(root):
            is_link = path.is_symlink() and path not in outside
            content = str(path.readlink()).encode() if is_link else path.read_bytes()
            entry = [
                path.relative_to(root).as_posix(),
                os.access(path, os.X_OK),
                sha256_of(content),
            ]
            digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _walk(root: Path) -> Iterator[Path]:
    """Yield all files of a source, sorted; links to folders are not followed."""
    for parent, folders, files in os.walk(root):
        ignored = _ignored(Path(parent), [*folders, *files], root)
        folders[:] = sorted(set(folders) - ignored - {".git"})
        for name in sorted(set(files) - ignored):
            yield Path(parent, name)


def _links_outside(source: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each link that leaves the source, with its target; a copy of it would be broken."""
    top = source.resolve()
    for parent, folders, files in os.walk(source):
        ignored = _ignored(Path(parent), [*folders, *files], source)
        folders[:] = [name for name in folders if name not in ignored and name != ".git"]
        for path in (Path(parent, name) for name in sorted({*folders, *files} - ignored)):
            target = path.resolve() if path.is_symlink() else top
            if target.exists() and not target.is_relative_to(top):
                yield path, target


def _unpack(archive: Path, folder: Path) -> Path:
    if archive.name.endswith(".zip"):
        shutil.unpack_archive(archive, folder)
    else:
        shutil.unpack_archive(archive, folder, filter="data")
    children = list(folder.iterdir())
    return children[0] if len(children) == 1 else folder


def _checkout(artifact: Artifact, folder: Path, credentials: Credentials) -> Path:
    """Check out the locked commit, with tags (for version plugins) and submodules, as uv does."""
    git = find_program("git")
    if git is None:
        raise FetchError(
            f"{artifact.name} is in a git repository, and git is not installed",
            hint="install git, or depend on a release of the package",
        )
    url = without_credentials(artifact.location)
    commands = [
        ["clone", "--quiet", "--no-checkout", url, str(folder)],
        ["-C", str(folder), "checkout", "--quiet", "--detach", artifact.commit or "HEAD"],
        ["-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive"],
    ]
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        **credentials.git_variables(os.environ, artifact.location),
    }
    for command in commands:
        process = subprocess.run(
            [git, *command],
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if process.returncode != 0:
            raise FetchError(
                f"{artifact.name}: {url} could not be read at {artifact.commit}",
                problems=redact(process.stderr, credentials).splitlines(),
                hint=f"try `git clone {url}`: it must work without a prompt",
            )
    return folder


def _copy_tree(source: Path, folder: Path) -> Path:
    """Copy a source to build in: the user's folder stays clean, and old `build/` folders unused."""

    def ignore(parent: str, names: list[str]) -> set[str]:
        return _ignored(Path(parent), names, source)

    try:
        shutil.copytree(source, folder, symlinks=True, ignore=ignore)
        for link, target in _links_outside(source):
            copy = folder / link.relative_to(source)
            copy.unlink()
            if target.is_dir():
                shutil.copytree(target, copy, symlinks=True)
            else:
                shutil.copy(target, copy)
    except (OSError, shutil.Error) as error:
        hint = "correct its path in the script's [tool.uv.sources]"
        raise FetchError(f"{source} cannot be read: {error}", hint=hint) from error
    return folder


def _ignored(parent: Path, names: Iterable[str], source: Path) -> set[str]:
    """Return the *names* in *parent* that are not part of the source."""
    # setuptools reads the egg-info of an unpacked sdist: it lists the package data
    is_sdist = (source / "PKG-INFO").is_file()
    ignored = {name for name in names if name in _IGNORED}
    ignored |= {name for name in names if name.endswith(".egg-info") and not is_sdist}
    if parent == source:
        packages = {name for name in names if (parent / name / "__init__.py").is_file()}
        ignored |= {name for name in names if name in _IGNORED_AT_TOP} - packages
    return ignored


def _git_version(folder: Path) -> bytes:
    git = find_program("git")
    if git is None:
        return b""
    command = [git, "-C", str(folder), "describe", "--always", "--tags", "--long"]
    return subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, check=False
    ).stdout
