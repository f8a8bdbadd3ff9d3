"""The bundle as one file that travels with a project, for sites whose nodes share no file system."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.transport.archive import pack

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVE_NAME = "offline-bundle.tar"
"""Name of the archive in a task's directory, where the execution script looks for it."""

UNPACKER_NAME = "offline-bundle-unpack.py"
"""Name of the script that checks and unpacks it there."""


@contextlib.contextmanager
def packed(bundle: Path) -> Iterator[Path]:
    """Have the bundle as an archive for as long as it takes to upload it. Raises `BundleError`."""
    if not (bundle / "bundle.json").is_file():
        hint = "name the folder that `build-offline-bundle -o DIR` made"
        raise InputError(f"{bundle} is not a bundle: it has no bundle.json", hint=hint)
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        archive = Path(folder) / ARCHIVE_NAME
        pack(bundle, archive)
        yield archive
