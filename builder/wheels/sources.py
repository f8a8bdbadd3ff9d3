"""Sources of wheels: source distributions, folders, and git repositories at a commit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from offline_bundle.builder.fetch.credentials import Credentials, redact
from offline_bundle.builder.resolve.model import Artifact
from offline_bundle.builder.wheels.local_source import copy_project, project_digest
from offline_bundle.wheelhouse.runtime.disk.files import file_digest, sha256_of
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.processes import find_program, run_captured
from offline_bundle.wheelhouse.runtime.text import without_logins


def source_digest(artifact: Artifact, sdist: Path | None, *, with_lfs: bool) -> str:
    """Return a digest of all in the source of *artifact* that decides its wheel.

    *sdist* is the fetched source distribution; *with_lfs* fetches the files of Git LFS.
    """
    if artifact.kind == "git":
        identity = f"{without_logins(artifact.location)}@{artifact.commit}"
        return sha256_of((identity + "#lfs" * with_lfs).encode())
    if artifact.kind == "directory":
        return project_digest(Path(artifact.location))
    if sdist is None:
        raise AssertionError(artifact)
    return file_digest(sdist)


def copy_source(
    artifact: Artifact,
    sdist: Path | None,
    folder: Path,
    credentials: Credentials,
    *,
    with_lfs: bool = False,
) -> Path:
    """Copy the source of *artifact*, or its *sdist*, into *folder*; return the path.

    Raises FetchError (exit 4).
    """
    if artifact.kind == "git":
        return _checkout(artifact, folder / "checkout", credentials, with_lfs=with_lfs)
    if artifact.kind == "directory":
        return copy_project(Path(artifact.location), folder / "root")
    if sdist is None:
        raise AssertionError(artifact)
    # uv needs the name of an sdist; in the cache its name is its digest
    archive = folder / artifact.filename
    shutil.copyfile(sdist, archive)
    return archive if artifact.subdirectory is None else _unpack(archive, folder / "unpacked")


def _unpack(archive: Path, folder: Path) -> Path:
    if archive.name.endswith(".zip"):
        shutil.unpack_archive(archive, folder)
    else:
        shutil.unpack_archive(archive, folder, filter="data")
    children = list(folder.iterdir())
    return children[0] if len(children) == 1 else folder


def _checkout(
    artifact: Artifact, folder: Path, credentials: Credentials, *, with_lfs: bool
) -> Path:
    """Check out the locked commit, with tags (for version plugins) and submodules, as uv does."""
    git = find_program("git")
    if git is None:
        raise FetchError(
            f"{artifact.name} is in a git repository, and git is not installed",
            hint="install git, or depend on a release of the package",
        )
    url = without_logins(artifact.location)
    commands = [
        ["clone", "--quiet", "--no-checkout", "--", url, str(folder)],
        ["-C", str(folder), "checkout", "--quiet", "--detach", artifact.commit or "HEAD"],
        ["-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive"],
    ]
    if with_lfs:
        commands += [
            ["-C", str(folder), "lfs", *words] for words in (["install", "--local"], ["pull"])
        ]
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        # whatever the configuration of git: uv fetches these files only on request
        "GIT_LFS_SKIP_SMUDGE": "1",
        **credentials.git_variables(os.environ, artifact.location),
    }
    for command in commands:
        process = run_captured([git, *command], variables=environment)
        if process.returncode != 0:
            raise _git_error(artifact, process.stderr, credentials)
    return folder


def _git_error(artifact: Artifact, text: str, credentials: Credentials) -> FetchError:
    """Return the error for a git command that failed with *text*."""
    if "'lfs' is not a git command" in text:
        message = f"{artifact.name}: its repository uses Git LFS, which is not installed"
        return FetchError(message, hint="install git-lfs")
    url = without_logins(artifact.location)
    return FetchError(
        f"{artifact.name}: {url} could not be read at {artifact.commit}",
        problems=redact(text, credentials).splitlines(),
        hint=f"try `git clone {url}`: it must work without a prompt",
    )
