"""Files of a bundle that a submission uses, checked where the site requires signatures.

The launcher checks scripts that it starts from a bundle. Jobs get copies of their files, which it
cannot distinguish from files of the user. So these are checked when they are submitted.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from offline_bundle.runner.job_files.inputs import InputFile
from offline_bundle.wheelhouse.runtime.bundle.policy import may_be_in_force
from offline_bundle.wheelhouse.runtime.launcher.trusted_bundle import (
    TrustedBundle,
    name_in_bundle,
    open_bundle,
)


def check_inputs(files: Sequence[InputFile], bundle: Path) -> tuple[InputFile, ...]:
    """Return *files*, under a policy with checked copies of those that are in *bundle*.

    Raises SignatureError (exit 6) and IntegrityError (exit 5).
    """
    if not may_be_in_force():
        return tuple(files)
    opened = open_bundle(str(bundle))
    names = [name_in_bundle(str(file.source), str(bundle)) for file in files]
    return tuple(
        replace(file, source=checked_copy(opened, name)) if name else file
        for file, name in zip(files, names, strict=True)
    )


def checked_copy(bundle: TrustedBundle, name: str) -> Path:
    """Return a copy of a file of the bundle: that may be another one when it is read again.

    It is removed when this program ends. Raises IntegrityError.
    """
    folder = Path(tempfile.mkdtemp(prefix="offline-bundle-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / Path(name).name
    listed = bundle.manifest.files.get(name)
    bundle.copy(name, str(copy), mode=0o700 if listed and listed.executable else 0o600)
    return copy
