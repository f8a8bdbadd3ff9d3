"""Upload the bundle with a project, for sites whose nodes share no file system."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.names import MANIFEST
from offline_bundle.wheelhouse.transport.pack import pack

ARCHIVE_NAME = "offline-bundle.tar"
"""The archive in a task's directory, where the execution script looks for it."""

UNPACKER_NAME = "offline-bundle-unpack.py"
"""The program in a task's directory that verifies and unpacks the archive."""


@contextlib.contextmanager
def packed_bundle(bundle: Path) -> Iterator[Path]:
    """Pack the bundle into a temporary archive. Raises `BundleError`."""
    check_is_bundle(bundle)
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        archive = Path(folder) / ARCHIVE_NAME
        pack(bundle, archive)
        yield archive


def check_is_bundle(bundle: Path) -> None:
    """Raise `InputError` unless *bundle* has a manifest."""
    if not (bundle / MANIFEST).is_file():
        hint = "name the folder that `build-offline-bundle -o DIR` wrote"
        raise InputError(f"{bundle} is not a bundle: it has no {MANIFEST}", hint=hint)
