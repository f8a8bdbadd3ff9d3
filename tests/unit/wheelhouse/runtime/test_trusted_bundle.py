"""Files of a bundle as a node reads them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError
from offline_bundle.wheelhouse.runtime.launcher.request import Request
from offline_bundle.wheelhouse.runtime.launcher.trusted_bundle import open_bundle
from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "missing"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    """Opening a fifo would wait for a writer, for ever."""
    folder = make_bundle(tmp_path / "b", {"eval": BundleScript()})
    bundle = open_bundle(str(folder))
    [lock] = bundle.manifest.scripts["eval"].locks.values()
    path = folder / lock.lock
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))
        (tmp_path / "s").rename(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    expected = "is missing" if kind == "missing" else "is not a regular file"
    for use in (bundle.read, lambda name: bundle.copy(name, str(tmp_path / "copy"))):
        with pytest.raises(IntegrityError, match=f"{lock.lock} {expected}"):
            use(lock.lock)
    assert not (tmp_path / "copy").exists()


def test_a_fifo_in_the_place_of_a_script_of_the_bundle_is_not_waited_for(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b", {"eval": BundleScript()})
    (folder / "scripts/eval.py").unlink()
    os.mkfifo(folder / "scripts/eval.py")
    script = tmp_path / "eval.py"
    script.write_text("print(1)\n")
    with pytest.raises(InputError, match="has no inline metadata"):
        Request(str(script), str(folder), None, 0)
