"""Unpacking interpreters: real archives are extracted as they are, hostile ones are refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

from offline_bundle.wheelhouse.runtime.launcher.prepare import python_archive
from offline_bundle.wheelhouse.runtime.launcher.prepare.python_archive import unpack
from tests.support.interpreters import python_mirror
from tests.support.machine import pyenv_interpreter
from tests.support.python_archive_cases import folder

__all__ = ["folder"]


def test_a_real_archive_comes_out_as_it_was(folder: Path) -> None:
    path = python_mirror().archive
    unpack(path.read_bytes(), str(folder))
    with tarfile.open(path) as tar:
        for info in tar:
            place = folder / info.name
            if info.issym():
                assert place.readlink().as_posix() == info.linkname
            elif info.isreg():
                content = tar.extractfile(info)
                assert content is not None
                assert place.read_bytes() == content.read()
                assert bool(place.stat().st_mode & 0o100) == bool(info.mode & 0o111)


def test_it_runs_on_the_oldest_python_of_nodes(folder: Path) -> None:
    import subprocess

    code = (
        "import sys; from runtime.launcher.prepare.python_archive import unpack; "
        "unpack(open(sys.argv[1], 'rb').read(), sys.argv[2])"
    )
    beside = Path(python_archive.__file__).parents[3]
    command = [pyenv_interpreter("3.9"), "-c", code, str(python_mirror().archive), str(folder)]
    subprocess.run(command, cwd=beside, check=True, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert (folder / "python/bin/python3").is_symlink()
